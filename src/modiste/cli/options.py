"""Options that several commands share, as types, and how their values reach the configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.config import DataConfig

PhotoList = Annotated[Path | None, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="New folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file to write, if there is one.")]
Resume = Annotated[Path | None, typer.Option(help="Folder of a killed job to resume; no other options.")]
RecipeName = Annotated[str | None, typer.Option(help="Name of a built-in recipe, or a TOML file. Default: quick.")]
Weights = Annotated[
    str | None,
    typer.Option(help="'hub', 'none', a safetensors file, or a folder of BACKBONE.safetensors. Default: the recipe's."),
]
Assign = Annotated[
    list[str] | None, typer.Option("--set", help="Any recipe key: train.batch_size=32, stages.0.lr=1e-4.")
]
Accelerator = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Kind of device to compute on.")]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Don't use the cache: decode photos and run frozen layers anew in each epoch."),
]
_DATA = "Reading the manifest"
Labels = Annotated[str | None, typer.Option("--labels", help="Label columns, comma separated.", rich_help_panel=_DATA)]
LabelFile = Annotated[
    str | None,
    typer.Option("--label-set", help="'jd2018' or a TOML/JSON file of labels.", rich_help_panel=_DATA),
]
Delimiter = Annotated[
    Literal[",", ";", "|", " "] | None,
    typer.Option(help="Separator between the labels of one cell: , ; | or a space.", rich_help_panel=_DATA),
]
ImageColumn = Annotated[str | None, typer.Option(help="Column of photo paths.", rich_help_panel=_DATA)]
SplitColumn = Annotated[
    str | None, typer.Option(help="Column with the split of each photo: train, val or test.", rich_help_panel=_DATA)
]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="Column of products or people; photos of one group stay in one split.", rich_help_panel=_DATA),
]
FoldColumn = Annotated[str | None, typer.Option(help="Column of fold numbers.", rich_help_panel=_DATA)]
Fold = Annotated[
    int | None, typer.Option(help="Fold to validate on; the others are trained on.", rich_help_panel=_DATA)
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename", help="OLD=NEW for a label, or a table with the columns old and new.", rich_help_panel=_DATA
    ),
]
KeepAsLabel = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-as-label", help="Word such as NA or None that is a label, not unknown.", rich_help_panel=_DATA
    ),
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of a text file. Default: UTF-8, or guessed.", rich_help_panel=_DATA)
]
Sheet = Annotated[
    str | None, typer.Option(help="Sheet of a spreadsheet. Default: the only one with rows.", rich_help_panel=_DATA)
]
MinPositives = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Training photos that a label needs; labels with fewer are left out. Default: the recipe's, or 10.",
        rich_help_panel=_DATA,
    ),
]
Root = Annotated[str | None, typer.Option(help="Folder that relative paths start from.", rich_help_panel=_DATA)]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "-m", "--model", help="Run, blend or exported file; several are averaged. Default: the bundled model, garments."
    ),
]
Views = Annotated[
    Literal["one", "flip", "flip+translate"] | None,
    typer.Option(help="Test-time augmentation. Default: the recipe's."),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        help="fixed:0.5 (the paper's rule; any number) or top:3, for this command only. Default: the tuned thresholds."
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        help="fixed:0.5, fbeta:2, precision:0.9, recall:0.9 or top:3; append '+never-empty' for at least one label. "
        "Default: the recipe's."
    ),
]
CalibrationMethod = Annotated[
    Literal["none", "auto", "temperature", "platt", "isotonic"] | None,
    typer.Option(
        "--calibration",
        help="Calibration method; auto chooses one for each label by cross-validation. Default: the recipe's.",
    ),
]
_LIMITS = "Limits"
Workers = Annotated[int | None, typer.Option(min=1, help="Concurrent requests. Default: 64.", rich_help_panel=_LIMITS)]
PerHost = Annotated[
    int | None, typer.Option(min=1, help="Concurrent requests to one host. Default: 16.", rich_help_panel=_LIMITS)
]
Rate = Annotated[
    float | None, typer.Option(min=0.001, help="Most requests per second to one host.", rich_help_panel=_LIMITS)
]
ConnectTimeout = Annotated[
    float | None,
    typer.Option(min=0.1, help="Longest wait for a connection, in seconds. Default: 10.", rich_help_panel=_LIMITS),
]
ReadTimeout = Annotated[
    float | None, typer.Option(min=0.1, help="Longest wait for data, in seconds. Default: 20.", rich_help_panel=_LIMITS)
]
TotalTimeout = Annotated[
    float | None,
    typer.Option(min=0.1, help="Longest attempt in all, in seconds. Default: 60.", rich_help_panel=_LIMITS),
]
Retries = Annotated[
    int | None,
    typer.Option(min=0, help="Further attempts after a temporary failure. Default: 3.", rich_help_panel=_LIMITS),
]
MaxBytes = Annotated[
    int | None, typer.Option(min=1, help="Largest download, in bytes. Default: 30000000.", rich_help_panel=_LIMITS)
]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Allow loopback and private addresses.", rich_help_panel=_LIMITS)
]
IgnoreOptOut = Annotated[
    bool,
    typer.Option(
        "--ignore-opt-out", help="Fetch photos even where the server's X-Robots-Tag says noai.", rich_help_panel=_LIMITS
    ),
]
UserAgent = Annotated[
    str | None, typer.Option(help="User-Agent header; include a way to reach you.", rich_help_panel=_LIMITS)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def assignments(values: dict[str, Any]) -> list[str]:
    """Recipe assignments of the values that are given."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]


