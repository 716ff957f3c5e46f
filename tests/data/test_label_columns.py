"""Label columns: one-hot, category, list; in a set of their own or mapped into a given one."""

import numpy as np
import pytest

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.errors import LabelError, ManifestError
from modiste.labels import UNKNOWN, Group, Label, LabelSet


def read(tmp_path, text, name="a.csv", labels=None, **config):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return Manifest.read(path, DataConfig(**config), labels)


STYLES = LabelSet(
    "styles",
    (
        Group("class", (Label("coat", {"zh": "大衣"}), Label("dress")), exclusive=True),
        Group("style", (Label("casual", {"zh": "休闲"}), Label("sports"), Label("street"))),
    ),
)


def test_one_hot_columns_are_found_among_others(tmp_path):
    text = "File,year,red,note,blue,empty\nx.jpg,2018,1,hi,True,\ny.jpg,2019,,ho,false,\nz.jpg,2019,0.0,,1.0,\n"
    manifest = read(tmp_path, text)
    assert manifest.label_set.ids == ("red", "blue")
    assert [(group.name, group.exclusive) for group in manifest.label_set.groups] == [("labels", False)]
    np.testing.assert_array_equal(manifest.targets, [[1, 1], [UNKNOWN, 0], [0, 1]])
    assert manifest.targets.dtype == np.int8
    assert manifest.frame.columns == ["id", "path", "year", "note", "empty"]
    assert manifest.photo(2) == tmp_path / "z.jpg"
    np.testing.assert_allclose(manifest.prevalence, [0.5, 2 / 3])


def test_category_columns_are_exclusive_groups_and_blank_is_unknown(tmp_path):
    text = "image,class,colour\na,Top,red\nb,Hat,\nc,Top,blue\n"
    manifest = read(tmp_path, text, label_columns=("class", "colour"))
    assert manifest.label_set.ids == ("class=Hat", "class=Top", "colour=blue", "colour=red")
    assert list(manifest.label_set.exclusive) == ["class", "colour"]
    np.testing.assert_array_equal(manifest.targets, [[0, 1, 0, 1], [1, 0, -1, -1], [0, 1, 1, 0]])
    alone = read(tmp_path, text)
    assert alone.label_set.ids == ("Hat", "Top")
    assert "colour" in alone.frame.columns


def test_an_id_wins_over_the_name_of_another_label(tmp_path):
    labels = LabelSet("odd", (Group("g", (Label("a", {"en": "b"}), Label("b", {"en": "c"}), Label("d", {"en": "c"}))),))
    manifest = read(tmp_path, "image,labels\nx,b\ny,c\nz,a\n", labels=labels)
    np.testing.assert_array_equal(manifest.targets, [[0, 1, 0], [0, 1, 0], [1, 0, 0]])


