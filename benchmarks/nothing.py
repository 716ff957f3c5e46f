"""Pictures that show no garment, so that a network learns to say nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from modiste.data import images

SIDE, SEED = 320, 0


def _colour(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, 3)


def plain(_: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One colour, or one that fades into another, with a little noise."""
    one, two = _colour(rng), _colour(rng)
    two = one if rng.random() < 0.4 else two
    along = np.linspace(0, 1, SIDE)[:, None, None]
    field = np.broadcast_to(one * (1 - along) + two * along, (SIDE, SIDE, 3)) + rng.normal(
        0, rng.uniform(0, 8), (SIDE, SIDE, 1)
    )
    return Image.fromarray(field.clip(0, 255).astype(np.uint8)).rotate(90 * rng.integers(4))


def noise(_: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Coloured or grey grains, from pixels to blots."""
    side = int(2 ** rng.uniform(2, 8.3))
    grains = rng.integers(0, 256, (side, side, 3 if rng.random() < 0.5 else 1))
    grains = np.broadcast_to(grains, (side, side, 3)).astype(np.uint8)
    return Image.fromarray(grains).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def shuffled(photo: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A photo's tiles in another order, each turned: its colours and cloth without its shape."""
    many = int(rng.integers(4, 9))
    tile = SIDE // many
    whole, out = Image.fromarray(photo).resize((tile * many, tile * many)), Image.new("RGB", (tile * many, tile * many))
    for place, from_ in enumerate(rng.permutation(many * many).tolist()):
        down, right = divmod(from_, many)
        cut = whole.crop((right * tile, down * tile, (right + 1) * tile, (down + 1) * tile))
        out.paste(cut.rotate(90 * rng.integers(4)), (place % many * tile, place // many * tile))
    return out


def close(photo: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A place of a photo, so close that no shape is left."""
    side = int(min(photo.shape[:2]) * rng.uniform(0.1, 0.2))
    top, left = (int(rng.integers(0, length - side)) for length in photo.shape[:2])
    return Image.fromarray(photo[top : top + side, left : left + side]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def shapes(_: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Discs, polygons, strokes and letters before a plain or noisy wall."""
    out = (plain if rng.random() < 0.6 else noise)(_, rng)
    pen = ImageDraw.Draw(out)
    for _k in range(int(rng.integers(1, 9))):
        x, y, size, ink = *rng.integers(0, SIDE, 2), rng.integers(20, SIDE // 1.4), tuple(_colour(rng).tolist())
        kind = rng.integers(4)
        if kind == 0:
            pen.ellipse((x - size / 2, y - size / 2 * rng.uniform(0.4, 1), x + size / 2, y + size / 2), ink)
        elif kind == 1:
            pen.polygon(
                [tuple(p) for p in (np.array([x, y]) + rng.uniform(-size, size, (rng.integers(3, 8), 2)) / 1.5)], ink
            )
        elif kind == 2:
            pen.line([tuple(p) for p in rng.uniform(0, SIDE, (rng.integers(2, 6), 2))], ink, int(rng.integers(1, 25)))
        else:
            words = "".join(chr(c) for c in rng.integers(33, 126, 60))
            pen.multiline_text((x / 3, y / 3), "\n".join([words] * 12), ink, font_size=int(rng.integers(8, 60)))
    return out.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.5)))


KINDS: tuple[Callable[[np.ndarray, np.random.Generator], Image.Image], ...] = (plain, noise, shuffled, close, shapes)


def draw_nothing(folder: Path, photos: list[Path], count: int) -> list[Path]:
    """Write `count` pictures, equally many of each kind, made from the photos where they are made from any."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k in range(count):
        rng = np.random.default_rng([SEED, k])
        kind = KINDS[k % len(KINDS)]
        picture = kind(images.read_photo(photos[int(rng.integers(len(photos)))], target=SIDE), rng)
        made.append(folder / f"{kind.__name__}-{k:04d}.jpg")
        picture.save(made[-1], quality=90)
    return made
