"""The commands cache ls and cache prune."""

from __future__ import annotations

from typing import Annotated

import typer

from modiste.cli.options import (
    Json,
)
from modiste.cli.output import print_json

cache_app = typer.Typer(
    no_args_is_help=True,
    help="What is computed once and kept: features of locked layers, decoded photos.\n\n"
    "It lies in MODISTE_CACHE, else ~/.cache/modiste, and grows to MODISTE_CACHE_GB, else half of the free disk; "
    "what was used longest ago goes first. Removing it costs time, never results.",
)


@cache_app.command("ls")
def list_cache(as_json: Json = False) -> None:
    """List what is kept, the last used first."""
    from modiste.cli.tables import print_table
    from modiste.storage.cache import budget, cache_folder, entries

    found = entries()
    total, limit = sum(entry.bytes for entry in found), budget()
    if as_json:
        kept = [
            {"folder": str(one.folder), "bytes": one.bytes, "used": one.used, "facts": dict(one.facts)} for one in found
        ]
        print_json({"folder": str(cache_folder()), "bytes": total, "budget": limit, "entries": kept})
        return
    rows = [(one.folder.name, one.words, f"{one.bytes / 1e6:,.1f}", one.age) for one in found]
    title = f"{cache_folder()}: {total / 1e9:.2f} of at most {limit / 1e9:.1f} GB"
    print_table(title, ["entry", "what", "MB", "used"], rows)


@cache_app.command("prune")
def prune_cache(
    to_gb: Annotated[float, typer.Option("--to-gb", min=0, help="Keep at most this much; 0 removes all.")] = 0.0,
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, help="Only what was not used for so many days.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove what was used longest ago; what was used in the last ten minutes stays, since it may be in use.

    Examples:

        modiste cache prune

        modiste cache prune --to-gb 20

        modiste cache prune --unused-days 30
    """
    from modiste.cli.tables import print_words
    from modiste.storage.cache import cache_folder, prune

    removed, kept = prune(int(min(to_gb, 1e9) * 1e9), 0.0 if unused_days is None else unused_days * 86400)
    freed = sum(entry.bytes for entry in removed)
    if as_json:
        print_json({"folder": str(cache_folder()), "removed": [one.folder.name for one in removed], "freed": freed})
        return
    in_use = sum(entry.in_use for entry in kept)
    beside = f"; {in_use} in use stay" if in_use else ""
    print_words(f"{len(removed)} entries removed from {cache_folder()}, {freed / 1e6:,.1f} MB freed{beside}")
