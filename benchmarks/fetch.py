"""Fetching 10,000 photos from a loopback server, modiste against img2dataset; and memory against length of the list.

    python benchmarks/fetch.py --peer /path/to/venv/with/img2dataset/bin/python

img2dataset needs an environment of its own (`pip install img2dataset`), as it asks for older packages.
Both have 64 requests at once and two processes or threads that decode. Needs MODISTE_DATA (photos).
"""

import argparse
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import polars as pl

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PHOTOS = 10_000
MODISTE = [sys.executable, "-m", "modiste", "fetch"]
PEER = """
from img2dataset import download
download(url_list={urls!r}, output_folder={folder!r}, input_format="txt", output_format="files", processes_count=2,
    thread_count=32, number_sample_per_shard=1000, retries=3, timeout=20, disallowed_header_directives=None,
    enable_wandb=False, incremental_mode="incremental", {options})
"""
MODES = {
    "as they are": ([], "disable_all_reencoding=True"),
    "shrunk to 299 px": (["--size", "299"], "image_size=299, resize_mode='keep_ratio', encode_quality=95"),
}


def measured(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of it and its children, and peak megabytes of the largest process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    watch = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=2).returncode;"
    watch += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    done = subprocess.run([sys.executable, "-c", watch, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, float(done.stdout)


def fetched(tool: str, mode: str, peer: str, work: Path, url: str) -> tuple[float, float, float]:
    """Photos a second, photos a CPU second and peak megabytes of one fetch of `PHOTOS` photos."""
    ours, theirs = MODES[mode]
    urls, folder = work / "urls.txt", work / tool
    urls.write_text("".join(f"{url}{i}.jpg\n" for i in range(PHOTOS)))
    if tool == "modiste":
        limits = ["--allow-private", "--workers", "64", "--per-host", "64"]
        command = [*MODISTE, str(urls), "-o", str(folder), *limits, *ours]
    else:
        command = [peer, "-c", PEER.format(urls=str(urls), folder=str(folder), options=theirs)]
    seconds, cpu, peak = measured(command)
    files = sum(1 for _ in folder.rglob("*.jpg"))
    assert files == PHOTOS * 99 // 100, f"{tool} fetched {files}"
    shutil.rmtree(folder)
    return files / seconds, files / cpu, peak


def against(peer: str, work: Path, port: int, pairs: int) -> None:
    """Both tools in turn, `pairs` times: a noisy machine makes one run say little."""
    print(f"Medians of {pairs} pairs of runs in turn (least to most).\n")
    print("| photos | tool | photos/s | photos/CPU second | peak MB | ratio of photos/s | ratio of photos/CPU second |")
    print("|---|---|---|---|---|---|---|")
    begun = 0
    for mode in MODES:
        runs: dict[str, list[tuple[float, float, float]]] = {"modiste": [], "img2dataset": []}
        for pair in range(pairs):
            for tool in sorted(runs, reverse=pair % 2 == 1):
                begun += 1  # other URLs for each, so that each meets its own 503s
                runs[tool].append(fetched(tool, mode, peer, work, f"http://127.0.0.1:{port}/{begun}0000000"))
        ratios = [[a / b for a, b in zip(*pair, strict=True)] for pair in zip(*runs.values(), strict=True)]
        for tool, figures in runs.items():
            cells = [spread([figure[k] for figure in figures], "{:.0f}") for k in range(3)]
            cells += [spread([ratio[k] for ratio in ratios], "{:.2f}") if tool == "modiste" else "" for k in range(2)]
            print(f"| {mode} | {tool} | " + " | ".join(cells) + " |", flush=True)


def spread(values: list[float], form: str) -> str:
    """The median, and the least and most beside it."""
    middle, least, most = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"


def memory(work: Path, port: int, lengths: list[int]) -> None:
    print("\n| rows of the list | peak MB | rows/s |\n|---|---|---|")
    for length in lengths:
        urls = work / "rows.csv"
        with urls.open("w") as file:
            file.write("id,url,colour\n")
            file.writelines(f"item{i:08},http://127.0.0.1:{port}/tiny/{i}.jpg,red\n" for i in range(length))
        folder = work / "memory"
        limits = ["--allow-private", "--workers", "64", "--per-host", "64", "--format", "webdataset"]
        seconds, _, peak = measured([*MODISTE, str(urls), "-o", str(folder), *limits])
        rows = pl.scan_csv(folder / "manifest.csv").select((pl.col("status") == "fetched").sum()).collect().item()
        assert rows == length
        print(f"| {length:,} | {peak:.0f} | {length / seconds:.0f} |", flush=True)
        shutil.rmtree(folder)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peer", help="Python of an environment with img2dataset.")
    arguments.add_argument("--rows", type=int, nargs="*", default=[10_000, 1_000_000], help="lengths for the memory.")
    arguments.add_argument("--pairs", type=int, default=5, help="how often both tools run, in turn.")
    given = arguments.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    photos = DATA / "data/clothing/images"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("photo_server.py")), str(photos), str(port)]
    )
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}\n")
        with tempfile.TemporaryDirectory() as work:
            if given.peer:
                against(given.peer, Path(work), port, given.pairs)
            if given.rows:
                memory(Path(work), port, given.rows)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
