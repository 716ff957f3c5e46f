"""Tables that tests write, and what is read of them."""

import json
from pathlib import Path

import numpy as np

from modiste.data.manifest import Manifest
from modiste.data.tables import open_rows, read_table


def write(folder: Path, name: str, content) -> Path:
    """A file of text, or of JSON where the content is no text."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def held(manifest: Manifest) -> dict[str, set[str] | None]:
    """The labels of each photo by its path or id; None where nothing is known."""
    ids, frame = manifest.label_set.ids, manifest.frame
    return {
        path or id_: None if (row == -1).all() else {ids[k] for k in np.flatnonzero(row == 1)}
        for path, id_, row in zip(frame["path"], frame["id"], manifest.targets, strict=True)
    }


def check_stream(path: Path) -> None:
    """A table as a stream holds what it holds as a whole, and tells the same."""
    table, stream = read_table(path), open_rows(path)
    rows = table.frame.iter_rows()
    whole = [[cell if isinstance(cell, str) else "|".join(cell or []) for cell in row] for row in rows]
    assert tuple(table.frame.columns) == tuple(stream.columns)
    assert [list(row.cells) for row in stream.read()] == whole
    assert [row.number for row in stream.read()] == table.lines.tolist()
    assert list(table.notes) == stream.notes
