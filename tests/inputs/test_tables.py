"""Tables of photos: which photo each row names, how it is called, what it shows, and rows that say nothing new."""

import csv

import polars as pl
import pytest

from modiste.errors import ManifestError, PhotoError
from modiste.inputs.arguments import InputPhoto, Inputs, Url

URLS = [f"https://x.example/{k}.jpg" for k in range(5)]


def inputs(*paths, **settings):
    return Inputs.of([str(path) for path in paths], **settings)


def found(path, **settings):
    return list(inputs(path, **settings).items())


def table(folder, columns, *rows, name="shop.csv"):
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder / name


PARTED = (("id", "image_url", "colour"), ("A", "|".join(URLS[:3]), "red"), ("B", URLS[3], ""))


def test_photos_of_a_row_are_one_product_by_the_id_that_is_written_there(tmp_path):
    said = found(table(tmp_path, *PARTED), product_column="id")
    assert [(item.id, item.product) for item in said] == [("A", "A"), ("A-2", "A"), ("A-3", "A"), ("B", "B")]
    assert [item.source for item in said] == [Url(url) for url in URLS[:4]]


def test_photos_of_a_feed_are_products_by_its_ids_or_by_its_groups(tmp_path):
    columns = ("id", "title", "image_link", "additional_image_link", "item_group_id")
    feed = table(tmp_path, columns, ("A", "x", URLS[0], URLS[1], "G"), ("B", "y", URLS[2], "", "G"))
    assert [item.product for item in found(feed, product_column="id")] == ["A", "A", "B"]
    assert [item.product for item in found(feed, product_column="item_group_id")] == ["G"] * 3


def test_a_table_is_told_by_the_columns_that_it_has(tmp_path):
    shop = table(tmp_path, *PARTED)
    with pytest.raises(ManifestError, match=r"column 'sku' in .*, but got only 'id', 'image_url', 'colour'\."):
        found(shop, product_column="sku")
    with pytest.raises(ManifestError, match=r"column 'product' in .*, but got only 'id', 'image_url', 'colour'\."):
        found(shop, image_column="product")
    export = table(tmp_path, ("Handle", "Title", "Image Src"), ("coat", "Coat", URLS[0]), ("coat", "", URLS[1]))
    with pytest.raises(ManifestError, match=r"column 'id' in .*, but got only 'Handle', 'Title', 'Image Src'\."):
        found(export, product_column="id")


def test_rows_are_numbered_as_in_the_file(tmp_path):
    shop = table(tmp_path, *PARTED, (), ("C", "", "x"), ("D", URLS[4], ""))
    broken = found(shop)[4]
    assert broken.id == "C" and "row 5 of" in str(broken.source)  # the header is line 1, the blank line is line 4


@pytest.mark.parametrize("columns", [("id", "url"), ("id", "image"), ("id", "image", "url")])
def test_a_row_that_names_no_photo_keeps_its_id_and_the_others_their_photos(tmp_path, columns):
    blanks = [""] * (len(columns) - 2)
    shop = table(tmp_path, columns, ("a", *blanks, "1.jpg"), ("b", *blanks, ""), ("c", *blanks, "3.jpg"))
    said = found(shop)
    assert [item.id for item in said] == ["a", "b", "c"]
    assert [isinstance(item.source, PhotoError) for item in said] == [False, True, False]
    assert str(said[1].source).startswith(f"Expected row 3 of {shop} to name a photo, but got a blank.")


def test_by_ids_alone_photos_are_called_as_them_with_a_suffix(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/b.jpg").write_bytes(b"x")
    shop = table(tmp_path, ("id", "colour"), ("a", "red"), ("b", "red"))
    assert [item.source for item in found(shop)] == [tmp_path / "images/a.jpg", tmp_path / "images/b.jpg"]
    shop = table(tmp_path, ("id", "url"), ("a", URLS[0]), ("b", ""), ("c", ""))
    assert [item.source for item in found(shop)[:2]] == [Url(URLS[0]), tmp_path / "images/b.jpg"]
    assert isinstance(found(shop)[2].source, PhotoError)


def test_a_row_a_label_names_each_photo_once(tmp_path):
    rows = [("a.jpg", "red"), ("b.jpg", "red"), ("a.jpg", "dress"), ("b.jpg", "long"), ("a.jpg", "long")]
    shop = table(tmp_path, ("image", "label"), *rows)
    said = inputs(shop)
    assert [item.id for item in said.items()] == ["a.jpg", "b.jpg"]
    assert said.count() == 2
    assert said.notes() == [f"3 rows of {shop} name photos that earlier rows name: each photo is tagged once."]
    shop = table(tmp_path, ("image", "label"), *rows[:3])
    assert inputs(shop).notes() == [f"1 row of {shop} names a photo that an earlier row names: it is tagged once."]
    assert inputs(table(tmp_path, ("image", "label"), *rows[:2])).notes() == []


def test_rows_of_one_photo_with_ids_of_their_own_stay_apart(tmp_path):
    rows = [("1", "a.jpg", "red"), ("1", "a.jpg", "dress"), ("2", "b.jpg", "red"), ("3", "a.jpg", "red")]
    said = found(table(tmp_path, ("id", "image", "label"), *rows))
    assert [(item.id, item.source.name) for item in said] == [("1", "a.jpg"), ("2", "b.jpg"), ("3", "a.jpg")]


def test_ids_that_several_photos_have_name_none_of_them(tmp_path):
    rows = [("5", "a.jpg", "red"), ("5", "b.jpg", "red"), ("5", "a.jpg", "dress"), ("6", "a.jpg", "red")]
    shop = table(tmp_path, ("id", "image", "label"), *rows)
    assert [item.id for item in found(shop)] == ["a.jpg", "b.jpg"]
    said = [(item.id, item.product) for item in found(shop, product_column="id")]
    assert said == [("a.jpg", "5"), ("b.jpg", "5"), ("a.jpg", "6")]  # shown in two products, once in each


def test_parts_are_ranges_of_rows_whichever_are_left_out(tmp_path):
    shop = table(tmp_path, ("image", "label"), *([name, label] for name in "abcde" for label in "xyz"))
    parts = [[item.id for item in load()] for load in inputs(shop).parts(4)]
    assert parts == [["a", "b"], ["c"], ["d"], ["e"]]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "bytes.parquet"])
def test_a_table_without_rows_is_refused_and_told_among_others(tmp_path, name):
    path = tmp_path / name
    if name == "bytes.parquet":
        pl.DataFrame(schema={"id": pl.String, "bytes": pl.Binary}).write_parquet(path)
    elif path.suffix == ".parquet":
        pl.DataFrame(schema={"id": pl.String, "url": pl.String}).write_parquet(path)
    else:
        path.write_text({".csv": "id,url\n\n", ".tsv": "id\turl\n", ".jsonl": "\n"}[path.suffix])
    with pytest.raises(ManifestError, match=rf"{name} to list photos, but got no rows\."):
        inputs(path)
    if name != "a.jsonl":  # which has no columns either
        both = inputs(path, table(tmp_path, ("url",), (URLS[0],)))
        assert list(both.items()) == [InputPhoto(URLS[0], Url(URLS[0]))]
        assert both.notes() == [f"{path} has no rows."]
