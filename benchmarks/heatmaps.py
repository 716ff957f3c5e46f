"""Do heatmaps point at the evidence? On drawn garments the place of each style's mark is known.

    python benchmarks/heatmaps.py MODEL

MODEL is a run that was trained on drawn garments, such as the demo's; it is asked about 600 that it has never seen. A
mark is what changes where the same garment is drawn without it. A heatmap hits where its brightest pixel lies on the
mark or less than half a cell of the map from it (a pointing game: Zhang et al. 2016, "Top-down Neural Attention by
Excitation Backprop"). Beside it: what a cell on the garment, drawn by lot, would hit, and another label's heatmap. Only
said labels that are true count, and only styles whose mark has a place: a print is everywhere.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from modiste.demo import styles as drawn_styles
from modiste.demo.drawing import STYLES, draw_garment, draw_styles
from modiste.inference.heatmaps import overlay
from modiste.runs.load import load

PICTURES, SEED = 600, 99
VISIBLE = 12  # of 255: a pixel that differs by more belongs to the mark
OUTSIDE = 30  # of 255: how far the wall's colour reaches


@contextmanager
def without(style: str) -> Iterator[None]:
    """Draw as if this style had no mark, with the same random numbers for everything else."""
    paint = drawn_styles.TRIMMINGS[style]

    def unseen(pen: drawn_styles.Pen) -> None:
        cloth = pen.draw._image
        before = cloth.copy()
        paint(pen)
        cloth.paste(before)

    drawn_styles.TRIMMINGS[style] = unseen
    try:
        yield
    finally:
        drawn_styles.TRIMMINGS[style] = paint


def widened(mask: np.ndarray, by: int) -> np.ndarray:
    """All pixels less than `by` pixels from the mask, in a square."""
    picture = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * by + 1))) > 0


def garment_of(size: int, styles: np.ndarray, i: int) -> np.ndarray:
    """The same picture each time, but for marks that are left out."""
    return draw_garment(styles, size, np.random.default_rng([SEED, i]))


def peak(heat: np.ndarray) -> tuple[int, int]:
    """Row and column of the brightest pixel."""
    return divmod(int(heat.argmax()), heat.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for the first five hits and misses, as pictures")
    given = parser.parse_args()
    tags = load(given.model)
    size = tags.image.size
    centres = np.clip(np.array(tags.cells.centres) * size, 0, size - 1).astype(int)
    downs, acrosses = (part.ravel() for part in np.meshgrid(centres, centres, indexing="ij"))
    targets = draw_styles(PICTURES, np.random.default_rng(SEED))
    rows: dict[str, list[tuple[float, float, float]]] = {style: [] for style in drawn_styles.TRIMMINGS}
    kept: list[tuple[bool, str, np.ndarray]] = []
    for i, styles in enumerate(targets):
        draw = partial(garment_of, size, styles, i)
        photo = draw()
        said = tags.predict(photo)
        garment = np.abs(photo.astype(int) - photo[2, 2].astype(int)).max(axis=2) > OUTSIDE
        for style in set(said.labels) & set(drawn_styles.TRIMMINGS):
            if not styles[STYLES.index(style)]:
                continue
            with without(style):
                mark = np.abs(photo.astype(int) - draw().astype(int)).max(axis=2) > VISIBLE
            if not mark.any():  # left out of this picture
                continue
            near = widened(mark, (centres[-1] - centres[0]) // (len(centres) - 1) // 2)
            lying = garment[downs, acrosses]  # cells on the garment
            others = [label for label in tags.label_set.ids if label != style]
            other = said.heatmap(others[i % len(others)])
            hit = bool(near[peak(said.heatmap(style))])
            rows[style].append((hit, near[downs[lying], acrosses[lying]].mean(), near[peak(other)]))
            kept.append((hit, style, overlay(photo, said.heatmap(style))))
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {PICTURES} garments, {size} px, maps of ",
        end="",
    )
    print(f"{said.maps.shape[-2]} x {said.maps.shape[-1]}\n")
    print("| style | maps | peak on the mark | any cell on the garment | another label's peak |\n|---|---|---|---|---|")
    everything = [row for found in rows.values() for row in found]
    for style, found in [*rows.items(), ("all", everything)]:
        if found:
            shares = " | ".join(f"{share:.2f}" for share in np.mean(found, axis=0))
            print(f"| {style} | {len(found)} | {shares} |")
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
        for wanted, name in ((True, "hit"), (False, "miss")):
            for k, (_, style, picture) in enumerate([one for one in kept if one[0] == wanted][:5]):
                Image.fromarray(picture).save(given.pictures / f"{name}-{k}-{style}.png")


if __name__ == "__main__":
    sys.exit(main())
