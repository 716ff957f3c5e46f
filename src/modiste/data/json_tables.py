"""JSON -> rows: an object a line, a list of objects, and the documents of other programs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from modiste.data.formats.coco import coco_frame, is_coco
from modiste.data.formats.imaterialist import imaterialist_frame, is_imaterialist
from modiste.data.formats.label_studio import is_label_studio, label_studio_frame
from modiste.data.table import Table, words_table
from modiste.errors import ManifestError

LINES = (".jsonl", ".ndjson")
MOST_BYTES = 1 << 30  # of a document, which is read as a whole: ten times that in memory
_BOM = b"\xef\xbb\xbf"


def read_lines(path: Path) -> Table:
    """Read an object a line.

    Raises:
        ManifestError: a line is no object.
    """
    content = path.read_bytes().removeprefix(_BOM)
    try:
        frame = pl.read_ndjson(content, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        frame = _frame(
            [record for _, record in records(path)]
        )  # names the line that is none, or reads what Polars can't
    lines = _numbers(content)
    return words_table(_choices(frame), path, lines if len(lines) == len(frame) else None)


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, one a line, each with the number of its line, as a stream.

    Raises:
        ManifestError: a line is no object.
    """
    with path.open("rb") as file:
        for number, content in enumerate(file, 1):
            line = content.removeprefix(_BOM) if number == 1 else content
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode())
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                want = f"row {number} of {path} to be a JSON object"
                text = line.decode(errors="backslashreplace")  # bytes that are no UTF-8 are shown as such
                raise ManifestError.expected(want, f"'{text[:40].strip()}'", "correcting it, in UTF-8")
            yield number, record


def spelt(value: Any) -> str:
    """A value of an object as a word; the items of a list are parted by "|"."""
    if value is None:
        return ""
    if isinstance(value, dict) and set(value) == {"choices"}:
        value = value["choices"]
    if isinstance(value, list):
        return "|".join(map(spelt, value))
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()  # half of a surrogate pair can't be written


def read_document(path: Path) -> Table:
    """Read one JSON document: a list of objects, COCO, Label Studio or iMaterialist.

    Raises:
        ManifestError: it is another document, or too large to be read as a whole.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ManifestError.expected(
            f"{path} to be 1 GiB at most", f"{size / 1e9:.1f} GB", "JSON lines (.jsonl) instead"
        )
    try:
        content = json.loads(path.read_bytes().removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        if _is_object(path):  # an object a line under the other suffix
            return read_lines(path)
        raise ManifestError.expected(f"{path} to be JSON", f"'{error}'", "correcting the file") from error
    notes: list[str] = []
    if isinstance(content, dict) and is_coco(content):
        frame = _single(coco_frame(content, path))
    elif isinstance(content, dict) and is_imaterialist(content):
        frame = imaterialist_frame(content)
    elif isinstance(content, list) and is_label_studio(content):
        frame, notes = label_studio_frame(content, path)
        frame = _single(frame)
    else:
        frame = _choices(_frame(_records_in(content, path)))
    return words_table(frame, path, notes=tuple(notes))


def _records_in(content: Any, path: Path) -> list[dict[str, Any]]:
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) == 1:
            content = lists[0]
        elif all(isinstance(value, str | int | float | bool | None) for value in content.values()):
            content = [content]
    if isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        return content
    got = f"a {type(content).__name__}" + (f" of {', '.join(list(content)[:5])}" if isinstance(content, dict) else "")
    raise ManifestError.expected(
        f"{path} to be a list of objects, COCO, Label Studio or iMaterialist", got, "one object a photo"
    )


def _frame(objects: Sequence[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for one in objects for name in one)
    columns = {}
    for name in names:
        values = [one.get(name) for one in objects]
        if any(isinstance(value, list) for value in values):
            columns[name] = pl.Series(name, [_words(value) for value in values], pl.List(pl.String))
        else:
            columns[name] = pl.Series(name, [spelt(value) for value in values], pl.String)
    return pl.DataFrame(columns)


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [spelt(one) for one in values if one is not None and one != ""]


def _choices(frame: pl.DataFrame) -> pl.DataFrame:
    """Label Studio's {"choices": [...]} as the list that it holds."""
    found = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Struct) and len(dtype.fields) == 1]
    found = [name for name in found if frame.schema[name].fields[0].name == "choices"]  # type: ignore[attr-defined]
    return frame.with_columns(pl.col(name).struct.field("choices").alias(name) for name in found)


def _single(frame: pl.DataFrame) -> pl.DataFrame:
    """List columns with one word at most in each row, as words: an exclusive group, as of class folders."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    alone = [name for name in lists if (frame[name].list.len().max() or 0) <= 1]  # type: ignore[operator]
    return frame.with_columns(pl.col(name).list.first().fill_null("") for name in alone)


def _numbers(content: bytes) -> np.ndarray:
    """The numbers of the lines that hold anything."""
    filled = (number for number, line in enumerate(io.BytesIO(content), 1) if line.strip())
    return np.fromiter(filled, np.int64)


def _is_object(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        try:
            return isinstance(json.loads(file.readline()), dict)
        except (ValueError, RecursionError):
            return False
