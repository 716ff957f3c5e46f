"""Drawn garments for `modiste demo`: pictures whose look follows from their styles, no photo needed.

The label vectors are drawn from real counts; the pictures are invented. Every style that holds shows
as a cue of its own, except where the cue is left out or faint, so no network can be perfect here.
Scores on these pictures say that the machinery works and nothing about photos.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from modiste.demo.styles import PRINTS, TRIMMINGS, Colour, Pen, Shape, everyday_print, neckline, toned
from modiste.errors import StorageError, UsageError
from modiste.labels import LabelSet

STYLES = LabelSet.read("jd2018").ids

# How many photos bear which styles together, as mask:count with bit k for label k. Counts over the 54,908
# training labels of the JD AI Fashion Challenge (list: MIT licence); combinations seen once are left out (0.1 %).
_COUNTS = (
    "276:16181 260:15497 292:7392 772:4889 1284:1476 1300:1226 4:806 514:717 2:695 130:675 2050:675 788:603 804:481 "
    "1316:419 18:209 1280:192 34:183 132:143 2178:128 268:119 2082:114 2066:113 5380:109 256:105 516:104 4356:101 "
    "258:94 2562:65 3:63 146:63 20:57 5376:57 136:49 66:47 274:45 2114:43 324:38 160:37 144:35 272:30 4352:30 "
    "1026:28 162:26 642:26 148:24 36:23 128:23 288:23 290:22 2080:22 4372:22 546:21 770:21 780:21 1282:19 1296:19 "
    "548:17 2051:17 1292:16 1796:16 648:15 356:14 5396:13 530:12 3074:11 98:9 138:9 1298:9 340:8 1058:8 1152:8 "
    "1154:8 2194:8 131:7 194:7 768:7 164:6 1042:6 1160:6 2210:6 10:5 35:5 68:5 544:5 640:5 1028:5 1312:5 1538:5 "
    "308:4 800:4 836:4 1156:4 1314:4 2064:4 2242:4 2690:4 3586:4 4864:4 5120:4 140:3 264:3 278:3 404:3 515:3 774:3 "
    "802:3 1540:3 2324:3 3106:3 4098:3 100:2 396:2 520:2 522:2 578:2 580:2 644:2 1024:2 1056:2 1172:2 1544:2 2084:2 "
    "2115:2 2176:2 2179:2 3104:2 4096:2 4130:2 4354:2 4866:2 5392:2"
)
_MASKS, _PHOTOS = np.array([pair.split(":") for pair in _COUNTS.split()], dtype=np.int64).T
_VECTORS = (_MASKS[:, None] >> np.arange(len(STYLES)) & 1).astype(np.int8)  # (combinations, 13)
_SHARES = _PHOTOS / _PHOTOS.sum()

_LEFT_OUT = 0.04  # probability that a cue is missing though its style holds
_FAINT = 0.06  # probability that it is painted at a third of its strength
_RAREST = 1 / 60  # of all pictures: what every style is topped up to, 40 of 2,400
_SPLIT = {"test": 0.2, "val": 0.1}  # the rest is train

# Fabrics that a style asks for; the styles that hold compete, and where none is named all colours may come.
_FABRICS: dict[str, tuple[Colour, ...]] = {
    "sports": ((226, 40, 52), (18, 104, 226), (0, 160, 92), (250, 112, 18)),
    "casual": ((70, 104, 150), (98, 134, 178), (52, 78, 118)),
    "commuting": ((54, 58, 70), (40, 52, 88), (120, 124, 132), (168, 136, 104), (98, 34, 48), (226, 222, 212)),
    "japanese": ((240, 230, 218), (222, 230, 236), (236, 220, 224)),
    "korean": ((242, 202, 206), (198, 218, 238), (208, 230, 208), (246, 230, 190), (220, 206, 238)),
    "girly": ((246, 176, 196), (250, 206, 214), (232, 184, 224)),
    "natural": ((206, 188, 154), (150, 156, 116), (220, 206, 180)),
    "street": ((30, 30, 34), (44, 42, 48)),
    "ethnic": ((34, 68, 98), (138, 44, 40), (42, 88, 72)),
}
_ANY: tuple[Colour, ...] = (
    (188, 62, 60), (220, 146, 58), (84, 140, 96), (62, 124, 148), (124, 88, 150), (236, 232, 224), (150, 108, 84)
)  # fmt: skip


def _top(hem: float, flare: float, waist: float, cuff: tuple[float, float], wide: float) -> Shape:
    """Anything with a neckline; `wide` > 0 drops the shoulders and loosens the body."""
    shoulder, under = 0.165 + wide * 0.9, 0.15 + wide
    middle = (0.50, waist + wide * 1.2)
    body = [(0, 0.16), (0.07, 0.15), (shoulder, 0.20), (under, 0.34), (middle[1], 0.50), (flare + wide, hem)]
    x, y = cuff[0] + wide, cuff[1] + wide * 0.6
    sleeve = [(0.12, 0.17), (shoulder, 0.20 + wide * 0.2), (x, y), (x - 0.085 - wide * 0.6, y + 0.03), (under, 0.36)]
    body += [((flare + wide) * 0.6, hem + 0.014), (0, hem + 0.018)]
    return Shape(body, sleeve, 0.15, 0.07, middle, (hem, flare + wide))


def _bottom(rows: list[tuple[float, float]], crotch: float, wide: float) -> Shape:
    """Trousers (the legs part at height `crotch`) or a skirt (0)."""
    body = [(0.0, rows[0][1]), *((x + wide * (0.3 + 1.5 * k), y) for k, (x, y) in enumerate(rows))]
    x, hem = body[-1]
    body += [(0.035, hem), (0.012, crotch)] if crotch else [(x * 0.6, hem + 0.018), (0, hem + 0.024)]
    return Shape(body, [], rows[0][1], 0, (rows[0][1] + 0.035, rows[0][0] + wide * 0.3), (hem, x))


_GARMENTS: tuple[Callable[[float], Shape], ...] = (
    lambda wide: _top(0.90, 0.25, 0.105, (0.24, 0.33), wide),  # dress
    lambda wide: _top(0.74, 0.16, 0.145, (0.30, 0.62), wide),  # shirt
    lambda wide: _top(0.72, 0.17, 0.15, (0.31, 0.36), wide),  # T-shirt
    lambda wide: _top(0.93, 0.21, 0.15, (0.29, 0.66), wide),  # coat
    lambda wide: _bottom([(0.125, 0.10), (0.16, 0.30), (0.15, 0.93)], 0.38, wide * 0.7),  # trousers
    lambda wide: _bottom([(0.12, 0.17), (0.17, 0.36), (0.25, 0.80)], 0, wide * 0.7),  # skirt
)


def draw_styles(n: int, rng: np.random.Generator, minimum: int = 0) -> np.ndarray:
    """Style vectors as frequent as in the JD AI Fashion Challenge, (n, 13) int8 of 0 and 1.

    With `minimum` > 0 the styles that fall short are topped up to that many pictures: vectors that hold only
    frequent styles give way to real combinations that hold the missing one. Rare styles are then more
    frequent than in the challenge, and their co-occurrences are true only given the rare style.

    Raises:
        UsageError: `n` is too small for the minimum.
    """
    targets: np.ndarray = _VECTORS[rng.choice(len(_VECTORS), n, p=_SHARES)]
    frequent = _SHARES @ _VECTORS * n > 3 * minimum
    for style in np.argsort(_SHARES @ _VECTORS, kind="stable"):
        short = minimum - int(targets[:, style].sum())
        if short <= 0:
            continue
        spare = np.flatnonzero(~targets[:, ~frequent].any(axis=1))
        if len(spare) < short:
            raise UsageError.expected(f"pictures enough for {minimum} of each style", n, "more pictures")
        holding = np.flatnonzero(_VECTORS[:, style])
        share = _SHARES[holding] / _SHARES[holding].sum()
        targets[rng.choice(spare, short, replace=False)] = _VECTORS[rng.choice(holding, short, p=share)]
    return targets


def draw_garment(styles: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One drawn garment, (size, size, 3) uint8 RGB, for one style vector (13,) of 0 and 1.

    Garment, colour, place, scale, turn, background, light and noise vary freely; the cues of the styles
    that hold are painted over one another, each left out or faint with a small probability.
    """
    strength = {
        style: 0.0 if chance < _LEFT_OUT else 0.35 if chance < _LEFT_OUT + _FAINT else 1.0
        for style, holds, chance in zip(STYLES, styles, rng.random(len(STYLES)), strict=True)
        if holds
    }
    shape = _GARMENTS[rng.integers(len(_GARMENTS))](0.055 * strength.get("korean", 0.0) + rng.uniform(-0.008, 0.012))
    base = _fabric(strength, rng)
    side = 2 * size  # drawn at twice the size, which smooths every edge
    cloth, mask = _sewn(shape, base, side, rng, strength)
    sprite = Image.new("RGBA", (side, side), (*base, 0))
    _hang(sprite, shape)
    sprite.paste(cloth, mask=mask)
    return _photographed(sprite, size, rng)


