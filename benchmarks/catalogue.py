"""A shop's catalogue as it comes, from its table to tags of products: fetch, check, train, evaluate, tag.

    python benchmarks/catalogue.py catalogue

Draws 600 products with five photos each, and writes their table as a shop would: 60 values with a long tail in two
category columns, in several spellings, with missing cells, one photo URL a row. The photos are served on this machine
alone, so fetch gets --allow-private; training takes the recipe of the demo, which needs no weights.
"""

from __future__ import annotations

import csv
import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PRODUCTS, PHOTOS, SIDE = 600, 5, 128
TYPES, COLOURS = 36, 24
MISSING = ("", "NA", "None", "-", "n/a")


def long_tail(values: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` draws of `values` values, the first ones often, the last ones hardly ever; each at least once."""
    shares = 0.88 ** np.arange(values)
    drawn = rng.choice(values, count, p=shares / shares.sum())
    drawn[:values] = np.arange(values)
    return drawn


def picture(kind: int, colour: int, rng: np.random.Generator) -> Image.Image:
    """A garment whose outline follows from its type, before any background, from a little nearer or further."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(190, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    tint = np.array(Image.new("HSV", (1, 1), (colour * 255 // COLOURS, 220, 90 + 150 * (colour % 2))).convert("RGB"))
    fill = tuple(np.clip(tint[0, 0] + rng.normal(0, 8, 3), 0, 255).astype(int).tolist())
    width, length, sleeves = 22 + 6 * (kind % 4), 40 + 16 * (kind // 4 % 3), 8 + 14 * (kind // 12)
    x, y, scale = 64 + rng.normal(0, 4), 22 + rng.normal(0, 4), rng.normal(1, 0.06)
    width, length, sleeves = (scale * one for one in (width, length, sleeves))
    pen.rectangle((x - width, y, x + width, y + length), fill=fill)
    pen.polygon([(x - width, y), (x - width - sleeves, y + 26), (x - width, y + 30)], fill=fill)
    pen.polygon([(x + width, y), (x + width + sleeves, y + 26), (x + width, y + 30)], fill=fill)
    noisy = np.asarray(image, np.float32) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def spelt(word: str, rng: np.random.Generator) -> str:
    """A word as one of several people types it."""
    ways = (word, word, word, word.upper(), word.lower(), f" {word} ", word.replace(" ", "\u00a0"))
    return ways[int(rng.integers(len(ways)))]


def draw(folder: Path, address: str) -> Path:
    """Write the photos and the shop's table."""
    rng = np.random.default_rng(0)
    (folder / "shop").mkdir(parents=True)
    kinds, colours = (long_tail(values, PRODUCTS, rng) for values in (TYPES, COLOURS))
    rng.shuffle(colours)
    with (folder / "shop.csv").open("w", newline="", encoding="cp1252") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["sku", "product_id", "photo_url", "title", "garment", "colour"])
        for product, (kind, colour) in enumerate(zip(kinds.tolist(), colours.tolist(), strict=True)):
            garment, shade = f"Garment {kind + 1}", f"Teint\u00e9 {colour + 1}"
            if rng.random() < 0.05:
                shade = MISSING[product % len(MISSING)]
            for photo in range(PHOTOS):
                name = f"{product}-{photo}"
                picture(kind, colour, rng).save(folder / "shop" / f"{name}.jpg", quality=90)
                url = "" if (product, photo) == (7, 4) else f"{address}/{name}.jpg"
                title = f"Pretty, {product} wide"
                rows.writerow([name, f"P{product}", url, title, spelt(garment, rng), spelt(shade, rng)])
    return folder / "shop.csv"


def run(folder: Path, *arguments: str) -> None:
    """Run a command as a person would, and show what it prints."""
    print("\n$ modiste", *arguments, flush=True)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src"), "COLUMNS": "110"}
    done = subprocess.run([sys.executable, "-m", "modiste", *arguments], cwd=folder, env=environment, check=False)
    print(f"(exit code {done.returncode})", flush=True)


def main() -> None:
    """Take the catalogue through all commands."""
    folder = Path(sys.argv[1]).absolute()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(folder / "shop"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        draw(folder, f"http://127.0.0.1:{server.server_port}")
        run(folder, "fetch", "shop.csv", "-o", "photos", "--allow-private")
        server.shutdown()
    labels = ("--labels", "garment,colour")
    run(folder, "check", "photos/manifest.csv", *labels)
    run(folder, "train", "photos/manifest.csv", "-o", "run", *labels, "--recipe", "demo")
    run(folder, "tune", "run", "--policy", "precision:0.9")
    run(folder, "evaluate", "run")
    run(folder, "tag", "photos/manifest.csv", "-m", "run", "--by", "product_id", "-o", "products.csv")
    with (folder / "products.csv").open(newline="", encoding="utf-8") as file:
        for row in list(csv.reader(file))[:4]:
            print(", ".join(row)[:200])


if __name__ == "__main__":
    main()
