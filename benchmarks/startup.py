"""How long commands take to start, from a cold page cache, and how many modules they load.

    python benchmarks/startup.py
    python benchmarks/startup.py --against ../older-checkout/src     # beside another version, in turn

Each command runs seven times in a process of its own. As root the page cache is dropped before each run, so that
files come from the disk; else the table says "warm".
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

RUNS = 7
HEAVY = ("torch", "polars", "scipy", "sklearn", "matplotlib", "pydantic", "numpy", "PIL", "onnxruntime")
COUNT = (
    "import runpy, sys\n"
    "sys.argv = ['modiste', *sys.argv[1:]]\n"
    "try:\n    runpy.run_module('modiste', run_name='__main__')\n"
    "except SystemExit:\n    pass\n"
    "names = set(sys.modules)\n"
    "print(len(names), *(name for name in {heavy!r} if name in names), file=sys.stderr)\n"
)


def drop_page_cache() -> bool:
    """Whether files will come from the disk."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True


def seconds(source: Path, arguments: list[str]) -> float:
    """Wall seconds of one run."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "modiste", *arguments]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(source)}, capture_output=True, check=True)
    return time.perf_counter() - began


def modules(source: Path, arguments: list[str]) -> str:
    """How many modules are loaded at the end, and which heavy packages are among them."""
    command = [sys.executable, "-c", COUNT.format(heavy=HEAVY), *arguments]
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, *heavy = done.stderr.strip().splitlines()[-1].split()
    return f"{count}: {', '.join(heavy) or 'none of the heavy ones'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="src folder of another version")
    given = parser.parse_args()
    sources = {"this": Path(__file__).parents[1] / "src"} | ({"other": given.against} if given.against else {})
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        Image.effect_noise((300, 400), 60).convert("RGB").save(photo)
        commands = {"modiste --help": ["--help"], "modiste tag photo.jpg": ["tag", str(photo)]}
        print("| command | version | cold | median of 7, s | least to most, s | modules at the end |")
        print("|---|---|---|---|---|---|")
        for name, arguments in commands.items():
            taken: dict[str, list[float]] = {version: [] for version in sources}
            for _ in range(RUNS):
                for version, source in sources.items():  # in turn, so that the machine's mood hits both
                    cold = drop_page_cache()
                    taken[version].append(seconds(source, arguments))
            for version, source in sources.items():
                times = taken[version]
                spread = f"{min(times):.2f} to {max(times):.2f}"
                middle = f"{statistics.median(times):.2f}"
                kept = modules(source, arguments)
                print(f"| `{name}` | {version} | {'cold' if cold else 'warm'} | {middle} | {spread} | {kept} |")
            if len(sources) > 1:
                ratio = statistics.median(a / b for a, b in zip(taken["this"], taken["other"], strict=True))
                print(f"| `{name}` | this / other | | {ratio:.2f} | | |")


if __name__ == "__main__":
    main()
