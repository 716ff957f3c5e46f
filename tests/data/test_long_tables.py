"""A row for each photo and label: joined where the rows agree, refused by their rows where they don't."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import held, write

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_rows_of_one_photo_are_joined(tmp_path, suffix):
    frame = pl.DataFrame({"image": ["a", "b", "a", "c", "b"], "label": ["red", "blue", "dress", "red", "blue"]})
    path = tmp_path / f"a{suffix}"
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[suffix](path)
    manifest = Manifest.read(path)
    assert held(manifest) == {"a": {"red", "dress"}, "b": {"blue"}, "c": {"red"}}
    assert not manifest.label_set.exclusive
    np.testing.assert_array_equal(manifest.targets.min(axis=0), 0)  # what no row of a photo names doesn't hold
    told = " ".join(manifest.notes)
    assert "taken for a list" in told and "2 further rows" in told and "3 photos" in told
    assert held(Manifest.read(path, strict=False)) == held(manifest)


@given(pairs=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["x", "y", "z"])), min_size=3, max_size=20))
def test_joined_rows_hold_what_their_photos_have(tmp_path_factory, pairs):
    path = write(tmp_path_factory.mktemp("t"), "a.csv", "image,tags\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    expected = {photo: {word for one, word in pairs if one == photo} for photo, _ in pairs}
    assert held(Manifest.read(path)) == expected


def test_a_few_photos_with_two_categories_are_no_long_table(tmp_path):
    rows = "".join(f"{k}.jpg,{'dress' if k % 2 else 'coat'}\n" for k in range(30))
    with pytest.raises(ManifestError, match=r"to agree, but got '0\.jpg' in row 2 and row 32"):
        Manifest.read(write(tmp_path, "a.csv", f"image,class\n{rows}0.jpg,dress\n"))


@pytest.mark.parametrize(
    ("header", "first", "second", "agree"),
    [
        ("red,blue", "1,", ",0", True),
        ("red,blue", "1,0", "1,0", True),
        ("red,blue", "1,0", "0,0", False),
        ("red,split", "1,train", "1,train", True),
        ("red,split", "1,train", "1,test", False),
        ("red,product", "1,p", "1,q", False),
        ("red,fold", "1,2", "1,3", False),
    ],
)
def test_rows_that_contradict_each_other_are_refused(tmp_path, header, first, second, agree):
    others = "".join(
        f"{k}.jpg,{k % 2}," + {"split": "val", "product": "x", "fold": "4", "blue": "1"}[header[4:]] + "\n"
        for k in range(4)
    )
    path = write(tmp_path, "a.csv", f"image,{header}\na.jpg,{first}\n{others}a.jpg,{second}\n")
    if agree:
        assert len(Manifest.read(path)) == 5
        return
    with pytest.raises(ManifestError, match=r"got 'a\.jpg' in row 2 and row 7, which don't"):
        Manifest.read(path)
    assert len(Manifest.read(path, strict=False)) == 6  # for check, which names them


def test_two_columns_of_categories_stay_exclusive(tmp_path):
    path = write(tmp_path, "a.csv", "image,kind,colour\na,dress,red\na,dress,red\nb,coat,red\nb,coat,blue\n")
    config = DataConfig(label_columns=("kind", "colour"))
    with pytest.raises(ManifestError, match="got 'b' in row 4 and row 5"):
        Manifest.read(path, config)
