"""Lists of URLs: every kind gives the same rows; names stay in their folder."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modiste.errors import ManifestError
from modiste.fetching.listing import Listing, file_stem

ROWS = [("a1", "http://x.example/1.jpg", "red"), ("b2", "https://x.example/2?a=b,c", ""), ("c3", "", "blue, green")]


def written(folder, suffix):
    path = folder / f"list{suffix}"
    frame = pl.DataFrame(ROWS, schema=["id", "image_url", "colour"], orient="row")
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".jsonl":
        frame.with_columns(pl.col("colour").replace("", None)).write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path, suffix):
    listing = Listing.open(written(tmp_path, suffix))
    assert listing.columns == ("id", "image_url", "colour")
    assert [(row.name, row.url, tuple(row.cells)) for row in listing.rows()] == [(r[0], r[1], r) for r in ROWS]
    assert abs(listing.estimate() - len(ROWS)) <= 1


def test_parquet_is_read_in_chunks_and_without_its_binary_columns(tmp_path):
    path = tmp_path / "long.parquet"
    frame = pl.DataFrame({"url": [f"http://x.example/{k}" for k in range(45_000)], "tags": [["a", "b"]] * 45_000})
    frame.with_columns(image=pl.lit(b"x")).write_parquet(path)
    rows = list(Listing.open(path).rows())
    assert [row.url for row in rows] == frame["url"].to_list()
    assert rows[-1].cells[1] == "a|b"


def test_plain_lists_and_the_challenges(tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text("# photos\nhttp://x.example/1.jpg\n\nhttps://x.example/2.jpg\n")
    rows = list(Listing.open(plain).rows())
    assert [row.url for row in rows] == ["http://x.example/1.jpg", "https://x.example/2.jpg"]
    assert len({row.name for row in rows}) == 2
    test = tmp_path / "test.txt"
    test.write_text("55a167b3N,http://img30.example/a.jpg\n56cfef9eN,http://img30.example/b.jpg\n")
    assert [(r.name, r.url) for r in Listing.open(test).rows()][1] == ("56cfef9eN", "http://img30.example/b.jpg")
    test.write_text("a,http://x.example/a.jpg\nno such line\n")
    with pytest.raises(ManifestError, match="row 2 of"):
        list(Listing.open(test).rows())


def test_the_challenges_real_test_list(shared):
    rows = list(Listing.open(shared / "data/jd2018/test.txt").rows())
    assert len(rows) == 10_000
    assert len({row.name for row in rows}) == 10_000
    assert all(row.url.startswith("http://") for row in rows)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "colour\nred\n", "a column of urls"),
        ("a.csv", "", "to list photos"),
        ("a.csv", "id,url\n", "to list photos, but got no rows"),
        ("a.jsonl", "\n", "to list photos, but got no rows"),
        ("a.jsonl", json.dumps([1]) + "\n", "row 1 of .* to be a JSON object"),
        ("a.parquet", "no parquet", "to be a Parquet file"),
        ("1-fold.txt", "1,59cda91dN_" + "_".join("0" * 13) + ".jpg\n", "a column of urls"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=message):
        Listing.open(tmp_path / name)
    with pytest.raises(ManifestError, match="no such file"):
        Listing.open(tmp_path / "missing.csv")


def test_columns_can_be_named(tmp_path):
    path = written(tmp_path, ".csv")
    listing = Listing.open(path, url_column="colour", id_column="image_url")
    assert next(listing.rows()).url == "red"
    with pytest.raises(ManifestError, match="--id-column"):
        Listing.open(path, id_column="sku")


@given(st.lists(st.text(min_size=1), unique=True, max_size=30))
def test_names_are_safe_and_differ(ids):
    names = [file_stem(id_) for id_ in ids]
    assert len({*names}) == len(ids)
    for name in names:
        assert name
        assert not {"/", "\\", "\0", "."} & {*name}
        assert len(name.encode(errors="surrogatepass")) <= 140


def test_a_table_is_told_by_the_columns_that_it_has(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("id,image_url\nA,http://x.example/1.jpg|http://x.example/2.jpg\n")
    for option in ("url_column", "id_column"):
        with pytest.raises(ManifestError, match=r"column 'product' in .*, but got only 'id', 'image_url'\."):
            Listing.open(path, **{option: "product"})
    listing = Listing.open(path)
    assert [row.name for row in listing.rows()] == ["A", "A-2"]
    assert "The photos of a row are one product, grouped as 'product': they stay in one split." in listing.notes
