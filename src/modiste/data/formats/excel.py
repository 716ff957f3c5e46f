"""Spreadsheet files: .xlsx, .xlsb, .xls and .ods."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from modiste.errors import ManifestError

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


def read_sheet(path: Path, sheet: str | None) -> pl.DataFrame:
    """One sheet of a file, every cell as str.

    Args:
        path: the file.
        sheet: its name; None takes the only sheet that has rows.

    Raises:
        ManifestError: it is no such file, or several sheets have rows.
    """
    import fastexcel

    try:
        book = fastexcel.read_excel(path)
        sheets = {name: book.load_sheet(name, n_rows=1) for name in book.sheet_names}
    except fastexcel.FastExcelError as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ManifestError.expected(f"{path} to be a spreadsheet", f"'{reason}'", "saving it as CSV") from error
    if sheet is None:
        filled = [name for name, one in sheets.items() if one.height]
        if len(filled) > 1:
            got, first = ", ".join(f"'{name}'" for name in filled), filled[0]
            raise ManifestError.expected(f"{path} to have one sheet with rows", got, f"--sheet '{first}'")
        sheet = filled[0] if filled else next(iter(sheets))
    elif sheet not in sheets:
        known = ", ".join(f"'{name}'" for name in sheets)
        raise ManifestError.expected(f"sheet '{sheet}' in {path}", f"only {known}", "--sheet with one of these")
    frame: pl.DataFrame = book.load_sheet(sheet, dtypes="string").to_polars()
    return frame.select(name for name in frame.columns if not name.startswith("__UNNAMED__"))
