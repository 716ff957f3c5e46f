"""Which columns name the photo, its split, group and fold: Table -> the frame of a Manifest.

The rules stand in docs/reference/manifest.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from modiste.config import DataConfig
from modiste.data.label_columns import require_column
from modiste.data.tables import SPLITS, Table
from modiste.errors import ManifestError

# What a column may be called where no option names it; the first that is there wins, in
# upper or lower case. The order of the roles is their order in Manifest.frame.
ROLES = {
    "id": ("id", "product_id"),
    "path": ("image", "file", "path", "filename", "filepath", "photo", "img", "image_path", "file_name"),
    "url": ("url", "image_url", "link"),
    "split": ("split", "set", "subset"),
    "group": ("group", "group_id", "product", "product_id"),
    "fold": ("fold",),
}
_OPTIONS = {"path": "--image-column", "split": "--split-column", "group": "--group-column", "fold": "--fold-column"}


def find_roles(table: Table, config: DataConfig, label_names: Sequence[str], own: bool) -> dict[str, str]:
    """Which column is the path, the id, the url, the split, the group and the fold.

    `own`: the file was written by modiste, so that its columns are called by their roles.
    """
    columns = table.frame.columns
    taken = {*(config.label_columns or ()), *label_names}
    free = {name.lower(): name for name in reversed(columns) if name not in taken}
    named = {
        "path": config.image_column,
        "split": config.split_column,
        "group": config.group_column,
        "fold": config.fold_column,
    }
    roles = {}
    for role, names in ROLES.items():
        column = named.get(role)
        if column is not None:
            require_column(table, column, _OPTIONS[role])
        else:
            column = next((free[name] for name in ((role,) if own else names) if name in free), None)
        if column is not None:
            roles[role] = column
    if roles.get("id") == "product_id" and table.frame["product_id"].is_duplicated().any():
        del roles["id"]  # several photos of one product: a group, not an id
    return roles


def photo_frame(table: Table, roles: dict[str, str], others: Sequence[str], *, strict: bool = True) -> pl.DataFrame:
    """The columns of `Manifest.frame`, checked; `strict`: no two rows may name one photo."""
    cells = {role: table.frame[column].alias(role) for role, column in roles.items()}
    if "path" not in cells:
        cells["path"] = _path_from_id(table, cells)
    names = pl.DataFrame([cells[role] for role in ("id", "path", "url") if role in cells])
    cells["id"] = names.select(pl.coalesce(pl.all().replace("", None)).fill_null("").alias("id"))["id"]
    if "split" in cells:
        cells["split"] = _split(table, cells["split"], roles["split"])
    if "fold" in cells:
        cells["fold"] = _fold(table, cells["fold"], roles["fold"])
    extras = [table.frame[name] for name in others if name not in ROLES]
    order = [cells[role] for role in ROLES if role in cells]
    frame = pl.DataFrame(order + [s.list.join("|") if s.dtype == pl.List else s for s in extras])
    key = "id" if (frame["path"] == "").all() else "path"
    _refuse_blank(table, frame, key)
    if strict:
        _refuse_twice(table, frame[key])
    return frame


def _path_from_id(table: Table, cells: dict[str, pl.Series]) -> pl.Series:
    """images/{id}.jpg as in Kaggle's fashion set; without a folder of that name, nothing if there are URLs."""
    styles = {"masterCategory", "articleType"} <= set(table.frame.columns)
    if "id" in cells and (styles or (table.path.parent / "images").is_dir()):
        return ("images/" + cells["id"] + ".jpg").alias("path")
    if "url" in cells:
        return pl.Series("path", [""]).new_from_index(0, len(table.frame)).alias("path")
    known = ", ".join(f"'{name}'" for name in table.frame.columns)
    raise ManifestError.expected(f"a column of photo paths in {table.path}", f"only {known}", "--image-column")


def _refuse_blank(table: Table, frame: pl.DataFrame, key: str) -> None:
    blank = frame["id"] == "" if key == "id" else (frame["path"] == "")
    if key == "path" and "url" in frame.columns:
        blank &= frame["url"] == ""
    if blank.any():
        where = f"{table.first(blank)} of {table.path}"
        raise ManifestError.expected(f"{where} to name a photo", "a blank", "filling it in or removing the row")


def _refuse_twice(table: Table, names: pl.Series) -> None:
    twice = names.is_duplicated() & (names != "")
    if twice.any():
        k = int(twice.arg_true()[0])
        rows = (names == names[k]).arg_true()
        raise ManifestError.expected(
            f"photos of {table.path} to differ",
            f"'{names[k]}' in {table.row(k)} and {table.row(int(rows[1]))}",
            "one row a photo",
        )


def _split(table: Table, cells: pl.Series, column: str) -> pl.Series:
    words = cells.str.to_lowercase()
    wrong = ~words.is_in([*SPLITS, ""])
    if wrong.any():
        raise ManifestError.expected(
            f"'{column}' in {table.first(wrong)} of {table.path} to be train, val, test or blank",
            f"'{cells.filter(wrong)[0]}'",
            "one of these, or --split-column with another column",
        )
    return words.replace(SPLITS)


def _fold(table: Table, cells: pl.Series, column: str) -> pl.Series:
    numbers = cells.cast(pl.Float64, strict=False)
    wrong = (cells != "") & (numbers.is_null() | (numbers < 0) | (numbers != numbers.floor())).fill_null(True)
    if wrong.any():
        raise ManifestError.expected(
            f"'{column}' in {table.first(wrong)} of {table.path} to be a whole number from 0",
            f"'{cells.filter(wrong)[0]}'",
            "numbering the folds",
        )
    return numbers.fill_null(-1).cast(pl.Int64)
