"""Thumbnails -> perceptual hashes of their views, and how alike two of them are.

The hash is a discrete cosine transform of the grey thumbnail, the signs of its 64 lowest frequencies
(Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"). The transform of a
cropped or mirrored photo is a linear function of its thumbnail, so that one thumbnail serves all views.
The limits below were measured on planted edits of real photos: docs/reference/checking.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from modiste.audit.thumbnails import SIDE

RADIUS = 9  # bits of 64 in which the hashes of near duplicates differ at most
BANDS = 5  # parts of a hash; two within RADIUS differ by at most one bit in one of them (pigeonhole)
MOST_DIFFERENT = 0.05  # share of the grey variance that a fit may leave unexplained between near duplicates
LEAST_ALIKE = 0.945  # correlation of the fine structure of near duplicates
MOST_TINTED = 16.0  # grey levels by which the colours of near duplicates differ, on average
_GRID = 16  # samples a side of what is compared in the end
_CUT = 0.06  # a view lacks this share of the width or height: within 3 % of any crop of up to 9 %
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_FREQUENCIES = sorted(((f, g) for f in range(12) for g in range(12) if f + g), key=lambda at: (sum(at), at))[:64]
# The bits of a band are spread over low and high frequencies, so that its values are spread as well.
_ORDER = [at for band in range(BANDS) for at in _FREQUENCIES[band::BANDS]]


@dataclass(frozen=True)
class View:
    """A part of a photo: rows and columns as (start, end) in shares of its sides, mirrored or not."""

    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)
    mirrored: bool = False


_SPANS = ((0.0, 1.0), (0.0, 1 - _CUT), (_CUT / 2, 1 - _CUT / 2), (_CUT, 1.0))
WHOLE, MIRRORED = View(), View(mirrored=True)
CROPS = tuple(View(rows, columns) for rows in _SPANS for columns in _SPANS)[1:]


def hashes(thumbnails: np.ndarray, view: View = WHOLE) -> np.ndarray:
    """Perceptual hashes of one view of each thumbnail.

    Args:
        thumbnails: (n, SIDE, SIDE, 3) uint8 RGB.
        view: the part that is hashed.

    Returns:
        (n,) uint64, the bands one after the other from the highest bit.
    """
    grey = _seen(thumbnails @ _GREY, view)
    highest = max(max(at) for at in _ORDER) + 1
    down, across = _waves(highest) @ _shares(view.rows), _waves(highest) @ _shares(view.columns)
    found = down @ grey @ across.T
    rows, columns = np.array(_ORDER).T
    bits = np.packbits(np.ascontiguousarray(found[:, rows, columns] > 0), axis=1)
    packed: np.ndarray = bits.view(">u8").ravel().astype(np.uint64)
    return packed


def samples(thumbnails: np.ndarray, view: View = WHOLE) -> np.ndarray:
    """What is compared of one view of each thumbnail, (n, _GRID, _GRID, 3) float32 levels, a little blurred."""
    seen = _seen(thumbnails, view).astype(np.float32)
    down, across = _sampling(view.rows), _sampling(view.columns)
    rows = np.tensordot(seen, down, axes=(1, 1))  # (n, column, channel, row)
    return np.ascontiguousarray(np.tensordot(rows, across, axes=(1, 1)).transpose(0, 2, 3, 1))


def align(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit pairs of photos: brightness, contrast, and a shift and stretch of a few percent.

    Args:
        first, second: (pairs, _GRID, _GRID, 3) from `samples`.

    Returns:
        (pairs, 4) float64: by how many samples the first is to be shifted along its columns, and how that grows
        over its width; then along its rows, and over its height. And (pairs,) bool: it fits; less than
        MOST_DIFFERENT of the grey variance is left, and the colours are near. By least squares on first
        derivatives (Lucas, Kanade 1981, one step).
    """
    grey = first @ _GREY
    down, across = np.gradient(grey, axis=(1, 2))
    at = ((np.arange(_GRID) - (_GRID - 1) / 2) / _GRID).astype(np.float32)
    moves = np.stack([grey, across, across * at, down, down * at[:, None]], axis=1).reshape(len(grey), 5, -1)
    moves -= moves.mean(axis=2, keepdims=True)
    wanted = (second @ _GREY).reshape(len(grey), -1)
    wanted -= wanted.mean(axis=1, keepdims=True)
    overlap = np.matmul(moves, wanted[..., None]).astype(np.float64)
    inner = np.matmul(moves, moves.transpose(0, 2, 1)).astype(np.float64) + np.eye(5)  # else a blank has no fit
    found = np.linalg.solve(inner, overlap)
    unexplained = 1 - (overlap * found).sum(axis=(1, 2)) / np.maximum((wanted.astype(np.float64) ** 2).sum(axis=1), 1)
    tinted = np.abs(_tints(first) - _tints(second)).mean(axis=(1, 2, 3))
    gain = np.maximum(found[:, :1, 0], 0.2)
    return found[:, 1:, 0] / gain, (unexplained < MOST_DIFFERENT) & (tinted < MOST_TINTED)


