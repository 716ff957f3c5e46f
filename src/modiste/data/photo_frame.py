"""Which columns name the photo, its split, group and fold: Table -> the frame of a Manifest.

The rules stand in docs/reference/manifest.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from modiste.config import DataConfig
from modiste.data.folders import SPLITS
from modiste.data.label_columns import require_column
from modiste.data.photo_columns import FETCHED, ROLES, find_path_and_url, local_path
from modiste.data.table import Table, column_key
from modiste.errors import ManifestError

_OPTIONS = {"path": "--image-column", "split": "--split-column", "group": "--group-column", "fold": "--fold-column"}
_SAMPLE = 200  # cells that show what a column holds


def find_roles(
    table: Table, config: DataConfig, label_names: Sequence[str], own: bool
) -> tuple[dict[str, str], list[str]]:
    """Which column is the path, the id, the url, the split, the group and the fold, and what was guessed.

    `own`: the file was written by modiste, so that its columns are called by their roles.
    """
    columns = table.frame.columns
    taken = {*(config.label_columns or ()), *label_names}
    named = {
        "path": config.image_column,
        "split": config.split_column,
        "group": config.group_column,
        "fold": config.fold_column,
    }
    for role, column in named.items():
        if column is not None:
            require_column(table, column, _OPTIONS[role])
    given = {role: column for role, column in named.items() if column is not None} | {
        role: column for role, column in table.roles.items() if named.get(role) is None
    }
    if own:
        free = {name.lower(): name for name in reversed(columns) if name not in taken}
        return {role: given.get(role) or free[role] for role in ROLES if role in given or role in free}, []
    found, notes = find_path_and_url(columns, _samples(table.frame), {*taken, *given.values()})
    free = {column_key(name): name for name in reversed(columns) if name not in taken}
    roles = {}
    for role, names in ROLES.items():
        column = given.get(role)
        if column is None and role in ("path", "url"):
            column = found.get(role)
        elif column is None:
            column = next((free[name] for name in names if name in free), None)
            if column is not None and role in _OPTIONS and _holds_flags(table.frame[column]):
                notes.append(
                    f"'{column}' holds 1 and 0: taken for a label; {_OPTIONS[role]} {column} takes it for the {role}."
                )
                column = None
        if column is not None:
            roles[role] = column
    if roles.get("id") == "product_id" and table.frame["product_id"].is_duplicated().any():
        del roles["id"]  # several photos of one product: a group, not an id
    return roles, notes


def photo_frame(
    table: Table, roles: dict[str, str], others: Sequence[str], *, own: bool
) -> tuple[pl.DataFrame, list[str]]:
    """The columns of `Manifest.frame`, checked, a row of the table each; and what was guessed.

    `own`: the file was written by modiste, so that nothing has to be guessed.

    Raises:
        ManifestError: a row names no photo, or a split or fold is none.
    """
    cells = {role: _words(table.frame[column]).alias(role) for role, column in roles.items()}
    notes: list[str] = []
    if "path" not in cells:
        cells["path"] = _path_from_id(table, cells)
    if not own:
        cells["path"], told = _local(cells["path"], table.path)
        notes += told
    repeated = cells["id"].is_duplicated() & (cells["id"] != "") if "id" in cells and not own else None
    if repeated is not None and repeated.any() and _differ(cells, repeated):
        if "group" not in cells:
            cells["group"] = cells["id"].alias("group")
            notes.append(f"Several photos have one '{roles['id']}': they are one product and stay in one split.")
        cells["id"] = pl.select(pl.when(repeated).then(pl.lit("")).otherwise(cells["id"]).alias("id")).to_series()
    names = pl.DataFrame([cells[role] for role in ("id", "path", "url") if role in cells])
    cells["id"] = names.select(pl.coalesce(pl.all().replace("", None)).fill_null("").alias("id"))["id"]
    if "split" in cells:
        cells["split"] = _split(table, cells["split"], roles["split"])
    if "fold" in cells:
        cells["fold"] = _fold(table, cells["fold"], roles["fold"])
    extras = [table.frame[name] for name in others if name not in ROLES]
    order = [cells[role] for role in ROLES if role in cells]
    frame = pl.DataFrame(order + [_words(one) for one in extras])
    _refuse_blank(table, frame)
    return frame, notes


def unfetched(frame: pl.DataFrame) -> pl.Series:
    """Which rows of a manifest's frame name a photo that fetch tried and couldn't get."""
    if not set(frame.columns) >= FETCHED:
        return pl.Series([False]).new_from_index(0, len(frame))
    return (frame["path"] == "") & (frame["status"] != "fetched")


def photo_key(frame: pl.DataFrame) -> str:
    """The column of a manifest's frame that names a photo once."""
    return "id" if (frame["path"] == "").all() else "path"


def _words(cells: pl.Series) -> pl.Series:
    return cells.list.join("|").fill_null("") if cells.dtype == pl.List else cells


def _local(cells: pl.Series, table: Path) -> tuple[pl.Series, list[str]]:
    """Paths as this system has them."""
    notes = []
    remote = cells.str.starts_with("file://")
    if remote.any():
        cells = cells.map_elements(local_path, pl.String)
    cells = cells.str.replace(r"^(\./)+", "")
    backslashes = cells.str.contains("\\", literal=True)
    if backslashes.any() and not Path(table.parent, cells.filter(backslashes)[0]).exists():
        cells = cells.str.replace_all("\\", "/", literal=True).str.replace(r"^\./", "")
        notes.append(f"Backslashes in the paths of {table.name} part folders, as on Windows.")
    return cells, notes


def _differ(cells: Mapping[str, pl.Series], repeated: pl.Series) -> bool:
    """Whether rows of one id name different photos."""
    places = [cells[role] for role in ("path", "url") if role in cells]
    frame = pl.DataFrame([cells["id"], *places]).filter(repeated)
    return frame.n_unique() > frame["id"].n_unique()


def _samples(frame: pl.DataFrame) -> dict[str, list[str]]:
    """Filled cells from the beginning of each column."""
    head = frame.head(5 * _SAMPLE)
    return {
        name: [] if head[name].dtype == pl.List else head[name].filter(head[name] != "").head(_SAMPLE).to_list()
        for name in frame.columns
    }


def _holds_flags(cells: pl.Series) -> bool:
    return cells.dtype == pl.String and set(cells.unique().to_list()) <= {"0", "1", "0.0", "1.0", ""}


def _path_from_id(table: Table, cells: dict[str, pl.Series]) -> pl.Series:
    """images/{id}.jpg as in Kaggle's fashion set; without a folder of that name, nothing if there are URLs."""
    styles = {"masterCategory", "articleType"} <= set(table.frame.columns)
    if "id" in cells and (styles or (table.path.parent / "images").is_dir()):
        return ("images/" + cells["id"] + ".jpg").alias("path")
    if "url" in cells:
        return pl.Series("path", [""]).new_from_index(0, len(table.frame)).alias("path")
    known = ", ".join(f"'{name}'" for name in table.frame.columns)
    raise ManifestError.expected(f"a column of photo paths in {table.path}", f"only {known}", "--image-column")


def _refuse_blank(table: Table, frame: pl.DataFrame) -> None:
    key = photo_key(frame)
    blank = frame["id"] == "" if key == "id" else (frame["path"] == "")
    if key == "path" and "url" in frame.columns:
        blank &= frame["url"] == ""
    if blank.any() and not set(table.frame.columns) >= FETCHED:
        where = f"{table.first(blank)} of {table.path}"
        raise ManifestError.expected(f"{where} to name a photo", "a blank", "filling it in or removing the row")


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