def data_assignments(labels: str | None, **values: Any) -> list[str]:
    """Assignments to the recipe's data section, of the options that are given."""
    columns = labels and labels.split(",")
    given = _words(values)
    return assignments({"data.label_columns": columns, **{f"data.{key}": value for key, value in given.items()}})


def data_config(labels: str | None, **values: Any) -> DataConfig:
    """How to read a manifest, of the options that are given."""
    from modiste.config import DataConfig

    given = {key: value for key, value in _words(values).items() if value is not None}
    return DataConfig(label_columns=tuple(labels.split(",")) if labels else None, **given)


def _words(values: dict[str, Any]) -> dict[str, Any]:
    """The options, with renames in pairs, and None in place of an empty list."""
    pairs, kept = renames(values.get("rename")), values.get("keep_as_label") or ()
    return values | {"rename": tuple(pairs) or None, "keep_as_label": tuple(kept) or None}


def renames(values: Iterable[str] | None) -> list[tuple[str, str]]:
    """Old and new names of labels, of the values of --rename.

    Raises:
        UsageError: one is neither OLD=NEW nor a table of renames.
    """
    pairs: list[tuple[str, str]] = []
    for value in values or ():
        if Path(value).is_file():
            from modiste.data.label_values import read_renames
            from modiste.data.tables import read_table

            pairs += read_renames(Path(value), read_table(Path(value)).frame)
            continue
        old, equals, new = value.partition("=")
        if not equals and Path(value).suffix:
            raise UsageError.expected(f"--rename {value} to be a table", "no such file", "another path, or OLD=NEW")
        if not (old.strip() and equals and new.strip()):
            raise UsageError.expected("--rename to be OLD=NEW or a table", f"'{value}'", "--rename Tshirts=T-shirt")
        pairs.append((old.strip(), new.strip()))
    return pairs


def new_file(path: Path, inputs: Iterable[Path | str | None], *, overwrite: bool) -> Path:
    """A file that is to be written, refused early where something would be lost.

    Args:
        path: the file.
        inputs: what the command reads, which is never overwritten.
        overwrite: whether another file may be.

    Raises:
        UsageError: it is one of the inputs, or there is such a file already.
    """
    if path.is_file():
        if any(os.path.exists(one) and path.samefile(one) for one in inputs if one is not None):  # noqa: PTH110
            raise UsageError.expected(f"{path} to be a new file", "one that this command reads", "another name")
        if not overwrite:
            raise UsageError.expected(f"{path} to be a new file", "one that exists", "--overwrite, or another name")
    return path


def new_table(path: Path, manifest: Path, *, overwrite: bool) -> Path:
    """A manifest that is to be made of another one; as `new_file`.

    Raises:
        UsageError: as `new_file`.
        ManifestError: its suffix is none of a table.
    """
    from modiste.data.tables import table_suffix

    table_suffix(path)
    return new_file(path, [manifest], overwrite=overwrite)


def run_folder(manifest: Path | None, output: Path | None, resume: Path | None) -> Path:
    """The folder that training is about.

    Raises:
        UsageError: the arguments name none, or a new and an old run at once.
    """
    if (manifest is None) == (resume is None):
        got = "neither" if manifest is None else "both"
        raise UsageError.expected("MANIFEST or --resume RUN", got, "modiste train photos.csv -o runs/first")
    folder = resume or output
    if folder is None:
        raise UsageError.expected("-o RUN", "none", "-o runs/first")
    return folder