def _fabric(strength: dict[str, float], rng: np.random.Generator) -> Colour:
    """The base colour: of one of the styles that hold, the office's only where no other has a say."""
    special = [style for style in strength if style in _FABRICS and style != "commuting" and strength[style] > 0]
    office = "commuting" in strength and rng.random() < (0.2 if special else 0.75)
    choices = _FABRICS["commuting"] if office else _ANY
    if special and not office:
        choices = _FABRICS[special[rng.integers(len(special))]]
    r, g, b = np.clip(choices[rng.integers(len(choices))] + rng.normal(0, 9, 3), 8, 252).astype(int).tolist()
    return r, g, b


def _sewn(
    shape: Shape, base: Colour, side: int, rng: np.random.Generator, strength: dict[str, float]
) -> tuple[Image.Image, Image.Image]:
    """The cloth with everything painted on it, RGB, and the garment's outline as its mask, L."""
    cloth, mask = Image.new("RGB", (side, side), base), Image.new("L", (side, side))
    pen, outline = Pen(cloth, shape, base, rng), ImageDraw.Draw(mask)
    whole = [*shape.body, *((-x, y) for x, y in reversed(shape.body))]
    sleeves = [[(sign * x, y) for x, y in shape.sleeve] for sign in (-1, 1) if shape.sleeve]
    for part in (whole, *sleeves):
        outline.polygon([pen.at(*p) for p in part], 255)
    plain = 0.97 if strength.get("minimalist", 0) == 1 else 0.03
    if not PRINTS.keys() & strength.keys() and rng.random() > plain:
        everyday_print(pen)
    _paint(cloth, pen, PRINTS, strength)
    if shape.neck:
        neckline(pen)
    _paint(cloth, pen, TRIMMINGS, strength)
    seam = (*toned(base, -75), 150)
    for part in (whole, *sleeves):
        pen.line([*part, part[0]], seam, 0.008)
    return _folded(cloth, rng), mask


