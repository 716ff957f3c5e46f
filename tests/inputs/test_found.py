"""What a bulk job found is read as it was written."""

import json

import pytest

from modiste.errors import PhotoError, RunError
from modiste.inputs.arguments import InputPhoto, Inputs, Url
from modiste.inputs.found import read_found, write_found


def read(path):
    return list(read_found(path).items())


def test_what_was_found_is_written_down_with_urls(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    arguments = [str(tmp_path / "in"), "https://x.org/a.jpg"]
    write_found(tmp_path / "found.jsonl", arguments)
    assert read(tmp_path / "found.jsonl") == list(Inputs.of(arguments).items())


def test_rows_of_standard_input_that_name_no_photo_are_kept_with_their_reason(tmp_path):
    rows = [InputPhoto("a", Url("https://x.org/a.jpg")), InputPhoto("b", PhotoError("It is blank."))]
    write_found(tmp_path / "found.jsonl", ["-"], rows)
    one, two = read(tmp_path / "found.jsonl")
    assert one == rows[0]
    assert two.id == "b" and isinstance(two.source, PhotoError) and str(two.source) == "It is blank."


def test_a_damaged_list_is_one_sentence(tmp_path):
    (tmp_path / "found-0.jsonl").write_text(json.dumps(["a"]) + "\n")
    with pytest.raises(RunError, match="to be as it was written"):
        read(tmp_path / "found-0.jsonl")
