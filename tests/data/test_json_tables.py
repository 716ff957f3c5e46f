"""JSON: objects in a document or a line each, whatever their types."""

import json

import pytest
from tables import check_stream, held, write

from modiste.data.manifest import Manifest
from modiste.data.tables import open_rows, read_table
from modiste.errors import ManifestError

RECORDS = [
    {"image": "a.jpg", "labels": ["red", "blue"], "n": 5},
    {"image": "b.jpg", "labels": "red"},
    {"image": "c.jpg", "labels": []},
]
HELD = {"a.jpg": {"red", "blue"}, "b.jpg": {"red"}, "c.jpg": set()}


@pytest.mark.parametrize("content", [RECORDS, {"photos": RECORDS}, {"data": RECORDS, "version": 3}])
def test_objects_in_a_document(tmp_path, content):
    path = write(tmp_path, "a.json", content)
    assert held(Manifest.read(path)) == HELD
    check_stream(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_objects_a_line_whose_types_change(tmp_path, name):
    path = write(tmp_path, name, "\ufeff" + "\n".join(json.dumps(one) for one in RECORDS))
    assert held(Manifest.read(path)) == HELD


def test_choices_of_label_studios_short_export(tmp_path):
    rows = [
        {"image": "a.jpg", "labels": {"choices": ["red", "blue"]}},
        {"image": "b.jpg", "labels": {"choices": ["red"]}},
    ]
    assert held(Manifest.read(write(tmp_path, "a.json", rows))) == {"a.jpg": {"red", "blue"}, "b.jpg": {"red"}}
    assert held(Manifest.read(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))))) == {
        "a.jpg": {"red", "blue"},
        "b.jpg": {"red"},
    }


@pytest.mark.parametrize("content", ["[1, 2]", '"a"', "{}", '{"a": [1], "b": [2]}', "[", "[]"])
def test_other_documents_are_refused(tmp_path, content):
    with pytest.raises(ManifestError, match=r"a\.json to (be|list)"):
        read_table(write(tmp_path, "a.json", content))


def test_a_huge_document_is_refused(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as sparse:
        sparse.truncate((1 << 30) + 1)
    with pytest.raises(ManifestError, match=r"1 GiB at most, but got 1\.1 GB.*\.jsonl"):
        read_table(path)


def test_columns_of_objects_are_left_out_by_name(tmp_path):
    rows = [
        {"image": f"{k}.jpg", "labels": ["red"], "meta": {"a": 1, "b": 2}, "boxes": [{"x": 1}], "size": [1, 2]}
        for k in range(3)
    ]
    table = read_table(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert table.frame.columns == ["image", "labels", "size"]
    assert table.notes == ("'meta', 'boxes': left out, as the cells hold objects or bytes, not words.",)
    assert table.notes[0] in Manifest.read(table.path).notes


def test_lines_that_are_no_utf8_are_refused_by_their_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"image": "a", "label": "coat"}\n{"image": "b", "label": "外套"}\n'.encode("gbk"))
    for read in (lambda: read_table(path), lambda: list(open_rows(path).read())):
        with pytest.raises(ManifestError, match=r"row 2 of .* to be a JSON object, but got .*\\xcd.*in UTF-8"):
            read()


def test_a_mark_of_utf8_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"image": "a", "label": "coat"}\n')
    assert read_table(path).frame.columns == ["image", "label"]
    check_stream(path)
