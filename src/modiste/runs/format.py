"""The format of the folders that modiste makes: of runs, blends, comparisons and cross-validations alike."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from modiste.errors import RunError
from modiste.files import write_text

# Raised when a folder is written that an older modiste would misread. 2: recipes name `loss.groups`.
FOLDER_FORMAT = 2
FORMAT_FILE = "format.json"


def write_format(folder: Path) -> None:
    """Write down the format of a new folder, and the modiste that made it.

    Raises:
        StorageError: it can't be written.
    """
    facts = {"format": FOLDER_FORMAT, "modiste": metadata.version("modiste")}
    write_text(folder / FORMAT_FILE, json.dumps(facts) + "\n")


def check_format(folder: Path) -> None:
    """Refuse a folder that a newer modiste made in a newer format; a folder that names no format is of format 1.

    Raises:
        RunError: it is newer, or its format can't be read.
    """
    path = folder / FORMAT_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        found, version = int(facts["format"]), str(facts["modiste"])
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError.expected(f"{path} to name a format", f"'{error}'", "the file as it was written") from error
    if found > FOLDER_FORMAT:
        got, own = f"format {found}, of modiste {version}", metadata.version("modiste")
        raise RunError.expected(f"{folder} to be of format {FOLDER_FORMAT}", got, f"modiste {version}; this is {own}")
