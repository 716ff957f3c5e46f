"""How each style shows on a drawn garment: the shape it is painted on, the pen, and one cue a style."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

_WHITE, _GOLD, _PEARL, _STEEL = (250, 250, 248), (224, 178, 76), (252, 246, 236), (200, 204, 210)


class Shape(NamedTuple):
    """One garment in units of the picture's side, x from its axis, y downwards."""

    body: list[tuple[float, float]]  # right half, from the top middle to the bottom middle
    sleeve: list[tuple[float, float]]  # right one; empty for trousers and skirts
    top: float
    neck: float  # half width of the neckline; 0 for trousers and skirts
    waist: tuple[float, float]  # (y, half width)
    hem: tuple[float, float]  # (y, half width)


class Pen:
    """Draws on the cloth in the shape's own units; what leaves the garment is cut off later."""

    def __init__(self, cloth: Image.Image, shape: Shape, base: Colour, rng: np.random.Generator) -> None:
        self.draw, self.side = ImageDraw.Draw(cloth, "RGBA"), cloth.width
        self.shape, self.base, self.rng = shape, base, rng
        self.dark = sum(base) < 330
        self.mirrored = rng.random() < 0.5

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a place on the shape."""
        return (0.5 + (-x if self.mirrored else x)) * self.side, y * self.side

    def line(self, points: list[tuple[float, float]], colour: tuple[int, ...], width: float) -> None:
        """A stroke through `points`; a fourth number of the colour is its opacity, here and below."""
        self.draw.line([self.at(*p) for p in points], colour, max(1, round(width * self.side)), joint="curve")

    def area(self, points: list[tuple[float, float]], colour: tuple[int, ...]) -> None:
        """A filled polygon."""
        self.draw.polygon([self.at(*p) for p in points], colour)

    def dot(self, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
        """A filled circle."""
        (x, y), radius = self.at(x, y), radius * self.side
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

    def band(self, y: float, half: float, reach: float, colour: tuple[int, ...]) -> None:
        """A level band around height y, 2 * half high, reaching `reach` to both sides."""
        self.area([(-reach, y - half), (reach, y - half), (reach, y + half), (-reach, y + half)], colour)

    def scatter(self, count: int) -> list[tuple[float, float]]:
        """Places spread evenly over the picture: a jittered grid."""
        k = math.isqrt(count)
        grid = np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2)
        places = (grid + self.rng.uniform(0.15, 0.85, grid.shape)) / k
        return [(float(x) - 0.5, float(y)) for x, y in places]


def toned(colour: Colour, by: int) -> Colour:
    """A lighter (by > 0) or darker tone."""
    r, g, b = (min(255, max(0, c + by)) for c in colour)
    return r, g, b


def everyday_print(pen: Pen) -> None:
    """What a garment that isn't minimalist wears for a pattern: stripes, checks or dots."""
    step, kind = pen.rng.uniform(0.04, 0.065), pen.rng.choice(4, p=(0.3, 0.25, 0.15, 0.3))
    ink = (*toned(pen.base, 75 if pen.dark else -75), int(pen.rng.integers(110, 200)))
    places = np.arange(-0.5, 1.0, step).tolist()
    if kind in (0, 2):
        for x in places:
            pen.line([(x, 0), (x, 1)], ink, 0.007)
    if kind in (1, 2):
        for y in places:
            pen.line([(-0.5, y), (0.5, y)], ink, 0.010)
    if kind == 3:
        for i, y in enumerate(places):
            for x in places:
                pen.dot(x + step / 2 * (i % 2), y, 0.009, ink)


