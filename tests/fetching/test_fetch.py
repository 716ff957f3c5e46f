"""Fetching: servers that behave, that don't, and a fetch that is killed."""

import asyncio
import contextlib
import csv
import email.utils
import gzip
import hashlib
import io
import json
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner
from web import Web, answer

from modiste.cli.app import app
from modiste.data import images
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError, RunError, StorageError, UsageError
from modiste.fetching import download
from modiste.fetching.config import FetchConfig
from modiste.fetching.fetch import fetch
from modiste.fetching.ledger import Ledger
from modiste.fetching.listing import Listing

QUICK = {"allow_private": True, "connect_timeout": 1.0, "read_timeout": 0.5, "total_timeout": 1.5, "retries": 1}
FETCH = [sys.executable, "-m", "modiste", "fetch"]


def jpeg(seed: int = 0, width: int = 60, height: int = 80) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(file, "JPEG")
    return file.getvalue()


def fetched(urls, folder, text=None, **options) -> tuple[pl.DataFrame, Counter]:
    """Fetch a list of URLs, or a whole file's text; the manifest and the failures."""
    path = folder.parent / "list.csv"
    path.write_text(text or "url\n" + "".join(f"{url}\n" for url in urls))
    retry = options.pop("retry_failed", False)
    summary = fetch(Listing.open(path), folder, FetchConfig(**{**QUICK, **options}), retry_failed=retry)
    return pl.read_csv(summary.manifest, infer_schema=False).fill_null(""), summary.failures


def test_photos_come_whole_with_their_facts(tmp_path):
    photos = {f"{k}.jpg": jpeg(k) for k in range(30)}
    with Web(lambda path: answer(photos[path])) as web:
        frame, failures = fetched([web.url(path) for path in photos], tmp_path / "out")
    assert not failures
    assert frame["status"].unique().to_list() == ["fetched"]
    for row, data in zip(frame.iter_rows(named=True), photos.values(), strict=True):
        stored = (tmp_path / "out" / row["path"]).read_bytes()
        assert stored == data
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["width"], row["height"], row["bytes"], row["http"]) == ("60", "80", str(len(data)), "200")
        assert row["final_url"] == row["url"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fetch.sqlite", "manifest.csv", "photos"]


async def _endless(writer, _):
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"\xff\xd8\xff" + bytes(1 << 16))
        await writer.drain()


async def _endless_refusal(writer, _):
    writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
    while True:
        writer.write(bytes(1 << 20))
        await writer.drain()


async def _endless_redirect(writer, _):
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /gone\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        await writer.drain()


async def _odd_words(writer, _):
    writer.write(b"HTTP/1.1 404 \xff\xfe\x1b[31mred\r\nContent-Length: 0\r\n\r\n")


async def _drip(writer, _):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"\xff")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _silent(writer, _):
    await asyncio.sleep(30)


async def _garbage(writer, _):
    writer.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")


async def _cut(writer, _):
    await answer(jpeg()[:500], length=5000)(writer, 0)
    await writer.drain()
    writer.close()


