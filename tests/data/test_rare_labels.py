"""Labels with too few training photos are left out, and nothing is forgotten of their photos."""

import numpy as np
import pytest
from tables import held, write

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.data.rare_labels import frequent_labels, left_out
from modiste.errors import ManifestError


def catalogue(tmp_path, *, splits=True):
    """40 photos: kinds dress (20), coat (15), cape (5); a list of tags of which 'rare' is on 2."""
    kinds = ["dress"] * 20 + ["coat"] * 15 + ["cape"] * 5
    rows = [
        f"{k}.jpg,{kind},{'red|rare' if k in (1, 2) else 'red' if k % 2 else 'blue'}" for k, kind in enumerate(kinds)
    ]
    if splits:
        rows = [f"{row},{'test' if k in (0, 21) else 'train'}" for k, row in enumerate(rows)]
    text = "image,kind,tags" + (",split" if splits else "") + "\n" + "\n".join(rows) + "\n"
    return Manifest.read(write(tmp_path, "a.csv", text), DataConfig(label_columns=("kind", "tags")))


def test_rare_labels_are_left_out_and_their_photos_have_none_of_the_others(tmp_path):
    manifest = catalogue(tmp_path)
    found = frequent_labels(manifest, 10)
    assert found.left_out == {"kind=cape": 5, "tags=rare": 2}
    assert found.manifest.label_set.ids == ("kind=coat", "kind=dress", "tags=blue", "tags=red")
    kinds = found.manifest.targets[:, :2]
    np.testing.assert_array_equal(kinds[35:], 0)  # known to be neither, not unknown
    np.testing.assert_array_equal(found.manifest.targets[:35], np.delete(manifest.targets[:35], [0, 4], axis=1))
    assert left_out(found.manifest) == {"kind=cape", "tags=rare"}
    assert found.manifest.frame["left_out"].to_list()[36] == "kind=cape"
    assert any("kind=cape 5, tags=rare 2" in note and "--min-positives" in note for note in found.notes())


def test_labels_that_a_split_lacks_are_trained_and_named(tmp_path):
    found = frequent_labels(catalogue(tmp_path), 1)
    assert not found.left_out
    assert found.unmeasured == {"test": ["kind=cape", "tags=rare"]}
    assert found.notes() == ["No test photo has kind=cape, tags=rare: trained, but not measured there."]


def test_one_value_that_is_left_is_no_choice(tmp_path):
    found = frequent_labels(catalogue(tmp_path), 19)
    assert found.manifest.label_set.ids == ("kind=dress", "tags=red")
    assert not found.manifest.label_set.exclusive


def test_where_no_label_is_left_it_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"with 99 training photos, but got 20 at most. Try --min-positives 1"):
        frequent_labels(catalogue(tmp_path), 99)


def test_in_folds_all_photos_count_and_no_fold_may_hold_all_of_a_label(tmp_path):
    manifest = catalogue(tmp_path, splits=False)
    folds = np.arange(40) % 4
    folds[[1, 2]] = 1  # both photos of 'rare' in one fold
    found = frequent_labels(manifest.with_column("fold", folds.tolist()), 1, folds=True)
    assert found.left_out == {"tags=rare": 0}
    assert found.manifest.with_fold(1).label_set.ids == found.manifest.label_set.ids


def test_other_photos_may_have_labels_that_are_left_out(tmp_path):
    manifest = catalogue(tmp_path)
    kept = frequent_labels(manifest, 10).manifest
    config = DataConfig(label_columns=("kind", "tags"))
    path = write(tmp_path, "b.csv", "image,kind,tags\na,cape,blue\nb,coat,rare|red\nc,,rare\n")
    again = Manifest.read(path, config, kept.label_set, left_out=left_out(kept))
    assert held(again) == {"a": {"tags=blue"}, "b": {"kind=coat", "tags=red"}, "c": set()}
    np.testing.assert_array_equal(again.targets[0, :2], 0)
    assert (again.targets[2, :2] == -1).all() and (again.targets[2, 2:] == 0).all()
