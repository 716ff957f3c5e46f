"""Files and folders read as words; every refusal names file and row."""

import csv

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modiste.data.formats.jd2018 import format_submission, read_challenge, write_submission
from modiste.data.tables import read_table, write_table
from modiste.errors import ManifestError
from modiste.labels import LabelSet


def file(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image,red\nx.jpg,1\ny.jpg,\n"),
        ("a.csv", "\ufeffimage , red\r\nx.jpg, 1\r\ny.jpg,\r\n"),
        ("a.csv", "image;red\nx.jpg;1\ny.jpg;\n"),
        ("a.tsv", "image\tred\nx.jpg\t1\ny.jpg\t\n"),
        ("a.txt", 'image,red,\n"x.jpg","1",9\ny.jpg,,9\n'),
        ("a.jsonl", '{"image":"x.jpg","red":1}\n\n{"image":"y.jpg"}\n'),
        ("a.jsonl", '{"image":"x.jpg","red":1,"box":{"x":2}}\n{"image":"y.jpg","red":null}\n'),
    ],
)
def test_the_same_table_in_every_writing(tmp_path, name, text):
    table = read_table(file(tmp_path, name, text))
    assert table.frame.to_dict(as_series=False) == {"image": ["x.jpg", "y.jpg"], "red": ["1", ""]}


def test_parquet_spells_out_numbers_and_drops_what_is_nested(tmp_path):
    frame = pl.DataFrame(
        {
            "image": ["x", "y"],
            "a": [True, None],
            "b": [1.0, float("nan")],
            "c": [0, 1],
            "d": [["p", "q"], None],
            "bytes": [b"1", b"2"],
            "pair": [{"u": 1}, {"u": 2}],
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").frame.to_dict(as_series=False) == {
        "image": ["x", "y"],
        "a": ["true", ""],
        "b": ["1.0", ""],
        "c": ["0", "1"],
        "d": [["p", "q"], None],
    }


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(words, words), min_size=1, max_size=8))
def test_csv_reads_what_the_standard_library_writes(tmp_path_factory, rows):
    rows = [(a.strip(), b.strip()) for a, b in rows]
    filled = [row for row in rows if any(row)]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("one", "two"), *rows])
    if not filled:
        with pytest.raises(ManifestError, match="no rows"):
            read_table(path)
        return
    table = read_table(path)
    assert table.frame.rows() == filled
    assert [table.row(k) for k in range(len(filled))] == [f"row {k + 2}" for k, row in enumerate(rows) if any(row)]


def test_rows_are_file_lines(tmp_path):
    table = read_table(file(tmp_path, "a.csv", 'image,text\nx,"two\nlines"\n\ny,z\n'))
    assert [table.row(k) for k in range(2)] == ["row 2", "row 5"]
    table = read_table(file(tmp_path, "a.jsonl", '{"image":"x"}\n\n{"image":"y"}\n'))
    assert [table.row(k) for k in range(2)] == ["row 1", "row 3"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.csv", None, "to exist, but got no such file"),
        ("empty.csv", "", "to list photos, but got no rows"),
        ("head.csv", "image,red\n", "to list photos, but got no rows"),
        ("ragged.csv", "image,red\nx,1\ny,0,1\n", "row 3 of .*ragged.csv to have 2 fields like its header, but got 3"),
        ("twice.csv", "image,red,red\nx,1,1\n", "columns of .* to differ, but got 'red' twice"),
        ("any.csv", bytes(range(256)), "to be text"),
        ("any.csv.gz", b"\x1f\x8b\x08\x00", "a gzip file"),
        ("sheet.csv", b"PK\3\4", "a ZIP file"),
        ("sheet.xlsx", b"PK\xff\xfe\x00\x80", "to be a spreadsheet"),
        ("bad.jsonl", '{"image":"x"}\n{"image":\n', "row 2 of .*bad.jsonl to be a JSON object"),
        ("list.jsonl", "[1]\n", "row 1 of .*list.jsonl to be a JSON object"),
        ("bad.parquet", "PAR1 or not", "bad.parquet to be readable"),
    ],
)
def test_refusals_name_file_and_row(tmp_path, name, text, words):
    path = tmp_path / name if text is None else file(tmp_path, name, text)
    with pytest.raises(ManifestError, match=f"^Expected (.|\n)*{words}(.|\n)* Try .*\\.$"):
        read_table(path)


def test_commas_in_the_last_column_of_styles_belong_to_it(tmp_path):
    text = "id,articleType,productDisplayName\n1,Shirts,Blue Shirt\n2,Shoes,Red, soft, shoe\n"
    names = read_table(file(tmp_path, "styles.csv", text)).frame["productDisplayName"].to_list()
    assert names == ["Blue Shirt", "Red, soft, shoe"]


