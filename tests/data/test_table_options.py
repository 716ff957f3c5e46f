"""Options that a file can't obey are refused, and work where they can."""

import polars as pl
import pytest
from PIL import Image

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.data.tables import open_rows, read_table
from modiste.errors import ManifestError, UsageError

TABLE = "image,label\na,coat\nb,dress\n"


@pytest.fixture
def files(tmp_path):
    """The same table in four formats, and a folder of two classes."""
    (tmp_path / "a.csv").write_text(TABLE)
    Manifest.read(tmp_path / "a.csv").frame.with_columns(label=None).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"image": "a", "label": "coat"}\n')
    (tmp_path / "a.json").write_text('[{"image": "a", "label": "coat"}]')
    for name in ("coat", "dress"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "folder" / name / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "a.json", "folder"])
def test_a_sheet_of_what_has_none(files, name):
    with pytest.raises(UsageError, match=r"--sheet with a spreadsheet.* Try leaving --sheet out"):
        Manifest.read(files / name, DataConfig(sheet="Blatt 1"))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "folder"])
def test_an_encoding_of_what_knows_its_own(files, name):
    with pytest.raises(UsageError, match=r"--encoding with a text file.* Try leaving --encoding out"):
        Manifest.read(files / name, DataConfig(encoding="gbk"))


def test_an_encoding_of_text_is_obeyed_and_called_as_it_was_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("image,label\na,caf\u00e9\nb,coat\n".encode("latin1"))
    assert Manifest.read(path, DataConfig(encoding="latin1")).label_set.ids == ("caf\u00e9", "coat")
    for asked in ("utf-8", "ascii"):
        with pytest.raises(ManifestError, match=rf"to be text in {asked}, but got the byte 0xe9"):
            Manifest.read(path, DataConfig(encoding=asked))


def test_a_photo_in_place_of_a_table(files):
    photo = files / "folder" / "coat" / "coat.jpg"
    with pytest.raises(ManifestError, match="to be a table of photos and labels, or a folder, but got a photo"):
        Manifest.read(photo)
    assert len(Manifest.read(files / "folder")) == 2  # as advised


def test_a_folder_without_classes(files):
    with pytest.raises(ManifestError, match=r"got 1 photo outside of any. Try moving them into one folder a class"):
        Manifest.read(files / "folder" / "coat")


@pytest.mark.parametrize(("name", "options"), [("a.csv", {"sheet": "x"}), ("a.jsonl", {"encoding": "gbk"})])
def test_streams_refuse_them_too(files, name, options):
    with pytest.raises(UsageError, match="leaving --"):
        open_rows(files / name, **options)


def test_columns_of_objects_are_named_by_streams_too(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"image": ["a.jpg"], "box": [{"x": 1}]}).write_parquet(path)
    assert (
        open_rows(path).notes
        == list(read_table(path).notes)
        == ["'box': left out, as the cells hold objects or bytes, not words."]
    )