def neckline(pen: Pen) -> None:
    """The opening at the neck, through which the garment's inside shows."""
    (left, upper), (right, lower) = pen.at(-0.068, pen.shape.top - 0.05), pen.at(0.068, pen.shape.top + 0.05)
    pen.draw.ellipse((min(left, right), upper, max(left, right), lower), toned(pen.base, -70 if not pen.dark else -28))
    pen.draw.arc((min(left, right), upper, max(left, right), lower), 0, 180, toned(pen.base, 34), pen.side // 80)


def _sports(pen: Pen) -> None:
    y, half = pen.shape.hem
    for offset in (0.0, 0.032):
        for sign in (-1, 1):
            pen.line([(sign * (pen.shape.waist[1] - 0.035 + offset), pen.shape.top),
                      (sign * (half - 0.05 + offset), y + 0.05)], _WHITE, 0.016)  # fmt: skip
    for start, end in zip(pen.shape.sleeve[:1], pen.shape.sleeve[2:3], strict=True):
        for sign in (-1, 1):
            pen.line([(sign * start[0], start[1]), (sign * end[0] - sign * 0.04, end[1])], _WHITE, 0.016)
    pen.band(y + 0.015, 0.04, 0.5, _WHITE)


def _casual(pen: Pen) -> None:
    stitch = (236, 160, 66)
    x, y = (0.035, 0.30) if pen.shape.neck else (0.04, pen.shape.top + 0.11)
    pocket = [(x, y), (x + 0.095, y), (x + 0.095, y + 0.085), (x + 0.0475, y + 0.115), (x, y + 0.085), (x, y)]
    pen.area(pocket, toned(pen.base, -26))
    pen.line(pocket, stitch, 0.009)
    pen.line([(x, y + 0.024), (x + 0.095, y + 0.024)], stitch, 0.007)
    hem = pen.shape.hem[0] - 0.03
    for dash in np.arange(-0.5, 0.5, 0.03).tolist():
        pen.line([(dash, hem), (dash + 0.018, hem)], stitch, 0.008)


def _commuting(pen: Pen) -> None:
    top, (y, half) = pen.shape.top, pen.shape.hem
    edge, button = toned(pen.base, -45), toned(pen.base, 90 if pen.dark else -95)
    if not pen.shape.neck:  # pressed creases and a tab on the waistband
        for sign in (-1, 1):
            pen.line([(sign * 0.07, top + 0.07), (sign * half * 0.58, y)], edge, 0.012)
        pen.line([(-0.5, top + 0.065), (0.5, top + 0.065)], edge, 0.012)
        pen.dot(0.03, top + 0.035, 0.013, button)
        return
    pen.line([(0.018, top), (0.018, y + 0.03)], edge, 0.008)
    for place in np.arange(top + 0.13, y - 0.02, 0.085).tolist():
        pen.dot(0, place, 0.012, button)
    for sign in (-1, 1):
        collar = [(0, top + 0.055), (sign * 0.085, top - 0.01), (sign * 0.11, top + 0.04), (sign * 0.055, top + 0.12)]
        pen.area(collar, toned(pen.base, 26))
        pen.line([*collar[1:], collar[0]], edge, 0.008)


def _japanese(pen: Pen) -> None:
    petal = [(226, 108, 126), (96, 128, 182), (232, 148, 96)][int(pen.rng.integers(3))]
    for x, y in pen.scatter(144):
        for turn in range(5):
            angle = 2 * math.pi * turn / 5
            pen.dot(x + 0.013 * math.cos(angle), y + 0.013 * math.sin(angle), 0.0085, petal)
        pen.dot(x, y, 0.007, (250, 214, 90))


def _western(pen: Pen) -> None:
    block = [(24, 24, 28), (246, 244, 238), (196, 30, 44), (240, 190, 40)]
    far = max(block, key=lambda c: sum(abs(a - b) for a, b in zip(c, pen.base, strict=True)) + pen.rng.integers(200))
    y = pen.shape.top + (pen.shape.hem[0] - pen.shape.top) * pen.rng.uniform(0.45, 0.6)
    slope = pen.rng.uniform(0.0, 0.35)
    pen.area([(-0.5, y - slope / 2), (0.5, y + slope / 2), (0.5, 1), (-0.5, 1)], far)


def _british(pen: Pen) -> None:
    for colour, start, width in (((176, 36, 44, 120), 0.0, 0.05), ((24, 62, 52, 120), 0.07, 0.035)):
        for place in np.arange(start - 0.5, 1.0, 0.14).tolist():
            pen.line([(place, 0), (place, 1)], colour, width)
            pen.line([(-0.5, place), (0.5, place)], colour, width)
            pen.line([(place + 0.035, 0), (place + 0.035, 1)], (246, 222, 130, 190), 0.005)
            pen.line([(-0.5, place + 0.035), (0.5, place + 0.035)], (246, 222, 130, 190), 0.005)


def _girly(pen: Pen) -> None:
    pink, deep = (242, 96, 148), (196, 50, 108)
    y, half = pen.shape.hem
    for row, tone in ((0.055, (252, 214, 226)), (0.02, (248, 182, 204))):
        for x in np.arange(-half, half + 0.02, 0.036).tolist():
            pen.dot(x, y - row, 0.027, tone)
    y = pen.shape.top + (0.115 if pen.shape.neck else 0.06)
    for sign in (-1, 1):
        pen.area([(0, y), (sign * 0.07, y - 0.04), (sign * 0.07, y + 0.04)], pink)
        pen.line([(0, y), (sign * 0.035, y + 0.095)], deep, 0.017)
    pen.dot(0, y, 0.018, deep)


def _ladylike(pen: Pen) -> None:
    y, half = pen.shape.waist
    belt = (92, 58, 40) if not pen.dark else (206, 172, 132)
    pen.band(y, 0.018, half + 0.02, belt)
    pen.band(y, 0.028, 0.03, _GOLD)
    pen.band(y, 0.014, 0.015, belt)
    reach, start, sag = (0.085, pen.shape.top + 0.01, 0.115) if pen.shape.neck else (0.1, y + 0.025, 0.07)
    for angle in np.linspace(0, math.pi, 12).tolist():
        x, height = reach * math.cos(angle), start + sag * math.sin(angle)
        pen.dot(x, height, 0.0125, (120, 104, 92))
        pen.dot(x, height, 0.0105, _PEARL)


def _natural(pen: Pen) -> None:
    for place in pen.rng.uniform(-0.5, 1, 90).tolist():
        pen.line([(place, 0), (place, 1)], (*toned(pen.base, -60), 70), 0.004)
        pen.line([(-0.5, place), (0.5, place)], (*toned(pen.base, 40), 70), 0.004)
    for x, y in pen.scatter(49):
        angle = pen.rng.uniform(0, math.pi)
        dx, dy = 0.036 * math.cos(angle), 0.036 * math.sin(angle)
        leaf = [(x - dx, y - dy), (x - dy * 0.4, y + dx * 0.4), (x + dx, y + dy), (x + dy * 0.4, y - dx * 0.4)]
        pen.area(leaf, (92, 124, 74))
        pen.line([leaf[0], leaf[2]], (58, 84, 50), 0.005)


def _street(pen: Pen) -> None:
    neon = [(190, 255, 60), (255, 70, 160), (60, 230, 255), (255, 226, 40)][int(pen.rng.integers(4))]
    y = pen.shape.top + 0.30
    bolt = [(0.03, -0.11), (-0.06, 0.02), (-0.012, 0.02), (-0.035, 0.12), (0.06, -0.02), (0.012, -0.02)]
    pen.area([(x - 0.03, y + dy) for x, dy in bolt], neon)
    for x in (0.06, -0.13):  # crosses, sprayed
        pen.line([(x, y + 0.06), (x + 0.05, y + 0.13)], neon, 0.013)
        pen.line([(x + 0.05, y + 0.055), (x, y + 0.13)], neon, 0.013)
    zip_end = (0.02, y + 0.22)
    pen.line([(0.10, pen.shape.top + 0.08), zip_end], _STEEL, 0.016)
    pen.dot(*zip_end, 0.016, _STEEL)
    for x in np.arange(-0.3, 0.3, 0.035).tolist():
        pen.dot(x, pen.shape.hem[0] - 0.03, 0.011, _STEEL)


def _ethnic(pen: Pen) -> None:
    red, yellow, blue = (206, 48, 52), (246, 196, 66), (48, 150, 170)
    foot = pen.shape.hem[0]
    for y, ground in ((foot - 0.07, red), (foot - 0.28, blue)):
        pen.band(y, 0.045, 0.5, ground)
        zigzag = [(x, y + (0.026 if k % 2 else -0.026)) for k, x in enumerate(np.arange(-0.5, 0.5, 0.035).tolist())]
        pen.line(zigzag, yellow, 0.011)
        for edge in (-0.045, 0.045):
            pen.line([(-0.5, y + edge), (0.5, y + edge)], _WHITE, 0.008)
    for x in np.arange(-0.42, 0.43, 0.07).tolist():
        y = foot - 0.175
        pen.area([(x - 0.024, y), (x, y - 0.036), (x + 0.024, y), (x, y + 0.036)], yellow)
        pen.area([(x - 0.011, y), (x, y - 0.017), (x + 0.011, y), (x, y + 0.017)], red)


# In the order of painting: prints, then what lies on them. korean shows as a loose silhouette, minimalist
# as the absence of any print.
PRINTS: dict[str, Callable[[Pen], None]] = {"natural": _natural, "japanese": _japanese, "british": _british}
TRIMMINGS: dict[str, Callable[[Pen], None]] = {
    "western": _western,
    "sports": _sports,
    "ethnic": _ethnic,
    "casual": _casual,
    "street": _street,
    "commuting": _commuting,
    "ladylike": _ladylike,
    "girly": _girly,
}
