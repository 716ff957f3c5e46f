"""Manifests in every shape: what is read, what is refused, what a round trip keeps, how splits are made."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError
from modiste.labels import UNKNOWN, Group, Label, LabelSet


def read(tmp_path, text, name="a.csv", labels=None, **config):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return Manifest.read(path, DataConfig(**config), labels)


def assert_equal(one, other):
    assert one.label_set == other.label_set
    assert one.frame.equals(other.frame)
    assert one.frame.schema == other.frame.schema
    np.testing.assert_array_equal(one.targets, other.targets)
    assert one.root.resolve() == other.root.resolve()


def test_prevalence_is_of_the_known_photos(tmp_path):
    manifest = read(tmp_path, "image,red,blue\na,1,\nb,0,\nc,,\nd,0,0\n")
    np.testing.assert_allclose(manifest.prevalence, [1 / 3, 0])
    np.testing.assert_allclose(manifest.select(np.arange(3)).prevalence, [1 / 2, np.nan])


# What is read


def test_kaggle_fashion_styles(tmp_path):
    head = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n"
    rows = "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt\n"
    rows += "39386,Women,Apparel,Bottomwear,Jeans,,Summer,2012,Casual,Peter England Jeans, Blue, 32\n"
    manifest = read(tmp_path, head + rows, "styles.csv", label_columns=("gender", "articleType", "baseColour"))
    assert manifest.frame["path"].to_list() == ["images/15970.jpg", "images/39386.jpg"]
    assert manifest.label_set.ids == (
        *("gender=Men", "gender=Women", "articleType=Jeans", "articleType=Shirts"),
        "baseColour=Navy Blue",
    )
    np.testing.assert_array_equal(manifest.targets, [[1, 0, 0, 1, 1], [0, 1, 1, 0, -1]])
    assert manifest.frame["usage"].to_list() == ["Casual", "Casual"]
    with pytest.raises(ManifestError, match="--labels"):
        read(tmp_path, head + rows, "styles.csv")


def test_folder_of_class_folders(tmp_path):
    for name, content in (("train/a/1.jpg", b"1"), ("train/b/1.jpg", b"1"), ("val/a/1.jpg", b"1"), ("val/2.png", b"")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest = Manifest.read(tmp_path)
    assert manifest.frame["path"].to_list() == ["train/a/1.jpg", "val/2.png", "val/a/1.jpg"]
    assert manifest.frame["split"].to_list() == ["train", "val", "val"]
    np.testing.assert_array_equal(manifest.targets, [[1, 1], [-1, -1], [1, 0]])
    assert not manifest.label_set.exclusive
    assert manifest.photo(0).is_file()


def test_header_l1_to_l13_is_the_challenge(tmp_path):
    text = "image," + ",".join(f"l{k}" for k in range(1, 14)) + "\na.jpg" + ",1" + ",0" * 12 + "\n"
    assert read(tmp_path, text).label_set == LabelSet.read("jd2018")


def test_columns_by_name_and_by_option(tmp_path):
    text = "product_id,img,link,Set,mine,red,fold\n7,a,http://a,DEV,p,1,2\n7,b,http://b,training,q,0,\n7,c,,,,0,1\n"
    frame = read(tmp_path, text).frame
    assert frame["id"].to_list() == ["a", "b", "c"]  # one product has several photos
    assert frame["group"].to_list() == ["7"] * 3
    assert frame["split"].to_list() == ["val", "train", ""]
    assert frame["fold"].to_list() == [2, -1, 1]
    assert read(tmp_path, text, group_column="mine").frame["group"].to_list() == ["p", "q", ""]
    assert read(tmp_path, text, root="/photos").photo(0).as_posix() == "/photos/a"


def test_urls_without_paths(tmp_path):
    manifest = read(tmp_path, "id,url,red\n1,http://a,1\n2,http://b,0\n")
    assert manifest.frame["path"].to_list() == ["", ""]
    with pytest.raises(ManifestError, match="no path for '1'"):
        manifest.photo(0)


# What is refused

HOT = "image,red,sports\n" + "".join(f"{k}.jpg,0,{k % 2}\n" for k in range(5))


@pytest.mark.parametrize(
    ("text", "config", "words"),
    [
        (HOT + "z.jpg,1,2\n", {}, "'sports' in row 7 of .*a.csv to be 1, 0 or blank, but got '2'"),
        (HOT + "z.jpg,1,perhaps\n", {}, "'sports' in row 7 of .*a.csv to be 1, 0 or blank, but got 'perhaps'"),
        ("image,sports\na,0\nb,0.5\n", {"label_columns": ("sports",)}, "'sports' in row 3 .* but got '0.5'"),
        ("image,red\na,1\nb,0\na,0\n", {}, "to agree, but got 'a' in row 2 and row 4"),
        ("image,red,split\na,1,train\nb,0,test\na,1,test\n", {}, "to agree, but got 'a' in row 2 and row 4"),
        ("image,red\na,1\n,0\n", {}, "row 3 of .*a.csv to name a photo, but got a blank"),
        ("red,blue\n1,1\n", {}, "a column of photo paths in .*--image-column"),
        ("image,red,split\na,1,train\nb,0,later\n", {}, "'split' in row 3 of .*, but got 'later'"),
        ("image,red,fold\na,1,0\nb,0,x\n", {}, "'fold' in row 3 of .* to be a whole number from 0, but got 'x'"),
        ("image,red\na,1\n", {"label_columns": ("rde",)}, "column 'rde' in .*only 'image', 'red'. Try --labels"),
        ("image,red\na,1\n", {"split_column": "part"}, "column 'part' in .*--split-column"),
        ("image,red\na,1\n", {"group_column": "who"}, "column 'who' in .*--group-column"),
        ("image,red\na,1\n", {"image_column": "foto"}, "column 'foto' in .*--image-column"),
    ],
)
def test_refusals_name_file_row_and_key(tmp_path, text, config, words):
    with pytest.raises(ManifestError, match=f"^Expected .*{words}"):
        read(tmp_path, text, **config)


# Round trips

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".csv", ".tsv", ".parquet", ".jsonl"]))
def test_written_and_read_back_it_is_equal(tmp_path_factory, data, suffix):
    folder = tmp_path_factory.mktemp("round")
    ids = data.draw(st.lists(names.map(lambda name: "*" + name), min_size=3, max_size=5, unique=True))
    groups = (Group("g", tuple(map(Label, ids[:2])), exclusive=True), Group("labels", tuple(map(Label, ids[2:]))))
    n = data.draw(st.integers(1, 5))
    targets = data.draw(hnp.arrays(np.int8, (n, len(ids)), elements=st.integers(-1, 1)))
    targets[:, 0] = np.where(targets[:, 1] == 1, 0, targets[:, 0])
    word = st.lists(st.one_of(st.just(""), names), min_size=n, max_size=n)
    paths = data.draw(st.lists(names, min_size=n, max_size=n, unique=True))
    frame = pl.DataFrame(
        {
            "id": paths,
            "path": paths,
            "url": data.draw(word),
            "split": data.draw(st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=n, max_size=n)),
            "group": data.draw(word),
            "fold": data.draw(st.lists(st.integers(-1, 9), min_size=n, max_size=n)),
            "image": data.draw(word),
            "kids": data.draw(st.lists(st.sampled_from(["0", "1", ""]), min_size=n, max_size=n)),
        }
    )
    manifest = Manifest(LabelSet("any", groups), frame, targets, folder / "photos", "")
    (folder / "deep").mkdir()
    manifest.write(folder / "deep" / f"m{suffix}")
    assert_equal(manifest, Manifest.read(folder / "deep" / f"m{suffix}"))


def test_a_label_called_like_a_role_is_not_written(tmp_path):
    manifest = read(tmp_path, "image,class\na,split\n")
    with pytest.raises(ManifestError, match="label ids to differ from column names, but got 'split'"):
        manifest.write(tmp_path / "b.csv")


def test_a_column_called_like_a_label_is_left_out(tmp_path):
    manifest = read(tmp_path, "image,season,tags\na,spring,season|red\n")
    assert manifest.frame.columns == ["id", "path"]
    manifest.write(tmp_path / "b.csv")
    assert_equal(manifest, Manifest.read(tmp_path / "b.csv"))


def test_absolute_paths_survive_a_move(tmp_path):
    manifest = read(tmp_path, "image,red\na.jpg,1\n/b.jpg,0\n").absolute()
    (tmp_path / "one").mkdir()
    manifest.write(tmp_path / "one" / "m.parquet")
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Manifest.read(tmp_path / "two" / "m.parquet")
    assert [moved.photo(k) for k in range(2)] == [tmp_path.resolve() / "a.jpg", moved.root / "/b.jpg"]


# Parts


def with_columns(n, **columns):
    targets = (np.random.default_rng(0).random((n, 3)) < [0.5, 0.2, 0.1]).astype(np.int8)
    paths = [f"{k}.jpg" for k in range(n)]
    frame = pl.DataFrame({"id": paths, "path": paths, **columns})
    return Manifest(LabelSet.free("f", ["a", "b", "c"]), frame, targets, Path("photos"), "made")


def test_select_by_mask_and_by_position():
    manifest = with_columns(5)
    picked = manifest.select(np.array([3, 0]))
    assert picked.frame["id"].to_list() == ["3.jpg", "0.jpg"]
    np.testing.assert_array_equal(picked.targets, manifest.targets[[3, 0]])
    assert manifest.select(np.arange(5) > 3).frame["id"].to_list() == ["4.jpg"]


# Real data and size


def test_lists_of_the_challenge(shared):
    train = Manifest.read(shared / "data/jd2018/train-k-fold.txt")
    assert len(train) == 54_908
    assert train.label_set == LabelSet.read("jd2018")
    # counted from the file by hand: column 3, OL/Commuting
    lines = (shared / "data/jd2018/train-k-fold.txt").read_text().split()
    assert (train.targets[:, 2] == 1).sum() == sum(line.split("_")[3] == "1" for line in lines)
    assert np.bincount(train.frame["fold"]).tolist() == [0, 10981, 10982, 10981, 10982, 10982]
    assert len(train.with_fold(1).part("val")) == 10_981
    test = Manifest.read(shared / "data/jd2018/test.txt")
    assert len(test) == 10_000
    assert (test.targets == UNKNOWN).all()
    assert test.frame["url"].str.starts_with("http://").all()


def test_clothing_co_parsing(shared):
    manifest = Manifest.read(shared / "data/ccp/labels.csv")
    assert manifest.targets.shape == (2098, 56)
    table = pl.read_csv(shared / "data/ccp/labels.csv")
    np.testing.assert_array_equal(manifest.targets, table.drop("file", "annotation").to_numpy())
    assert manifest.photo(0).is_file()
    folds = manifest.with_folds(5, seed=0, stratify=["annotation"]).frame
    shares = folds.group_by("fold").agg((pl.col("annotation") == "pixel").mean())["annotation"]
    assert shares.max() - shares.min() < 0.01


def test_clothing_dataset(shared, tmp_path):
    path = shared / "data/clothing/labels.csv"
    small = Manifest.read(path, DataConfig(label_columns=("small_label",), split_column="small_split"))
    assert [len(small.part(split)) for split in ("train", "val", "test")] == [3068, 341, 372]
    assert len(small.label_set.exclusive["small_label"]) == 10
    full = Manifest.read(path, DataConfig(label_columns=("garment", "kids"), group_column="contributor"))
    table = pl.read_csv(path)
    unknown = table["garment"].is_null().to_numpy()
    np.testing.assert_array_equal((full.targets[:, 1:] == UNKNOWN).all(axis=1), unknown)
    assert ((full.targets[~unknown, 1:] == 1).sum(axis=1) == 1).all()
    split = full.with_split(0.1, 0.1, seed=0)
    assert split.frame.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    split.write(tmp_path / "split.csv")
    assert_equal(split, Manifest.read(tmp_path / "split.csv"))


def test_a_million_rows_load_in_seconds(tmp_path):
    n = 1_000_000
    targets = np.random.default_rng(0).integers(0, 2, (n, 13)).astype(np.int8)
    frame = pl.DataFrame(targets, schema=[f"label{k}" for k in range(13)])
    path = pl.select(image=pl.format("photos/{}.jpg", pl.int_range(n)))
    pl.concat([path, frame], how="horizontal").write_csv(tmp_path / "a.csv")
    start = time.perf_counter()
    manifest = Manifest.read(tmp_path / "a.csv")
    assert time.perf_counter() - start < 20  # 3 s on two idle cores
    np.testing.assert_array_equal(manifest.targets, targets)


# What is read only where it is asked for


def test_lenient_reading_keeps_what_strict_reading_refuses(tmp_path):
    text = "image,red\na.jpg,1\nb.jpg,0\na.jpg,0\n"
    with pytest.raises(ManifestError, match="to agree"):
        read(tmp_path, text)
    manifest = Manifest.read(tmp_path / "a.csv", strict=False)
    assert manifest.frame["path"].to_list() == ["a.jpg", "b.jpg", "a.jpg"]

    both = LabelSet("both", (Group("colour", (Label("blue"), Label("red")), exclusive=True),))
    text = "image,blue,red\na.jpg,1,1\nb.jpg,0,1\n"
    with pytest.raises(ManifestError, match="one label of 'colour'"):
        read(tmp_path, text, "b.csv", both)
    manifest = Manifest.read(tmp_path / "b.csv", label_set=both, strict=False)
    np.testing.assert_array_equal(manifest.targets, [[1, 1], [0, 1]])
    with pytest.raises(ManifestError, match="to name a photo"):
        read(tmp_path, "image,blue\n,1\nb.jpg,0\n", "c.csv")
    with pytest.raises(ManifestError, match="to name a photo"):
        Manifest.read(tmp_path / "c.csv", strict=False)
