"""Reading a million rows: seconds and peak memory of a manifest, beside Polars alone.

    python benchmarks/tables.py
    python benchmarks/tables.py --against ../older-checkout/src     # beside another version, in turn

A table has a path, a category of 60 values, five one-hot columns and a title. Each reading is a process of its own;
seconds are of the reading alone, peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

ROWS = 1_000_000
RUNS = 3
POLARS = {
    ".csv": "pl.read_csv(path, infer_schema=False)",
    ".parquet": "pl.read_parquet(path)",
    ".jsonl": "pl.read_ndjson(path)",
}
READ = (
    "import sys, time\n"
    "path = sys.argv[1]\n"
    "{prepare}\n"
    "began = time.perf_counter()\n"
    "found = {read}\n"
    "seconds = time.perf_counter() - began\n"
    "assert len(found) == {rows}\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(seconds, int(peak.split()[1]) / 1024)\n"
)
MODISTE = "from pathlib import Path\nimport modiste\nManifest = modiste.Manifest"


def table(rows: int) -> pl.DataFrame:
    """A catalogue as a shop has it."""
    rng = np.random.default_rng(0)
    garments = [f"garment {k}" for k in rng.geometric(0.08, rows).clip(1, 60)]
    flags = {name: rng.integers(0, 2, rows) for name in ("red", "blue", "striped", "floral", "plain")}
    titles = [f"A garment, number {k}" for k in range(rows)]
    paths = [f"photos/{k // 1000}/{k}.jpg" for k in range(rows)]
    return pl.DataFrame({"image": paths, "category": garments, **flags, "title": titles})


def measured(path: Path, prepare: str, read: str, source: str | None) -> tuple[float, float]:
    """Seconds and megabytes of one reading, in a process of its own."""
    code = READ.format(prepare=prepare, read=read, rows=ROWS)
    environment = os.environ | ({"PYTHONPATH": source} if source else {})
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--against", help="src folder of another version of modiste")
    against = arguments.parse_args().against
    here = str(Path(__file__).parents[1] / "src")
    print("| table | reader | seconds, median of 3 | peak memory, MB |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = table(ROWS)
        rows.write_csv(Path(folder) / "a.csv")
        rows.write_parquet(Path(folder) / "a.parquet")
        rows.write_ndjson(Path(folder) / "a.jsonl")
        quoted = (Path(folder) / "a.csv").read_text().replace('"A garment, number 9"\n', 'A garment 9" wide\n')
        (Path(folder) / "quote.csv").write_text(quoted)
        for path in sorted(Path(folder).iterdir()):
            polars = ("import polars as pl", POLARS[path.suffix], None)
            readers = {"modiste": (MODISTE, "Manifest.read(Path(path))", here)}
            if path.stem == "a":
                readers |= {"Polars alone": polars}
            if against and path.stem == "a":
                readers |= {"modiste before": (MODISTE, "Manifest.read(Path(path))", against)}
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
            for _ in range(RUNS):
                for name, reader in readers.items():
                    found[name].append(measured(path, *reader))
            what = f"{path.suffix}, {path.stat().st_size / 1e6:.0f} MB"
            what += ", one undoubled quote" if path.stem == "quote" else ""
            for name, runs in found.items():
                seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
                print(f"| {what} | {name} | {seconds:.2f} | {memory:,.0f} |")


if __name__ == "__main__":
    main()
