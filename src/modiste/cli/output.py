"""How a command answers: one JSON document, failures by name, an exit code."""

import json
import os
from collections.abc import Sequence
from typing import Any

import typer


def name_failures(errors: Sequence[str], photos: int, *, most: int | None = None, failed: int | None = None) -> None:
    """Name each photo that failed, or the first `most`, on stderr, and end with exit code 1 if there was any.

    `failed` is how many did, where `errors` are not all.
    """
    failed = len(errors) if failed is None else failed
    named = errors[:most]
    for error in named:
        typer.echo(f"modiste: {error}", err=True)
    if failed > len(named):
        typer.echo(f"modiste: and {failed - len(named):,} more", err=True)
    if failed:
        typer.echo(f"modiste: {failed} of {photos} photos failed", err=True)
        raise typer.Exit(1)


def print_json(data: dict[str, Any]) -> None:
    """Print `data` on stdout, indented, as UTF-8."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1))


def first_process() -> bool:
    """Whether this is the only or the first of several processes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
