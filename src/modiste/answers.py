"""How a command answers: one JSON document, failures by name, an exit code."""

import json
import os
from typing import Any

import typer


def name_failures(errors: list[str], photos: int, *, most: int | None = None) -> None:
    """Name each photo that failed, or the first `most`, on stderr, and end with exit code 1 if there was any."""
    for error in errors[:most]:
        typer.echo(f"modiste: {error}", err=True)
    if errors[:most] != errors:
        typer.echo(f"modiste: and {len(errors[most:])} more", err=True)
    if errors:
        typer.echo(f"modiste: {len(errors)} of {photos} photos failed", err=True)
        raise typer.Exit(1)


def print_json(data: dict[str, Any]) -> None:
    """Print `data` on stdout, indented, as UTF-8."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1))


def first_process() -> bool:
    """Whether this is the only or the first of several processes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