def _paint(cloth: Image.Image, pen: Pen, cues: dict[str, Callable[[Pen], None]], strength: dict[str, float]) -> None:
    for style, paint in cues.items():
        if strength.get(style) == 1:
            paint(pen)
        elif strength.get(style):
            before = cloth.copy()
            paint(pen)
            cloth.paste(Image.blend(before, cloth, strength[style]))


def _folded(cloth: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Round the cloth by shading: darker towards its sides, with a few soft folds."""
    coarse = math.ceil(cloth.width / 4)  # light is smooth, and a coarse map of it 16 times as fast
    x = np.linspace(-0.5, 0.5, coarse, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, coarse, dtype=np.float32)[:, None]
    folds, phase, lean = rng.uniform([3, 0, -2], [6, 2 * math.pi, 2]).tolist()
    waves = np.sin(2 * math.pi * folds * x * (1.6 - 0.6 * y) + phase + lean * y)
    light = Image.fromarray((255 * (0.93 - 0.9 * x * x + 0.09 * y * (waves - 0.3))).astype(np.uint8))
    light = light.resize(cloth.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(cloth, Image.merge("RGB", [light] * 3))


def _hang(sprite: Image.Image, shape: Shape) -> None:
    """A wooden hanger behind the garment, or the clip of one above a waistband."""
    pen, middle, top = ImageDraw.Draw(sprite), sprite.width / 2, shape.top * sprite.height
    unit = sprite.width
    pen.line([(middle, top - 0.06 * unit), (middle, top + 0.02 * unit)], (120, 120, 126, 255), max(1, unit // 90))
    pen.arc((middle - 0.025 * unit, top - 0.105 * unit, middle + 0.025 * unit, top - 0.055 * unit), 150, 90,
            (120, 120, 126, 255), max(1, unit // 90))  # fmt: skip
    reach, drop = (0.15, 0.05) if shape.neck else (0.1, 0.0)
    ends = [(middle - reach * unit, top + drop * unit), (middle, top - 0.012 * unit)]
    pen.line([*ends, (middle + reach * unit, top + drop * unit)], (176, 128, 82, 255), max(2, unit // 40))


def _photographed(sprite: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """The garment before a wall: turned, moved and scaled, with its shadow, a light from one side and noise."""
    angle, zoom = math.radians(rng.normal(0, 4)), rng.uniform(0.84, 1.04)
    cos, sin = 2 * math.cos(angle) / zoom, 2 * math.sin(angle) / zoom
    dx, dy = rng.uniform([0.43, 0.44], [0.57, 0.52]) * size
    move = (cos, sin, size - cos * dx - sin * dy, -sin, cos, size + sin * dx - cos * dy)
    garment = sprite.transform((size, size), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR)
    wall = np.array([226, 223, 218]) + rng.normal(0, 9, 3)
    photo = Image.new("RGB", (size, size), tuple(np.clip(wall, 150, 255).astype(int).tolist()))
    shadow = garment.getchannel("A").point(lambda alpha: alpha // 3)
    shadow = shadow.filter(ImageFilter.GaussianBlur(size / 32))
    photo.paste((60, 56, 60), (round(rng.uniform(-0.05, 0.05) * size), round(0.03 * size)), shadow)
    photo.paste(garment, mask=garment)
    across, down = rng.uniform(-0.16, 0.16), rng.uniform(-0.06, 0.16)
    slope = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = rng.uniform(0.9, 1.06) * (1 + across * slope[None, :, None] - down * slope[:, None, None])
    noise = rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(rng.uniform(1.5, 5))
    return np.clip(np.asarray(photo, dtype=np.float32) * light + noise, 0, 255).astype(np.uint8)


def draw_dataset(
    folder: Path, n: int, size: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Draw `n` garments into the new `folder`: photos/00001.jpg, ... and labels.csv; the same bytes for a seed.

    labels.csv has the columns image, split, l1..l13; about 70 % train, 10 % val, 20 % test, and every style
    is topped up (see `draw_styles`) to n / 60 pictures, a fifth of them in test. `size` is pixels a side;
    `progress` is called with (pictures drawn, n). The folder appears once it is complete.

    Returns:
        The path of labels.csv.

    Raises:
        UsageError: `folder` exists, or n is less than 240.
        StorageError: `folder` can't be written.
    """
    if n < 240:  # n / 60 = 4 of the rarest style: fewer can't be split in three
        raise UsageError.expected("240 pictures or more", n, "a larger number")
    folder = Path(folder)
    if folder.exists():
        raise UsageError.expected("a new folder to draw into", f"'{folder}', which exists", "another folder")
    rng = np.random.default_rng(seed)
    targets = draw_styles(n, rng, math.ceil(n * _RAREST))
    splits = _split(targets, rng)
    lines = ["image,split," + ",".join(f"l{k + 1}" for k in range(len(STYLES)))]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            complete = Path(temporary, folder.name)
            complete.joinpath("photos").mkdir(parents=True)
            for i in range(n):
                name = f"photos/{i + 1:05d}.jpg"
                photo = draw_garment(targets[i], size, np.random.default_rng([seed, i]))
                Image.fromarray(photo).save(complete / name, quality=90)
                lines.append(f"{name},{splits[i]}," + ",".join(map(str, targets[i])))
                if progress:
                    progress(i + 1, n)
            complete.joinpath("labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
            complete.replace(folder)
    except OSError as error:
        raise StorageError.expected(
            f"{folder} to be written", f"'{error.strerror or error}'", "freeing space or another folder"
        ) from error
    return folder / "labels.csv"


def _split(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A split name for each row: the rarest styles choose first, so that each has its share in every part."""
    splits = np.full(len(targets), "", dtype="<U5")
    everything = np.ones((len(targets), 1), dtype=np.int8)
    columns = np.hstack([targets[:, np.argsort(targets.sum(axis=0), kind="stable")], everything]).T.astype(bool)
    for holds in columns:
        for name, share in _SPLIT.items():
            free = np.flatnonzero(holds & (splits == ""))
            wanted = math.ceil(share * holds.sum()) - int((holds & (splits == name)).sum())
            splits[rng.permutation(free)[: max(0, wanted)]] = name
        splits[holds & (splits == "")] = "train"
    return splits