def bomb() -> bytes:
    """A PNG of 50,000 x 50,000 pixels in a few bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    parts = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


HOSTILE = {
    "alien-type": (answer(jpeg(), Content_Type="text/html"), ""),
    "html": (answer(b"<!doctype html><title>no</title>"), "not a photo"),
    "empty": (answer(), "not a photo"),
    "truncated": (answer(jpeg(1, 600, 800)[:-900]), "not a photo"),
    "bomb": (answer(bomb()), "not a photo"),
    "gzip": (answer(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"), "not a photo"),
    "cut": (_cut, "cut off"),
    "endless": (_endless, "too large"),
    "endless-refusal": (_endless_refusal, "http 404"),
    "endless-redirect": (_endless_redirect, "http 404"),
    "odd-words": (_odd_words, "http 404"),
    "odd-date": (answer(status=403, Retry_After="Wed, 21 Oct 2015 07:28:00 +99999999999999999"), "http 403"),
    "odd-number": (answer(status=403, Retry_After="²".encode().decode("latin-1")), "http 403"),
    "announced": (answer(b"", length=10**12), "too large"),
    "drip": (_drip, "timeout"),
    "silent": (_silent, "timeout"),
    "garbage": (_garbage, "connection"),
    "loop": (answer(status=302, Location="/loop"), "redirects"),
    "file": (answer(status=302, Location="file:///etc/passwd"), "bad url"),
    "no-location": (answer(status=302), "redirects"),
    "broken-location": (answer(status=302, Location="http://[::1"), "bad url"),
    "gone": (answer(b"gone", status=404), "http 404"),
    "always-busy": (answer(status=503), "http 503"),
    "noai": (answer(jpeg(), X_Robots_Tag="noai, noimageai"), "opted out"),
    "noai-behind-a-rule": (answer(jpeg(), X_Robots_Tag="max-image-preview:large, noai"), "opted out"),
    "noai-to-all": (answer(jpeg(), X_Robots_Tag="*: noindex, noimageai"), "opted out"),
    "others-noai": (answer(jpeg(), X_Robots_Tag="otherbot: noai"), ""),
    "moved": (answer(status=301, Location="/alien-type"), ""),
}


def test_every_hostile_answer_ends_as_documented(tmp_path):
    folder = tmp_path / "in" / "out"
    folder.parent.mkdir()
    with Web(lambda path: HOSTILE[path][0]) as web:
        frame, failures = fetched([web.url(name) for name in HOSTILE], folder, max_bytes=3_000_000)
        asked = dict(web.asked)
    ends = dict(zip(HOSTILE, frame["failure"], strict=True))
    assert ends == {name: end for name, (_, end) in HOSTILE.items()}
    assert failures == Counter(end for _, end in HOSTILE.values() if end)
    for row in frame.filter(pl.col("status") == "failed").iter_rows(named=True):
        assert row["error"].startswith("Expected http://127.0.0.1:")
        assert row["error"].isprintable()
        assert row["path"] == row["sha256"] == ""
    tried_again = {name for name in HOSTILE if asked[name] > 1} - {"loop", "alien-type", "no-location", "gone"}
    assert tried_again == {"truncated", "cut", "drip", "silent", "garbage", "always-busy"}
    for path in (folder / "photos").iterdir():  # nothing but whole photos
        images.read_photo(path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.parent in (tmp_path, folder.parent)) == [
        "in",
        "list.csv",
        "out",
    ]


def test_as_many_redirects_are_followed_as_the_limit_says(tmp_path):
    def page(path):
        return answer(jpeg()) if path == "0" else answer(status=302, Location=f"/{int(path) - 1}")

    with Web(page) as web:
        frame, _ = fetched([web.url("2"), web.url("3")], tmp_path / "out", redirects=2)
    assert frame["failure"].to_list() == ["", "redirects"]


def test_failures_that_heal_heal(tmp_path):
    times = {}

    def page(path):
        async def send(writer, before):
            times.setdefault(path, []).append(time.monotonic())
            refusal = answer(status=500) if path == "flaky" else answer(status=429, Retry_After="1")
            await (refusal if not before else answer(jpeg()))(writer, before)

        return send

    with Web(page) as web:
        _, failures = fetched([web.url("flaky"), web.url("busy")], tmp_path / "out")
    assert not failures
    first, second = times["busy"]
    assert second - first >= 1


def test_while_one_host_waits_others_go_on(tmp_path):
    def page(path):
        async def send(writer, before):
            if path.startswith("slow"):
                await asyncio.sleep(0.5)
            await answer(jpeg())(writer, before)

        return send

    with Web(page) as slow, Web(page) as quick:
        slow_urls = [slow.url(f"slow{k}").replace("127.0.0.1", "localhost") for k in range(12)]
        began, ends = time.monotonic(), []
        path = tmp_path / "list.csv"
        path.write_text("url\n" + "\n".join(slow_urls + [quick.url(f"{k}") for k in range(40)]))
        config = FetchConfig(**{**QUICK, "read_timeout": 5.0, "total_timeout": 5.0, "per_host": 2, "workers": 8})
        fetch(Listing.open(path), tmp_path / "out", config, progress=lambda s: ends.append(time.monotonic() - began))
    assert ends[-1] > 3  # 12 slow ones, two at once
    assert ends[41] < ends[-1] / 2  # the 40 quick ones, and two slow ones at most before them


def test_rate_and_limit_of_a_host_are_kept(tmp_path):
    running, most, starts = 0, 0, []

    def page(_):
        async def send(writer, before):
            nonlocal running, most
            running += 1
            most = max(most, running)
            starts.append(time.monotonic())
            await asyncio.sleep(0.1)
            running -= 1
            await answer(jpeg())(writer, before)

        return send

    with Web(page) as web:
        fetched([web.url(str(k)) for k in range(24)], tmp_path / "limit", per_host=3)
        assert most == 3
        starts.clear()
        fetched([web.url(str(k)) for k in range(10)], tmp_path / "rate", rate=20)
    assert starts[-1] - starts[0] > 0.4  # 9 gaps of 1/20 s


def test_private_addresses_are_refused_wherever_they_come_from(tmp_path, monkeypatch):
    with Web(lambda path: answer(jpeg())) as inside:
        spellings = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
        urls = [f"http://{host}:{inside.port}/{k}" for k, host in enumerate(spellings)]
        urls += [f"http://2130706433:{inside.port}/", f"http://127.1:{inside.port}/", "http://169.254.169.254/latest"]
        frame, _ = fetched(urls, tmp_path / "out", allow_private=False)
        assert set(frame["failure"]) <= {"private address", "bad url", "connection", "unknown host"}
        assert set(frame["failure"][:4]) == {"private address"}
        assert not inside.asked
        # As if 127.0.0.1 were public and redirected to a private address.
        real = download.is_public
        monkeypatch.setattr(download, "is_public", lambda ip: ip == "127.0.0.1" or real(ip))
        target = f"http://127.0.0.2:{inside.port}/"
        with Web(lambda path: answer(status=302, Location=target)) as outside:
            frame, failures = fetched([outside.url("x")], tmp_path / "redirect", allow_private=False)
        assert failures == {"private address": 1}
        assert frame.select("http", "final_url").row(0) == ("302", frame["url"][0])
        assert "--allow-private" in frame["error"][0]
        assert not inside.asked


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.9.9.9", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("fec0::1", False),
        ("::127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert download.is_public(address) is public


def test_no_id_leaves_the_folder(tmp_path):
    folder = tmp_path / "in" / "out"
    folder.parent.mkdir()
    ids = ["../../evil", "/etc/passwd", "..", ".", "a/b", "a b", "a_b", "名媛", "x" * 300, "con\\trol", "-", "A.jpg"]
    with Web(lambda path: answer(jpeg())) as web:
        rows = "".join(f'"{i}",{web.url(str(k))}\n' for k, i in enumerate(ids))
        frame, failures = fetched([], folder, text="id,url\n" + rows)
    assert not failures
    assert frame["id"].to_list() == ids
    places = [folder / path for path in frame["path"]]
    assert len({*places}) == len(ids)
    assert all(place.resolve().parent == (folder / "photos").resolve() and place.is_file() for place in places)
    assert frame["path"][6:8].to_list() == ["photos/a_b.jpg", "photos/名媛.jpg"]
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and folder not in p.parents]
    assert outside == [folder.parent / "list.csv"]


def test_a_second_fetch_asks_only_for_what_is_missing(tmp_path):
    bad = {"1", "3"}

    def page(path):
        return answer(status=404) if path in bad else answer(jpeg(int(path)))

    with Web(page) as web:
        urls = [web.url(str(k)) for k in range(6)]
        frame, failures = fetched(urls, tmp_path / "out")
        assert failures == {"http 404": 2}
        web.asked.clear()
        assert fetched(urls, tmp_path / "out")[1] == {"http 404": 2}
        assert not web.asked
        (tmp_path / "out" / frame["path"][0]).unlink()
        (tmp_path / "out" / frame["path"][2]).write_bytes(b"")
        fetched([*urls, web.url("6")], tmp_path / "out")
        assert web.asked == {"0": 1, "2": 1, "6": 1}
        web.asked.clear()
        bad.remove("3")
        frame, failures = fetched([*urls, web.url("7")], tmp_path / "out", retry_failed=True)
        assert web.asked == {"1": 1, "3": 1}
        assert failures == {"http 404": 1, "not tried": 1}
        assert frame["status"].to_list() == ["fetched", "failed", *["fetched"] * 4, "waiting"]


@pytest.mark.parametrize(
    ("kind", "setting", "advice"),
    [
        ("private address", {"allow_private": True}, "--allow-private"),
        ("opted out", {"ignore_opt_out": True}, "--ignore-opt-out"),
        ("too large", {"max_bytes": 10_000_000, "retry_failed": True}, "--max-bytes with --retry-failed"),
    ],
)
def test_what_a_setting_refused_is_fetched_as_the_error_advises(kind, setting, advice, tmp_path):
    refusing = {"private address": {"allow_private": False}, "too large": {"max_bytes": 100}}.get(kind, {})
    tags = {"X_Robots_Tag": "noai"} if kind == "opted out" else {}
    with Web(lambda path: answer(status=404) if path == "gone" else answer(jpeg(), **tags)) as web:
        urls = [web.url("photo"), web.url("gone")]
        frame, _ = fetched(urls, tmp_path / "out", **refusing)
        assert frame["failure"][0] == kind
        assert advice in frame["error"][0]
        web.asked.clear()
        frame, failures = fetched(urls, tmp_path / "out", **refusing)
        assert frame["failure"][0] == kind and not web.asked
        frame, failures = fetched(urls, tmp_path / "out", **setting)
        assert frame["status"].to_list() == ["fetched", "failed"]
        assert failures == {"http 404": 1}
        web.asked.clear()
        fetched(urls, tmp_path / "out", **(setting | {"retry_failed": False}))
        assert not web.asked  # what failed otherwise still waits for --retry-failed


def test_what_retry_failed_left_out_is_fetched_without_it(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        frame, _ = fetched([web.url("1")], tmp_path / "out", retry_failed=True)
        assert frame["error"][0].endswith("Try the same command without --retry-failed.")
        assert not fetched([web.url("1")], tmp_path / "out")[1]


def test_ids_that_stand_twice(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        text = f"id,url\na,{web.url('1')}\na,{web.url('1')}\na,{web.url('2')}\nb,{web.url('1')}\n"
        for _ in range(2):
            frame, failures = fetched([], tmp_path / "out", text=text)
            assert failures == {"duplicate id": 1}
            assert frame["path"].to_list() == ["photos/a.jpg", "photos/a.jpg", "", "photos/b.jpg"]
        assert web.asked == {"1": 2}


def test_shrinking_keeps_proportions_and_small_photos(tmp_path):
    small = jpeg(2, 50, 90)
    smooth = Image.open(io.BytesIO(jpeg(1, 40, 60))).resize((400, 600), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    with Web(lambda path: answer(small if path == "small" else file.getvalue())) as web:
        frame, _ = fetched([web.url("large"), web.url("small")], tmp_path / "out", size=100)
    assert frame.select("width", "height").rows() == [("100", "150"), ("50", "90")]
    assert (tmp_path / "out" / frame["path"][1]).read_bytes() == small
    shrunk = images.read_photo(tmp_path / "out" / frame["path"][0]).astype(float)
    whole = smooth.resize((100, 150), Image.Resampling.BICUBIC)
    assert np.abs(shrunk - np.asarray(whole)).mean() < 3


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_shards_hold_every_photo_once(tmp_path, kind):
    with Web(lambda path: answer(jpeg(int(path)))) as web:
        urls = [web.url(str(k)) for k in range(25)]
        frame, _ = fetched(urls[:12], tmp_path / "out", output=kind, shard_size=10)
        frame, _ = fetched(urls, tmp_path / "out", output=kind, shard_size=10)
        assert set(web.asked.values()) == {1}
    assert frame["status"].unique().to_list() == ["fetched"]
    found = []
    for path in sorted((tmp_path / "out").glob("photos-*")):
        if kind == "parquet":
            found += pl.read_parquet(path)["image"].to_list()
            continue
        with tarfile.open(path) as tar:
            names = tar.getnames()
            assert [n.split(".")[0] for n in names[::2]] == [n.split(".")[0] for n in names[1::2]]
            found += [tar.extractfile(name).read() for name in names[::2]]
            facts = json.loads(tar.extractfile(names[1]).read())
            assert facts["sha256"] == hashlib.sha256(tar.extractfile(names[0]).read()).hexdigest()
    assert sorted(found) == sorted(jpeg(k) for k in range(25))
    assert frame["path"].n_unique() == 4  # 10 and 2, then 10 and 3


def test_shards_are_never_overwritten(tmp_path):
    folder, options = tmp_path / "out", {"output": "webdataset", "shard_size": 2}
    with Web(lambda path: answer(jpeg(int(path)))) as web:
        urls = [web.url(str(k)) for k in range(6)]
        fetched(urls[:4], folder, **options)
        (folder / "photos-000000.tar").unlink()
        fetched(urls[:4], folder, **options)
        frame, _ = fetched(urls, folder, **options)
    assert frame["path"].unique().sort().to_list() == [f"photos-00000{k}.tar" for k in (1, 2, 3)]
    for row in frame.iter_rows(named=True):
        with tarfile.open(folder / row["path"]) as tar:
            digests = [hashlib.sha256(tar.extractfile(name).read()).hexdigest() for name in tar.getnames()]
        assert row["sha256"] in digests


@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_stopped_by_the_user_nothing_is_lost(tmp_path, kind):
    def page(path):
        async def send(writer, before):
            await asyncio.sleep(0.02)
            await answer(jpeg(int(path)))(writer, before)

        return send

    with Web(page) as web:
        path, folder = tmp_path / "list.txt", tmp_path / "out"
        path.write_text("".join(web.url(str(k)) + "\n" for k in range(600)))
        command = [*FETCH, str(path), "-o", str(folder), "--allow-private", "--per-host", "4", "--format", kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while sum(web.whole.values()) < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate()
        assert process.returncode == 130
        assert "stopped" in words
        assert "Traceback" not in words
        statuses = Counter(pl.read_csv(folder / "manifest.csv")["status"])
        assert statuses["fetched"] >= 90
        assert statuses["fetched"] + statuses["waiting"] == 600
        assert not [*folder.rglob(".writing-*")]
        (folder / ".writing-manifest.x").write_text("what a kill leaves")
        subprocess.run(command, capture_output=True, check=True)
        assert not [*folder.rglob(".writing-*")]
    assert Counter(pl.read_csv(folder / "manifest.csv")["status"]) == {"fetched": 600}
    assert sum(web.whole.values()) <= 600 + 2 * 4


@pytest.mark.parametrize("written", ["seconds", "date"])
def test_a_host_that_asks_for_an_hour_is_left_alone(written, tmp_path):
    date = email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    hour = "3600" if written == "seconds" else date
    with Web(lambda path: answer(status=429, Retry_After=hour)) as web:
        _, failures = fetched([web.url(str(k)) for k in range(50)], tmp_path / "out", per_host=2)
        assert sum(web.asked.values()) <= 2
    assert failures == {"http 429": 50}


def test_a_changed_url_counts_as_new(tmp_path):
    with Web(lambda path: answer(jpeg(int(path)))) as web:
        fetched([], tmp_path / "out", text=f"id,url\na,{web.url('1')}\n")
        frame, failures = fetched([], tmp_path / "out", text=f"id,url\na,{web.url('2')}\n", retry_failed=True)
        assert failures == {"not tried": 1}
        frame, _ = fetched([], tmp_path / "out", text=f"id,url\na,{web.url('2')}\n")
    assert (tmp_path / "out" / frame["path"][0]).read_bytes() == jpeg(2)


def test_the_lists_own_columns_stay(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        text = f"image,status,width\n{web.url('1')},in stock,33cm\n"
        path = tmp_path / "list.csv"
        path.write_text(text)
        summary = fetch(Listing.open(path, url_column="image"), tmp_path / "out", FetchConfig(**QUICK))
        row = pl.read_csv(summary.manifest).row(0, named=True)
        assert (row["image"], row["list_status"], row["list_width"]) == (web.url("1"), "in stock", "33cm")
        assert (row["status"], row["width"]) == ("fetched", 60)
        # An earlier fetch's manifest may be a list, but not for its own folder.
        again = Listing.open(summary.manifest, url_column="image")
        with pytest.raises(UsageError, match="writes itself"):
            fetch(again, tmp_path / "out", FetchConfig(**QUICK))
        other = fetch(again, tmp_path / "other", FetchConfig(**QUICK))
        assert pl.read_csv(other.manifest).columns == pl.read_csv(summary.manifest).columns


def test_the_path_takes_the_place_of_the_lists_own_wherever_it_stands(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        for k, columns in enumerate((("image", "url"), ("url", "image"))):
            row = {"image": "old.jpg", "url": web.url("1")}
            text = ",".join(columns) + "\n" + ",".join(row[column] for column in columns) + "\n"
            frame, _ = fetched([], tmp_path / f"out{k}", text=text)
            assert frame.columns[:3] == [*columns, "status"]
            assert (tmp_path / f"out{k}" / frame["image"][0]).read_bytes() == jpeg()


def test_rows_that_cannot_be_written_are_mended(tmp_path):
    path = tmp_path / "list.jsonl"
    with Web(lambda path: answer(jpeg())) as web:
        rows = [{"url": web.url("1"), "id": "a", "name": "half \ud800"}, {"url": "http://x\ud800.example/", "id": "b"}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        summary = fetch(Listing.open(path), tmp_path / "out", FetchConfig(**QUICK))
    assert summary.fetched == 1
    assert pl.read_csv(summary.manifest)["name"][0] == "half ?"


@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_many_times_every_photo_is_whole_and_came_twice_at_most(count, tmp_path):
    photos = {f"{k}.jpg": jpeg(k) for k in range(200 * count)}

    def page(path):
        async def send(writer, before):
            await asyncio.sleep(0.02)
            await answer(photos[path])(writer, before)

        return send

    with Web(page) as web:
        path, folder = tmp_path / "list.txt", tmp_path / "out"
        path.write_text("".join(web.url(name) + "\n" for name in photos))
        command = [*FETCH, str(path), "-o", str(folder), "--allow-private", "--per-host", "8"]
        # Apart enough that no photo is on its way at two kills: no fetch could then keep from asking a third time.
        moments, kills = random.Random(5), 0
        for moment in [200 * k + moments.randrange(20, 160) for k in range(count)]:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while sum(web.whole.values()) < moment and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            for photo in (folder / "photos").glob("[!.]*"):  # no broken file under a final name, ever
                assert photo.read_bytes().endswith(b"\xff\xd9")
        assert kills == count
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["fetched"] == len(photos)
    with (folder / "manifest.csv").open() as file:
        for row, data in zip(csv.DictReader(file), photos.values(), strict=True):
            assert (folder / row["path"]).read_bytes() == data
            assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert len([*(folder / "photos").iterdir()]) == len(photos)
    assert max(web.whole.values()) <= 2
    assert sum(web.whole.values()) <= len(photos) + count * 8  # what was on its way at a kill, and nothing else


def shard_content(path):
    """sha256 of each photo in a shard, by name."""
    if path.suffix == ".parquet":
        found = {name: data for name, data in pl.read_parquet(path, glob=False).select("name", "image").iter_rows()}
    else:
        with tarfile.open(path) as tar:
            photos = [name for name in tar.getnames() if name.endswith(".jpg")]
            found = {name.removesuffix(".jpg"): tar.extractfile(name).read() for name in photos}
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_killed_the_ledger_tells_of_whole_shards_alone(kind, tmp_path):
    photos, size, per_host = {f"{k}.jpg": jpeg(k) for k in range(80)}, 16, 4
    wanted = [hashlib.sha256(data).hexdigest() for data in photos.values()]

    def page(path):
        async def send(writer, before):
            if sum(web.whole.values()) == 40:  # in the middle of a shard, with photos on their way
                process.send_signal(signal.SIGKILL)
            await answer(photos[path])(writer, before)

        return send

    with Web(page) as web:
        path, folder = tmp_path / "list.txt", tmp_path / "out"
        path.write_text("".join(web.url(name) + "\n" for name in photos))
        command = [*FETCH, str(path), "-o", str(folder), "--allow-private", "--per-host", str(per_host)]
        command += ["--format", kind, "--shard-size", str(size)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait(timeout=120) == -signal.SIGKILL
        with contextlib.closing(sqlite3.connect(folder / "fetch.sqlite")) as ledger:
            told = ledger.execute("SELECT place, name, sha256 FROM photos").fetchall()
        shards = {place: shard_content(folder / place) for place in {place for place, *_ in told}}
        assert all(shards[place][name] == digest for place, name, digest in told)
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120)
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sha256"] for row in rows] == wanted
    shards = {place: shard_content(folder / place) for place in {row["path"] for row in rows}}
    assert all(row["sha256"] in shards[row["path"]].values() for row in rows)
    assert sorted(digest for shard in shards.values() for digest in shard.values()) == sorted(wanted)
    assert {path.name for path in folder.glob("photos-*")} == {*shards}
    assert sum(web.whole.values()) <= 80 + 2 * size + per_host  # shards that were open, and what was on its way


@pytest.mark.parametrize("kind", ["too large", "http 404", ""])
def test_memory_stays_flat_under_large_bodies(tmp_path, kind):
    path = tmp_path / "list.txt"
    large = jpeg() + bytes(9_000_000)  # what follows a photo's end is not looked at
    with Web(lambda path: {"too large": _endless, "http 404": _endless_refusal}.get(kind, answer(large))) as web:
        path.write_text("".join(web.url(str(k)) + "\n" for k in range(64)))
        limits = ["--allow-private", "--per-host", "64", "--max-bytes", "10000000"]
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=2);"
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        command = [sys.executable, "-c", code, *FETCH, str(path), "-o", str(tmp_path / "out"), *limits]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024
    frame = pl.read_csv(tmp_path / "out" / "manifest.csv")
    assert frame["failure"].fill_null("").to_list() == [kind] * 64
    assert peak < 350  # MB; 64 bodies of 9 or 10 MB would be 600 MB


def test_a_challenge_list_becomes_a_manifest_with_its_labels(tmp_path):
    flags = "0,1,0,0,1,0,0,0,0,0,0,0,0"
    with Web(lambda path: answer(jpeg())) as web:
        text = "".join(f"id{k}N,{web.url(str(k))},{flags}\n" for k in range(5))
        (tmp_path / "train.txt").write_text(text)
        summary = fetch(Listing.open(tmp_path / "train.txt"), tmp_path / "out", FetchConfig(**QUICK))
    manifest = Manifest.read(summary.manifest)
    assert manifest.label_set.name == "jd2018"
    assert manifest.targets.tolist() == [[int(f) for f in flags.split(",")]] * 5
    assert manifest.frame["id"].to_list() == [f"id{k}N" for k in range(5)]
    assert all(manifest.photo(k).is_file() for k in range(5))


def test_a_manifest_written_by_modiste_is_fetched_and_read_again(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        (tmp_path / "a.csv").write_text(f"image_url,image,labels,split\n{web.url('1')},x/1.jpg,red|blue,train\n")
        Manifest.read(tmp_path / "a.csv").write(tmp_path / "b.parquet")
        summary = fetch(Listing.open(tmp_path / "b.parquet"), tmp_path / "out", FetchConfig(**QUICK))
    again = Manifest.read(summary.manifest)
    assert again.label_set.ids == ("blue", "red")
    assert again.targets.tolist() == [[1, 1]]
    assert again.frame["split"].to_list() == ["train"]
    assert again.photo(0).is_file()


def test_wrong_use_is_refused_and_nothing_is_lost(tmp_path):
    with Web(lambda path: answer(jpeg())) as web:
        fetched([web.url("1")], tmp_path / "out")
        with pytest.raises(RunError, match=r"be resumed with size None, but got 64\."):
            fetched([web.url("1")], tmp_path / "out", size=64)
        with (
            Ledger.open(tmp_path / "out" / "fetch.sqlite", {"size": None, "format": "files"}),
            pytest.raises(RunError, match="another fetch"),
        ):
            fetched([web.url("1")], tmp_path / "out")
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="to be a folder, but got a file"):
            fetched([web.url("1")], tmp_path / "file")
        with pytest.raises(ManifestError, match="no rows"):
            fetched([], tmp_path / "none", text="url\n")
        with pytest.raises(ManifestError, match=r"row 2 of .* to close the quotes"):
            fetched([], tmp_path / "quote", text=f'url,words\n{web.url("1")},"open\n{web.url("2")},x\n')
        with pytest.raises(UsageError, match="--rate"):
            FetchConfig.of({"rate": float("inf")})
        with pytest.raises(UsageError, match="--user-agent"):
            FetchConfig.of({"user_agent": "a\r\nb"})
        (tmp_path / "junk").mkdir()
        (tmp_path / "junk" / "fetch.sqlite").write_text("this is no database, but long enough to be looked at" * 9)
        with pytest.raises(RunError, match="a fetch's ledger"):
            fetched([web.url("1")], tmp_path / "junk")
        with pytest.raises(ManifestError, match=r"row 3 of .* to have 1 fields"):
            fetched([], tmp_path / "wide", text=f"url\n{web.url('1')}\n{web.url('2')},more\n")


def test_the_command_line(tmp_path):
    run = CliRunner()
    (tmp_path / "none.csv").write_text("colour\nred\n")
    with pytest.raises(ManifestError, match="column of urls"):
        run.invoke(app, ["fetch", str(tmp_path / "none.csv"), "-o", str(tmp_path / "out")], catch_exceptions=False)
    with Web(lambda path: answer(jpeg()) if path == "1" else answer(status=404)) as web:
        (tmp_path / "list.txt").write_text(f"{web.url('1')}\n{web.url('2')}\n")
        arguments = ["fetch", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), "--allow-private"]
        result = run.invoke(app, arguments)
        assert result.exit_code == 1
        assert "http 404" in result.stdout
        result = run.invoke(app, [*arguments, "--json"])
        assert result.exit_code == 1
        assert json.loads(result.stdout)["failures"] == {"http 404": 1}


def test_the_help_states_the_defaults():
    text = " ".join(CliRunner(env={"COLUMNS": "300"}).invoke(app, ["fetch", "--help"]).stdout.split())
    defaults = FetchConfig()
    for name in ("shard_size", "workers", "per_host", "retries", "max_bytes"):
        assert f"Default: {getattr(defaults, name)}." in text
    for name in ("connect_timeout", "read_timeout", "total_timeout"):
        assert f"Default: {getattr(defaults, name):g}." in text


def test_it_works_where_an_event_loop_runs_already(tmp_path):
    photos = {f"{k}.jpg": jpeg(k) for k in range(5)}

    async def notebook(urls):
        return fetched(urls, tmp_path / "out")

    with Web(lambda path: answer(photos[path])) as web:
        frame, failures = asyncio.run(notebook([web.url(path) for path in photos]))
    assert not failures
    assert frame["status"].to_list() == ["fetched"] * 5


def test_stopped_where_an_event_loop_runs_already_nothing_is_lost(tmp_path):
    photos = {f"{k}.jpg": jpeg(k) for k in range(40)}
    (tmp_path / "list.csv").write_text("url\n")

    def page(path):
        async def send(writer, before):
            if int(path.partition(".")[0]) >= 20:
                await _silent(writer, before)
            await answer(photos[path])(writer, before)

        return send

    program = (
        "import asyncio, os, signal, sys\n"
        "from modiste.fetching.config import FetchConfig\n"
        "from modiste.fetching.fetch import fetch\n"
        "def told(state):\n"
        "    if state.fetched == 20: os.kill(os.getpid(), signal.SIGINT)\n"
        "async def notebook():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    config = FetchConfig(allow_private=True, retries=0, read_timeout=60, total_timeout=60, per_host=40)\n"
        "    fetch(sys.argv[1], sys.argv[2], config, progress=told)\n"
        "try: asyncio.run(notebook())\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    with Web(page) as web:
        (tmp_path / "list.csv").write_text("url\n" + "".join(f"{web.url(path)}\n" for path in photos))
        command = [sys.executable, "-c", program, str(tmp_path / "list.csv"), str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "stopped\n"
    states = pl.read_csv(tmp_path / "out" / "manifest.csv", infer_schema=False)["status"].value_counts()
    assert dict(states.iter_rows())["fetched"] == 20