def detail(first: np.ndarray, second: np.ndarray, moves: np.ndarray, view: View = WHOLE) -> np.ndarray:
    """Correlation of the fine structure of pairs, (pairs,) float64; two shirts on one carpet differ in theirs.

    Args:
        first, second: (pairs, SIDE, SIDE, 3) uint8 thumbnails.
        moves: (pairs, 4) from `align`.
        view: the part of the first that is compared.
    """
    shares = (np.arange(SIDE) + 0.5) / SIDE
    places = []
    for start, (low, high) in ((2, view.rows), (0, view.columns)):
        moved = shares + (moves[:, start : start + 1] + moves[:, start + 1 : start + 2] * (shares - 0.5)) / _GRID
        places.append(_between((low + moved * (high - low)) * SIDE - 0.5))
    down, across = places
    seen = _seen(first, view).astype(np.float32).transpose(0, 3, 1, 2)
    warped = down[:, None] @ seen @ across[:, None].transpose(0, 1, 3, 2)
    one, other = _fine(warped), _fine(second.astype(np.float32).transpose(0, 3, 1, 2))
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    correlation: np.ndarray = ((one * other).sum(axis=1) / np.maximum(norms, 1e-6)).astype(np.float64)
    return correlation


def _between(places: np.ndarray) -> np.ndarray:
    """(pairs, SIDE, SIDE) float32 weights that interpolate linearly at (pairs, SIDE) places among pixel centres."""
    distance = np.abs(np.clip(places, 0, SIDE - 1)[:, :, None] - np.arange(SIDE))
    weights: np.ndarray = np.maximum(1 - distance, 0).astype(np.float32)
    return weights


def _fine(photos: np.ndarray) -> np.ndarray:
    """What (1 2 1) leaves and eight times (1 2 1) takes away of (pairs, 3, SIDE, SIDE), (pairs, pixels)."""
    fine, coarse = _blur(1), _blur(8)
    passed: np.ndarray = fine @ photos @ fine.T - coarse @ photos @ coarse.T
    return passed.reshape(len(photos), 3 * SIDE * SIDE)


def _seen(thumbnails: np.ndarray, view: View) -> np.ndarray:
    return thumbnails[:, :, ::-1] if view.mirrored else thumbnails


def _tints(sampled: np.ndarray) -> np.ndarray:
    """(pairs, 4, 4, 2): red and blue less grey."""
    coarse = sampled.reshape(len(sampled), 4, _GRID // 4, 4, _GRID // 4, 3).mean(axis=(2, 4))
    tints: np.ndarray = coarse[..., [0, 2]] - (coarse @ _GREY)[..., None]
    return tints


@cache
def _waves(count: int) -> np.ndarray:
    """(count, SIDE) float32, the cosines of the transform."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    waves: np.ndarray = np.cos(np.pi * np.outer(np.arange(count), places)).astype(np.float32)
    return waves


@cache
def _shares(span: tuple[float, float], parts: int = SIDE) -> np.ndarray:
    """(parts, SIDE) float32: how much of each pixel lies in each of the equal parts of a span; rows sum to 1."""
    edges = np.linspace(span[0] * SIDE, span[1] * SIDE, parts + 1)[:, None]
    pixels = np.arange(SIDE)
    inside = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares: np.ndarray = np.maximum(inside, 0).astype(np.float32)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


@cache
def _sampling(span: tuple[float, float]) -> np.ndarray:
    """(_GRID, SIDE) float32: blurred, then the equal parts of a span. Sharp samples don't bear a shift."""
    sampling: np.ndarray = _shares(span, _GRID) @ _blur(2)
    return sampling


@cache
def _blur(times: int) -> np.ndarray:
    """(SIDE, SIDE) float32: the filter (1 2 1) / 4, several times; the edge stands for what lies beyond."""
    once = np.zeros((SIDE, SIDE))
    for step, weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        once[np.arange(SIDE), np.clip(np.arange(SIDE) + step, 0, SIDE - 1)] += weight
    return np.linalg.matrix_power(once, times).astype(np.float32)