def test_unknown_suffix_is_not_written(tmp_path):
    with pytest.raises(ManifestError, match=r"'a\.xls'"):
        write_table(pl.DataFrame({"a": [1]}), tmp_path / "a.xls")


def photos(root, *names):
    for name, content in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_class_folders_are_exclusive_while_no_photo_lies_in_two(tmp_path):
    photos(tmp_path, ("red/1.jpg", b"a"), ("blue/1.jpg", b"b"), ("blue/deep/2.PNG", b"aa"), ("blue/note.txt", b"a"))
    photos(tmp_path, ("3.webp", b"c"), (".cache/4.jpg", b"d"))
    frame = read_table(tmp_path).frame
    assert frame.rows() == [("3.webp", ""), ("blue/1.jpg", "blue"), ("blue/deep/2.PNG", "blue"), ("red/1.jpg", "red")]


def test_a_photo_in_several_class_folders_has_several_classes(tmp_path):
    photos(tmp_path, ("red/1.jpg", b"same"), ("blue/1.jpg", b"same"), ("new/1.jpg", b"diff"), ("new/2.jpg", b"same"))
    frame = read_table(tmp_path).frame
    assert frame.rows() == [("blue/1.jpg", ["blue", "red"]), ("new/1.jpg", ["new"]), ("new/2.jpg", ["new"])]


def test_split_folders(tmp_path):
    photos(tmp_path, ("train/red/1.jpg", b"a"), ("valid/red/1.jpg", b"a"), ("test/blue/2.jpg", b"b"))
    frame = read_table(tmp_path).frame
    assert frame.rows() == [
        ("test/blue/2.jpg", "test", "blue"),
        ("train/red/1.jpg", "train", "red"),
        ("valid/red/1.jpg", "valid", "red"),
    ]


def test_folder_without_photos(tmp_path):
    with pytest.raises(ManifestError, match="one folder a class"):
        read_table(tmp_path)


FLAGS = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("3,5a_" + "_".join(map(str, FLAGS)) + ".jpg", {"fold": "3", "path": "5a_1_0_0_0_0_1_0_0_0_0_0_0_1.jpg"}),
        ("5a," + ",".join(map(str, FLAGS)), {"path": "5a.jpg"}),
        ("5a,http://h/a,b.jpg," + ",".join(map(str, FLAGS)), {"path": "5a.jpg", "url": "http://h/a,b.jpg"}),
    ],
)
def test_labelled_lists_of_the_challenge(tmp_path, line, columns):
    table = read_challenge(file(tmp_path, "list.txt", line + "\r\n"))
    row = table.frame.row(0, named=True)
    assert {key: row[key] for key in ("id", *columns)} == {"id": "5a", **columns}
    assert [int(row[label]) for label in LabelSet.read("jd2018").ids] == FLAGS


def test_a_line_of_another_shape_is_named(tmp_path):
    path = file(tmp_path, "test.txt", "a,http://h/a.jpg\n\nb,http://h/b.jpg\nc;http://h/c.jpg\n")
    with pytest.raises(ManifestError, match=r"row 4 of .*test.txt to be 'ID,URL', but got 'c;http"):
        read_challenge(path)
    assert read_challenge(file(tmp_path, "a.csv", "image,red\nx,1\n")) is None


def test_submission_of_the_real_test_list_is_rewritten_byte_for_byte(tmp_path, shared):
    ids = read_challenge(shared / "data/jd2018/test.txt").frame["id"].to_list()
    assert len(ids) == 10_000
    decisions = np.random.default_rng(0).integers(0, 2, (10_000, 13))
    write_submission(tmp_path / "a.txt", ids, decisions)
    by_hand = "".join(f"{i},{','.join(map(str, row))}\n" for i, row in zip(ids, decisions.tolist(), strict=True))
    assert (tmp_path / "a.txt").read_bytes() == by_hand.encode()
    frame = read_challenge(tmp_path / "a.txt").frame
    again = frame.select(LabelSet.read("jd2018").ids).cast(pl.Int8).to_numpy()
    write_submission(tmp_path / "b.txt", frame["id"].to_list(), again)
    assert (tmp_path / "b.txt").read_bytes() == by_hand.encode()


@pytest.mark.parametrize(
    ("ids", "decisions"),
    [
        (["a"], np.zeros((1, 12))),
        (["a", "b"], np.zeros((1, 13))),
        (["a"], np.full((1, 13), 0.5)),
        (["a", "a"], np.zeros((2, 13))),
        (["a,b"], np.zeros((1, 13))),
    ],
)
def test_submission_refuses_scores_and_double_ids(ids, decisions):
    with pytest.raises(ManifestError):
        format_submission(ids, decisions)
