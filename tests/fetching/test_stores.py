"""Shards: a photo is placed once the file that holds it has its name, and not before."""

import io
import tarfile

import polars as pl
import pytest
from PIL import Image

from modiste.errors import StorageError
from modiste.fetching import stores
from modiste.fetching.ledger import FetchRecord
from modiste.fetching.stores import Shards, examine

KINDS = pytest.mark.parametrize("kind", ["webdataset", "parquet"])


def names(path):
    """Of the photos that a shard holds."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)["name"].to_list()
    with tarfile.open(path) as tar:
        return [name.removesuffix(".png") for name in tar.getnames() if name.endswith(".png")]


def put(shelf, *ids):
    for id_ in ids:
        file = io.BytesIO()
        Image.new("RGB", (20, 20)).save(file, "PNG")
        photo = examine(file.getvalue(), id_, None)
        shelf.put(FetchRecord(id_, f"http://x.example/{id_}", **photo.facts()), photo)


@KINDS
def test_photos_are_placed_once_their_shard_is_there(kind, tmp_path):
    shelf = Shards(tmp_path, 3, "", kind)
    put(shelf, "a", "b")
    assert shelf.placed() == []
    assert not list(tmp_path.iterdir())
    put(shelf, "c", "d")
    placed = shelf.placed()
    assert [(one.name, one.place) for one in placed] == [(id_, placed[0].place) for id_ in "abc"]
    assert names(tmp_path / placed[0].place) == ["a", "b", "c"]
    assert shelf.placed() == []
    shelf.close()
    (last,) = shelf.placed()
    assert names(tmp_path / last.place) == ["d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({last.place, placed[0].place})


@KINDS
def test_a_shard_that_cannot_be_written_places_nothing(kind, tmp_path, monkeypatch):
    def full(path, photos):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(stores._WRITERS, kind, (full, stores._WRITERS[kind][1]))
    shelf = Shards(tmp_path, 2, "", kind)
    with pytest.raises(StorageError, match="No space left"):
        put(shelf, "a", "b")
    assert shelf.placed() == []
    assert not list(tmp_path.iterdir())
