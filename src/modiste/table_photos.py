"""Photos that a table names, as a stream: by a column of paths, URLs or (Parquet) bytes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path

from modiste.errors import ManifestError, PhotoError
from modiste.items import Item, Load, Source, Url, batches
from modiste.listing import estimate, open_table
from modiste.parquet_photos import bytes_column, photos_of
from modiste.roles import ROLES
from modiste.tables import beside, check_file

_REMOTE = re.compile(r"https?://", re.IGNORECASE)


def photos_in(path: Path, image_column: str | None, root: str | None) -> Source:
    """The photos that a table names.

    Args:
        path: the table.
        image_column: of paths, URLs or bytes; None finds it by its name.
        root: folder that relative paths start from; None takes the table's.

    Raises:
        ManifestError: it can't be read, or names no photos.
    """
    check_file(path)
    if path.suffix.lower() == ".parquet":
        column = bytes_column(path, image_column)
        if column is not None:
            return photos_of(path, *column)
    columns, read, _ = open_table(path)
    item = _reader(path, columns, image_column, _root(path, root))

    def parts(size: int) -> Iterator[Load]:
        for chunk in batches(enumerate(read(), 1), size):
            yield partial(starmap, item, chunk)

    return Source(partial(estimate, path), parts)


def _root(path: Path, root: str | None) -> Path:
    """Where relative paths start from: as asked, as modiste wrote beside the table, or the table's own folder."""
    if root is not None:
        return Path(root)
    own = json.loads(beside(path).read_text(encoding="utf-8")) if beside(path).is_file() else {}
    return path.parent / str(own.get("root", ""))


def _reader(
    path: Path, columns: Sequence[str], image_column: str | None, root: Path
) -> Callable[[int, Sequence[str]], Item]:
    """What makes an Item of a row."""
    lower = {name.lower(): k for k, name in reversed(list(enumerate(columns)))}
    names = {"id": ("id",), "path": ROLES["path"], "url": ROLES["url"]}  # a product_id may have several photos
    roles = {role: next((lower[name] for name in names[role] if name in lower), None) for role in names}
    if image_column is not None:
        if image_column not in columns:
            known = ", ".join(f"'{column}'" for column in columns[:20])
            raise ManifestError.expected(f"column '{image_column}' in {path}", f"only {known}", "one of these")
        roles["path"] = columns.index(image_column)
    if all(at is None for at in roles.values()):
        known = ", ".join(f"'{column}'" for column in columns[:20])
        raise ManifestError.expected(f"a column of photo paths or URLs in {path}", f"only {known}", "--image-column")
    # By their ids alone photos are called as in the challenge's lists, or as in Kaggle's fashion set.
    folder = "images" if {"masterCategory", "articleType"} <= set(columns) or (root / "images").is_dir() else ""

    def item(number: int, cells: Sequence[str]) -> Item:
        id_, place, url = ("" if at is None else cells[at] for at in roles.values())
        if not (id_ or place or url):
            error = PhotoError.expected(f"row {number} of {path} to name a photo", "a blank", "filling it in")
            return Item(f"row {number}", error)
        if _REMOTE.match(place):
            url, place = place, ""
        file = root / (place or f"{folder}/{id_}.jpg".lstrip("/"))
        remote = url and (not (place or id_) or not os.path.isfile(file))  # noqa: PTH113  Path raises for a name that is too long
        return Item(id_ or place or url, Url(url) if remote else file)

    return item
