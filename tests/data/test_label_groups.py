"""--labels with the name of a group, in tables whose labels have a column each."""

import numpy as np
import pytest

from modiste.config import DataConfig
from modiste.data.label_groups import renamed
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError
from modiste.labels import Group, Label, LabelSet

ROWS = "image,garment,colour,kids\na,coat,red,1\nb,dress,,0\nc,coat,blue,\n"


def chosen(path, *columns, **config):
    return Manifest.read(path, DataConfig(label_columns=columns, **config))


@pytest.fixture
def written(tmp_path):
    """A manifest that modiste wrote, and the one that it was made of."""
    (tmp_path / "shop.csv").write_text(ROWS)

    def write(*columns, **config):
        manifest = chosen(tmp_path / "shop.csv", *columns, **config)
        manifest.write(tmp_path / "clean.csv")
        return tmp_path / "clean.csv", manifest

    return write


def test_the_same_columns_choose_the_same_labels_in_what_was_written(written):
    for columns in (("garment",), ("garment", "colour"), ("garment", "kids")):
        path, before = written(*columns)
        again = chosen(path, *columns)
        assert [(g.name, g.exclusive, g.labels) for g in again.label_set.groups] == [
            (g.name, g.exclusive, g.labels) for g in before.label_set.groups
        ]
        np.testing.assert_array_equal(again.targets, before.targets)


def test_one_of_several_groups_stays_exclusive_and_the_others_are_no_labels(written):
    path, _ = written("garment", "colour")
    manifest = chosen(path, "colour")
    assert manifest.label_set.groups == (Group("colour", (Label("colour=blue"), Label("colour=red")), exclusive=True),)
    np.testing.assert_array_equal(manifest.targets, [[0, 1], [-1, -1], [1, 0]])
    assert {"garment=coat", "garment=dress"} <= set(manifest.frame.columns)


def test_single_labels_beside_a_group_are_free(written):
    path, _ = written("garment", "colour")
    manifest = chosen(path, "garment", "colour=red")
    assert [(g.name, g.exclusive, len(g.labels)) for g in manifest.label_set.groups] == [
        ("garment", True, 2),
        ("colour", False, 1),
    ]
    assert chosen(path, "garment=coat", "colour=red").label_set.groups[0].name == "labels"  # columns as of any table


def test_columns_without_a_label_set_beside_them_are_found_by_their_prefix(written, tmp_path):
    path, before = written("garment", "colour")
    (tmp_path / "clean.labels.json").unlink()
    manifest = chosen(path, "garment")
    assert manifest.label_set.ids == ("garment=coat", "garment=dress")
    np.testing.assert_array_equal(manifest.targets, before.targets[:, :2])


def test_other_names_are_refused_with_the_groups_that_there_are(written):
    path, _ = written("garment")
    for name in ("garmnt", "colour"):  # a column of words beside a group
        with pytest.raises(ManifestError, match=rf"got '{name}'. Try --labels garment, or without it"):
            chosen(path, "garment", name)
    assert len(chosen(path, "garment")) == len(Manifest.read(path)) == 3  # as advised


def test_options_that_name_columns_hold_for_what_was_written(tmp_path):
    (tmp_path / "shop.csv").write_text("bild,garment,teil,artikel\na,coat,train,p\nb,coat,val,p\n")
    columns = {"image_column": "bild", "split_column": "teil", "group_column": "artikel"}
    before = chosen(tmp_path / "shop.csv", "garment", **columns)
    before.write(tmp_path / "clean.csv")
    again = chosen(tmp_path / "clean.csv", "garment", **columns)
    assert again.frame.equals(before.frame)
    with pytest.raises(ManifestError, match="column 'falten'"):
        chosen(tmp_path / "clean.csv", "garment", fold_column="falten")


def test_renames_hold_for_what_was_written(written):
    path, _ = written("garment")
    manifest = chosen(path, "garment", rename=(("dress", "gown"),))
    assert manifest.label_set.ids == ("coat", "gown")
    np.testing.assert_array_equal(manifest.targets, [[1, 0], [0, 1], [1, 0]])
    path, before = written("garment", rename=(("dress", "coat"),))
    assert before.label_set.ids == ("coat",)
    assert chosen(path, "garment", rename=(("dress", "coat"),)).label_set.ids == ("coat",)  # the same line again


def test_a_renamed_set_keeps_each_label_once():
    ids = [Group("a", (Label("x"), Label("y")), True), Group("b", (Label("z"), Label("w")))]
    made = renamed(LabelSet("s", tuple(ids)), {"x": "y", "z": "new", "w": "new"})
    assert [(g.name, [label.id for label in g.labels]) for g in made.groups] == [("a", ["y"]), ("b", ["new"])]
    assert made.groups[0].exclusive
