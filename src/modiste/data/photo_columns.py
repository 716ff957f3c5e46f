"""Which columns name the photo: by what they are called, else by what they hold.

The rules stand in docs/reference/manifest.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from modiste.data.cells import REMOTE
from modiste.data.images import PHOTO_SUFFIXES
from modiste.data.table import column_key

# What a column may be called where no option names it, in lower case with "_" for blanks; the first that is there
# wins. The order of the roles is their order in Manifest.frame.
ROLES = {
    "id": ("id", "product_id"),
    "path": (
        *("image", "file", "path", "filename", "filepath", "photo", "img", "image_path", "file_name", "image_name"),
        *("image_file", "photo_path", "img_path", "image_filename"),
    ),
    # A feed's "link" is the page of a product.
    "url": ("url", "image_url", "image_link", "image_src", "photo_url", "img_url", "picture_url", "image_urls", "link"),
    "split": ("split", "set", "subset"),
    "group": ("group", "group_id", "product", "product_id"),
    "fold": ("fold",),
}
# Columns of what fetch wrote: a photo may be missing for a reason.
FETCHED = frozenset({"status", "failure", "error", "http", "final_url", "sha256", "width", "height", "bytes"})
_MOST = 0.8  # of the cells that show what a column holds
_PICTURED = re.compile(r"image|img|photo|foto|pic|bild", re.IGNORECASE)


def find_path_and_url(
    columns: Sequence[str], sample: Mapping[str, Sequence[str]], taken: Iterable[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """The columns of photos' paths and URLs, by their names, else by what they hold; and what was guessed.

    Args:
        columns: of the table.
        sample: filled cells of each column.
        taken: columns that are something else.
    """
    free = {column_key(name): name for name in reversed(columns) if name not in set(taken)}
    roles: dict[str, str] = {}
    notes: list[str] = []
    for role in ("path", "url"):
        column = next((free[name] for name in ROLES[role] if name in free and free[name] not in roles.values()), None)
        if column is not None and role == "path" and _share(sample[column], _is_remote) > _MOST:
            roles["url"] = column  # as tables of web shops call them
        elif column is not None:
            roles.setdefault(role, column)
    if roles.get("url") and column_key(roles["url"]) == "link" and _share(sample[roles["url"]], _is_photo) < 0.5:
        better = _by_content(columns, sample, taken, remote=True)
        if better:
            roles["url"] = better
    if not roles:
        for role, remote in (("path", False), ("url", True)):
            column = _by_content(columns, sample, taken, remote=remote)
            if column is not None:
                roles[role] = column
                notes.append(f"'{column}' holds {'URLs' if remote else 'paths'} of photos: taken for the {role}.")
    return roles, notes


def local_path(cell: str) -> str:
    """A path, also where it is written as a file:// URL."""
    if cell[:8].lower() == "file:///":
        from urllib.parse import unquote

        cell = unquote(cell[7:])
        cell = cell[1:] if re.match(r"/[A-Za-z]:", cell) else cell
    return cell


def _share(cells: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, cells)) / len(cells) if cells else 0.0


def _is_remote(cell: str) -> bool:
    return bool(REMOTE.match(cell))


def _is_photo(cell: str) -> bool:
    return cell.split("?", maxsplit=1)[0].lower().endswith(tuple(PHOTO_SUFFIXES))


def _by_content(
    columns: Sequence[str], sample: Mapping[str, Sequence[str]], taken: Iterable[str], *, remote: bool
) -> str | None:
    """The only column of photos' paths or URLs; of several, the only one that is called like photos."""
    gone = set(taken)
    found = []
    for name in columns:
        urls, photos = _share(sample[name], _is_remote), _share(sample[name], _is_photo)
        fits = urls > _MOST and (photos > _MOST or _PICTURED.search(name)) if remote else photos > _MOST and not urls
        if fits and name not in gone:
            found.append(name)
    pictured = [name for name in found if _PICTURED.search(name)]
    return next(iter(found), None) if len(found) == 1 else next(iter(pictured), None) if len(pictured) == 1 else None
