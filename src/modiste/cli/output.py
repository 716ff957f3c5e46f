"""How a command answers: one JSON document, failures by name, an exit code; and what is logged on the way."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from modiste.errors import ModisteError
from modiste.words import counted

logger = logging.getLogger("modiste")  # of the whole package: what it falls back to, and why


class _Words(logging.Handler):
    """Log lines above the progress bars on stderr; with a traceback where `--debug` asks for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from modiste.cli.progress import console

        console.print(f"modiste: {record.getMessage()}", markup=False)
        if record.exc_info and debugging():
            console.print("".join(traceback.format_exception(*record.exc_info)), markup=False, end="")


def show_log(level: int = logging.WARNING) -> None:
    """Show what the library logs on stderr: warnings, with INFO also what it falls back to, with DEBUG all of it."""
    logger.handlers = [_Words()]
    logger.setLevel(level)


def log_level() -> int:
    """The level that `show_log` was given last."""
    return logger.level


def debugging() -> bool:
    """Whether `--debug` was given."""
    return log_level() <= logging.DEBUG


@contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes that train together and meet the same error, only the first one says so."""
    try:
        yield
    except ModisteError as error:
        if first_process():
            raise
        raise typer.Exit(error.exit_code) from error


def shown_path(path: Path) -> Path:
    """A path as it is typed from here: seen from the current folder where it lies inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


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
        typer.echo(f"modiste: {failed:,} of {counted(photos, 'photo')} failed", err=True)
        raise typer.Exit(1)


def print_json(data: dict[str, Any]) -> None:
    """Print `data` on stdout, indented, as UTF-8."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1))


def first_process() -> bool:
    """Whether this is the only or the first of several processes that train together."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
