"""The verb fetch. What it needs is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from modiste.cli.options import (
    AllowPrivate,
    ConnectTimeout,
    Encoding,
    IgnoreOptOut,
    Json,
    MaxBytes,
    PerHost,
    Rate,
    ReadTimeout,
    Retries,
    Sheet,
    TotalTimeout,
    UserAgent,
    Workers,
)
from modiste.cli.output import print_json


def fetch(
    urls: Annotated[Path, typer.Argument(metavar="LIST", help="Table with a URL column, or a text file of URLs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for photos and manifest.csv.")],
    size: Annotated[
        int | None,
        typer.Option(min=16, help="Resize to this shorter side, in pixels. Default: keep the file as it is."),
    ] = None,
    kind: Annotated[
        Literal["files", "webdataset", "parquet"],
        typer.Option("--format", help="One file per photo, or shards of many photos."),
    ] = "files",
    shard_size: Annotated[int | None, typer.Option(min=1, help="Photos per shard. Default: 1000.")] = None,
    url_column: Annotated[str | None, typer.Option(help="Column of URLs.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that names the files.")] = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry failed photos only.")] = False,
    workers: Workers = None,
    per_host: PerHost = None,
    rate: Rate = None,
    connect_timeout: ConnectTimeout = None,
    read_timeout: ReadTimeout = None,
    total_timeout: TotalTimeout = None,
    retries: Retries = None,
    max_bytes: MaxBytes = None,
    allow_private: AllowPrivate = False,
    ignore_opt_out: IgnoreOptOut = False,
    user_agent: UserAgent = None,
    as_json: Json = False,
) -> None:
    """Fetch photos from a list of URLs, verify each, and write a manifest.

    Every photo is decoded before it is kept. Run the same command again to resume it; failed photos are retried
    only with --retry-failed, or once --allow-private or --ignore-opt-out allows what had been refused.

    Examples:

        modiste fetch test.txt -o photos

        modiste fetch catalogue.csv -o photos --size 299 --user-agent "shop-bot (bot@shop.example)"

        modiste fetch catalogue.csv -o photos --retry-failed
    """
    limits = {"workers": workers, "per_host": per_host, "rate": rate, "retries": retries, "max_bytes": max_bytes}
    times = {"connect_timeout": connect_timeout, "read_timeout": read_timeout, "total_timeout": total_timeout}
    manners = {"allow_private": allow_private, "ignore_opt_out": ignore_opt_out, "user_agent": user_agent}
    _fetch(
        _UrlList(urls, url_column, id_column, encoding, sheet),
        output,
        {"size": size, "output": kind, "shard_size": shard_size, **limits, **times, **manners},
        retry_failed=retry_failed,
        as_json=as_json,
    )


class _UrlList(NamedTuple):
    """A list of URLs, its columns where they are named, and how its file is to be read."""

    path: Path
    url_column: str | None
    id_column: str | None
    encoding: str | None
    sheet: str | None


def _fetch(
    urls: _UrlList,
    folder: Path,
    settings: dict[str, Any],
    *,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Fetch and show it."""
    from modiste.cli.progress import console, fetching
    from modiste.cli.tables import print_fetched
    from modiste.fetching.config import FetchConfig
    from modiste.fetching.fetch import fetch as fetch_photos
    from modiste.fetching.listing import Listing

    config = FetchConfig.of(settings)
    listing = Listing.open(
        urls.path,
        url_column=urls.url_column,
        id_column=urls.id_column,
        encoding=urls.encoding,
        sheet=urls.sheet,
    )
    try:
        with fetching() as progress:
            summary = fetch_photos(listing, folder, config, retry_failed=retry_failed, progress=progress)
    except KeyboardInterrupt:
        console.print("modiste: stopped; run the same command again to resume")
        raise typer.Exit(130) from None
    for note in listing.notes:
        console.print(note, markup=False)
    if as_json:
        print_json(summary.to_dict())
    else:
        print_fetched(summary)
    console.print(f"manifest: {summary.manifest}", markup=False)
    if summary.failures:
        raise typer.Exit(1)
