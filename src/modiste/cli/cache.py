"""The commands cache ls and cache prune."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.cli.options import Json
from modiste.cli.output import print_json
from modiste.errors import UsageError
from modiste.words import counted

if TYPE_CHECKING:
    from modiste.storage.cache import Entry, Pruning

cache_app = typer.Typer(
    no_args_is_help=True,
    help="The cache of frozen-backbone features and decoded photos.\n\n"
    "It lies in MODISTE_CACHE, else ~/.cache/modiste, and grows to MODISTE_CACHE_GB, else half of the free disk; "
    "what was used longest ago goes first. Removing it costs time, never results.",
)


def list_cache(as_json: Json = False) -> None:
    """List the entries of the cache, most recently used first."""
    from modiste.storage.cache import budget, cache_folder, entries

    found = entries()
    total, limit = sum(entry.bytes for entry in found), budget()
    if as_json:
        kept = [
            {"folder": str(one.folder), "bytes": one.bytes, "used": one.used, "facts": dict(one.facts)} for one in found
        ]
        print_json({"folder": str(cache_folder()), "bytes": total, "budget": limit, "entries": kept})
        return
    _print_entries(f"{cache_folder()}: {total / 1e9:.2f} of at most {limit / 1e9:.1f} GB", found)


def prune_cache(
    to_gb: Annotated[
        float | None,
        typer.Option("--to-gb", min=0, help="Remove entries until this many GB are left; 0 empties the cache."),
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, help="Remove only entries not used for this many days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Empty the cache without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the least recently used entries; those used in the last ten minutes stay, as they may be in use.

    Without a limit, or with 0 GB, nothing would be kept: then it shows what would go, and asks.

    Examples:

        modiste cache prune --to-gb 20

        modiste cache prune --unused-days 30

        modiste cache prune --to-gb 0 --yes
    """
    from modiste.cli.tables import print_words
    from modiste.storage.cache import cache_folder, plan_pruning, prune

    limit, unused = int(min(to_gb or 0.0, 1e9) * 1e9), 0.0 if unused_days is None else unused_days * 86400
    if not to_gb and unused_days is None and not yes:
        _ask(plan_pruning(limit, unused), as_json=as_json)
    done = prune(limit, unused)
    if as_json:
        removed = [one.folder.name for one in done.removed]
        print_json({"folder": str(cache_folder()), "removed": removed, "freed": done.freed})
        return
    in_use = sum(entry.in_use for entry in done.kept)
    beside = f"; {in_use} in use {'stays' if in_use == 1 else 'stay'}" if in_use else ""
    print_words(f"{_sum(done)}, removed from {cache_folder()}{beside}")


def _ask(plan: Pruning, *, as_json: bool) -> None:
    """Show what would be removed, if anything, and end unless a person agrees.

    Raises:
        UsageError: there is nobody to ask.
    """
    if not plan.removed:
        return
    if not as_json:
        _print_entries(f"would be removed: {_sum(plan)}", plan.removed)
    if as_json or not sys.stdin.isatty():
        fix = "modiste cache prune --to-gb 0 --yes"
        raise UsageError.expected("--yes, or a person to ask, before all is removed", "neither", fix)
    typer.confirm(f"Remove {_sum(plan)}?", abort=True, err=True)


def _sum(pruning: Pruning) -> str:
    return f"{counted(len(pruning.removed), 'entry', 'entries')}, {pruning.freed / 1e6:,.1f} MB"


def _print_entries(title: str, found: Sequence[Entry]) -> None:
    """A table on stdout."""
    from modiste.cli.tables import print_table

    rows = [(one.folder.name, one.words, f"{one.bytes / 1e6:,.1f}", one.age) for one in found]
    print_table(title, ["entry", "what", "MB", "used"], rows)