def test_columns_of_one_group_do_not_take_back_what_another_says(tmp_path):
    text = "image,labels,tags\nx,casual,sports\ny,street,casual\nz,,street\n"
    manifest = read(tmp_path, text, labels=STYLES, label_columns=("labels", "tags"))
    np.testing.assert_array_equal(manifest.targets[:, 2:], [[1, 1, 0], [1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    ("column", "cells", "delimiter"),
    [
        ("labels", ["red, round", "red", ""], None),
        ("tags", ["red;round", "red;", ""], None),
        ("attributes", ["red|round", " red", " "], None),
        ("styles", ["red round", "red  ", ""], None),
        ("label", ["red;round", "red", ""], ";"),
        ("tag", ["red round", "red", ""], " "),
    ],
)
def test_list_columns_are_free_groups(tmp_path, column, cells, delimiter):
    rows = "".join(f'{k}.jpg,"{cell}"\n' for k, cell in enumerate(cells))
    manifest = read(tmp_path, f"image,{column}\n{rows}", delimiter=delimiter)
    assert manifest.label_set.groups == (Group(column, (Label("red"), Label("round"))),)
    np.testing.assert_array_equal(manifest.targets, [[1, 1], [1, 0], [-1, -1]])


def test_lists_of_jsonl(tmp_path):
    text = '{"image":"a","tags":["x, y","z"]}\n{"image":"b","tags":[]}\n{"image":"c","tags":null}\n{"image":"d"}\n'
    manifest = read(tmp_path, text, "a.jsonl")
    assert manifest.label_set.ids == ("x, y", "z")
    np.testing.assert_array_equal(manifest.targets, [[1, 1], [0, 0], [-1, -1], [-1, -1]])


def test_class_numbers_are_a_category(tmp_path):
    manifest = read(tmp_path, "image,label\na,0\nb,1\nc,2\nd,9\n")
    assert manifest.label_set.ids == ("0", "1", "2", "9")
    assert "label" in manifest.label_set.exclusive


def test_one_hot_category_and_list_together(tmp_path):
    text = "image,kids,class,tags\na,1,Top,x|y\nb,0,Hat,x\n"
    manifest = read(tmp_path, text)
    assert manifest.label_set.ids == ("kids", "class=Hat", "class=Top", "tags=x", "tags=y")
    np.testing.assert_array_equal(manifest.targets, [[1, 0, 1, 1, 1], [0, 1, 0, 1, 0]])


def test_values_columns_and_display_names_map_into_a_given_set(tmp_path):
    one_hot = read(tmp_path, "image,street,休闲\na,1,\nb,0,1\n", labels=STYLES)
    np.testing.assert_array_equal(one_hot.targets, [[-1, -1, -1, -1, 1], [-1, -1, 1, -1, 0]])
    words = read(tmp_path, "image,class,styles\na,大衣,sports|休闲\nb,dress,\nc,,street\n", labels=STYLES)
    assert words.label_set is STYLES
    np.testing.assert_array_equal(words.targets, [[1, 0, 1, 1, 0], [0, 1, -1, -1, -1], [-1, -1, 0, 0, 1]])


def test_one_list_column_speaks_for_every_group_it_names(tmp_path):
    manifest = read(tmp_path, "image,tags\na,coat|sports\nb,street\n", labels=STYLES)
    np.testing.assert_array_equal(manifest.targets, [[1, 0, 0, 1, 0], [-1, -1, 0, 0, 1]])


def test_a_manifest_without_labels_is_unknown_in_a_given_set(tmp_path):
    assert (read(tmp_path, "image\na\nb\n", labels=STYLES).targets == UNKNOWN).all()
    with pytest.raises(ManifestError, match=r"label columns in .*a.csv, but got only 'image'. Try adding a column"):
        read(tmp_path, "image\na\nb\n")


def test_label_set_of_the_options(tmp_path):
    STYLES.write(tmp_path / "styles.json")
    manifest = read(tmp_path, "image,sports\na,1\n", label_set=str(tmp_path / "styles.json"))
    assert manifest.label_set == STYLES
    np.testing.assert_array_equal(manifest.targets, [[-1, -1, -1, 1, -1]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "image,purple\na,1\nb,0\n",
            "each label column of .*a.csv to be one of 'coat', .*, but got 'purple'",
        ),
        (
            "image,class\na,coat\nb,caot\n",
            "'class' in row 3 of .* to be one of 'coat', 'dress'.*, but got 'caot'. Try --rename caot=coat, or",
        ),
        (
            "image,tags\na,street|sport\n",
            "'tags' in row 2 of .* but got 'sport'. Try --rename sport=sports, or",
        ),
    ],
)
def test_labels_outside_a_given_set_are_refused(tmp_path, text, words):
    with pytest.raises(LabelError, match=words):
        read(tmp_path, text, labels=STYLES)


def test_two_labels_of_an_exclusive_group_are_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"row 3 of .* one label of 'class', but got 'coat', 'dress'"):
        read(tmp_path, "image,coat,dress\na,0,1\nb,1,1\n", labels=STYLES)


def test_other_columns_are_ignored(tmp_path):
    manifest = read(tmp_path, "image,red,year,kind\na,1,2018,Top\nb,0,1,Hat\nc,0,2020,Hat\n")
    assert manifest.label_set.ids == ("red",)
