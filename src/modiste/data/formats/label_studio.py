"""Label Studio's JSON export: tasks with their data and annotations."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import polars as pl

from modiste.errors import ManifestError

_LOCAL = "/data/local-files/"
_UPLOADED = "/data/"


def is_label_studio(content: list[Any]) -> bool:
    """Whether a JSON document is one."""
    first = content[0] if content else None
    return isinstance(first, dict) and isinstance(first.get("data"), dict) and "annotations" in first


def label_studio_frame(tasks: list[dict[str, Any]], path: object) -> tuple[pl.DataFrame, list[str]]:
    """A row a task: its id, its data, and a list column of choices for each control; and what was guessed.

    Of several annotations of a task the newest counts; a cancelled one never does.

    Raises:
        ManifestError: a task has no data.
    """
    rows, columns, several = [], dict[str, None](), 0
    for number, task in enumerate(tasks, 1):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise ManifestError.expected(
                f"task {number} of {path} to have data", "none", "a JSON export of Label Studio"
            )
        done = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
        several += len(done) > 1
        row: dict[str, Any] = {"id": str(task.get("id", number))}
        for name, value in task["data"].items():
            if isinstance(value, str):
                row[name] = _place(value)
        newest: dict[str, Any] = max(
            done, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""), default={}
        )
        for region in newest.get("result", []):
            value = region.get("value", {})
            chosen = next((value[kind] for kind in ("choices", "rectanglelabels", "labels") if kind in value), None)
            if isinstance(chosen, list):
                name = str(region.get("from_name") or "labels")
                columns.setdefault(name)
                row.setdefault(name, [])
                row[name] += [str(word) for word in chosen if str(word) not in row[name]]
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row if name not in columns)
    schema = {name: pl.String for name in names} | {name: pl.List(pl.String) for name in columns}
    notes = [f"{several:,} tasks have several annotations: the newest of each counts."] if several else []
    return pl.DataFrame(rows, schema=schema), notes


def _place(value: str) -> str:
    """Where a photo lies, as a path, where Label Studio gives the address that its own server has."""
    if value.startswith(_LOCAL):
        return unquote(parse_qs(urlsplit(value).query).get("d", [value])[0])
    return unquote(value.removeprefix(_UPLOADED)) if value.startswith(_UPLOADED) else value
