"""Thumbnails -> exact and near duplicates and mirrored copies, and the clusters that they form.

Hashes are looked up in bands (multi-index hashing: Norouzi, Punjani, Fleet 2012, "Fast Search in Hamming
Space with Multi-Index Hashing"), which finds every pair within hashes.RADIUS bits without comparing all
pairs; the thumbnails then decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from modiste.audit.hashes import (
    BANDS,
    CROPS,
    LEAST_ALIKE,
    MIRRORED,
    RADIUS,
    WHOLE,
    View,
    align,
    detail,
    hashes,
    samples,
)
from modiste.audit.thumbnails import Thumbnails, hash_pixels
from modiste.data.groups import UnionFind, components

MOST_IN_BUCKET = 256  # hashes of one bucket that one query is compared with
MOST_NEAR = 64  # nearest hashes whose photos are compared
BLANK = 12.0  # grey levels: a photo whose colours spread no further shows nothing to be compared
_CHUNK = 1024  # photos or queries at once
_ROUNDS = 8  # kinds of photos that may share one hash before they are left to the search
_PAIRS = 1024  # pairs compared at once, before those that have become one cluster are dropped


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Which of n photos look alike.

    Attributes:
        exact: (n,) int64, equal where the pixels are.
        near: (n,) int64, equal where photos are exact or near duplicates, directly or over others.
        any: (n,) int64, likewise with mirrored copies.
        pairs: (pairs, 2) int64, the near duplicates that made the clusters, lower position first.
        alike: (pairs,) float64, correlation of their fine structure, from hashes.LEAST_ALIKE to 1.
        mirrored: (pairs,) bool, one of the two had to be mirrored.
        crowded: photos with a hash in a bucket of more than MOST_IN_BUCKET, which were not compared with all of it.
    """

    exact: np.ndarray
    near: np.ndarray
    any: np.ndarray
    pairs: np.ndarray
    alike: np.ndarray
    mirrored: np.ndarray
    crowded: int


def find_near_duplicates(
    thumbnails: Thumbnails,
    paths: Sequence[Path | None],
    folder: Path,
    *,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> NearDuplicates:
    """Find exact duplicates, near duplicates and mirrored copies; a blank photo is a duplicate of none.

    Args:
        thumbnails: of n photos.
        paths: the n photos; those that may be equal to the pixel are decoded whole.
        folder: where they are kept.
        workers: threads that decode.
        progress: told (done, total) in photos, of the search, then of those that are decoded whole.

    Raises:
        StorageError: `folder` can't be written.
    """
    shown = np.flatnonzero(thumbnails.there & (thumbnails.spreads > BLANK))
    found, alike, mirrored, crowded = _search(thumbnails.pixels[shown], progress)
    n, pairs = len(thumbnails.there), shown[found]
    near = components(n, pairs[~mirrored])
    # Photos can only be equal if they are in one cluster and of one size.
    sized = np.column_stack([near, thumbnails.sizes])[shown]
    _, which, many = np.unique(sized, axis=0, return_inverse=True, return_counts=True)
    wanted = shown[many[which.ravel()] > 1].tolist()
    keys = hash_pixels([Path(str(paths[k])) for k in wanted], folder, workers=workers, progress=progress)
    first: dict[bytes, int] = {}
    equal = [(first.setdefault(key, k), k) for k, key in zip(wanted, keys, strict=True)]
    exact = components(n, np.array(equal, np.int64).reshape(-1, 2))
    return NearDuplicates(exact, near, components(n, pairs), pairs, alike, mirrored, crowded)


class HashIndex:
    """Hashes in BANDS sorted lists, to be asked for all within RADIUS bits.

    `crowded` marks the hashes (n,) bool that lie in a bucket of more than MOST_IN_BUCKET. A query that falls
    into such a bucket sees only those next to it in the order of the bits that follow, and one that falls
    beside it sees none of it, so that no crowd makes the search quadratic.
    """

    def __init__(self, values: np.ndarray) -> None:
        """Index (n,) uint64 hashes."""
        self.values = values
        self.crowded = np.zeros(len(values), bool)
        self._bands = []
        widths = [len(range(band, 64, BANDS)) for band in range(BANDS)]
        for start, width in zip(np.cumsum([0, *widths]), widths, strict=False):
            keys = _turned(values, int(start))
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            starts = np.searchsorted(keys >> np.uint64(64 - width), np.arange((1 << width) + 1, dtype=np.uint64))
            self.crowded[order] |= np.repeat(np.diff(starts) > MOST_IN_BUCKET, np.diff(starts))
            self._bands.append((int(start), width, keys, order, starts))

    def near(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The MOST_NEAR nearest hashes within RADIUS bits of each of m queries, (m,) uint64.

        Returns:
            Positions of queries, and beside each the position of a hash.
        """
        found = [np.zeros((0, 2), np.int64)]
        for start in range(0, len(queries), _CHUNK):
            part = queries[start : start + _CHUNK]
            both = np.unique(np.concatenate(list(self._near(part))))
            query, position = np.divmod(both, max(1, len(self.values)))
            order = np.lexsort((np.bitwise_count(part[query] ^ self.values[position]), query))
            rank = np.arange(len(both)) - np.searchsorted(query, query)
            nearest = order[rank < MOST_NEAR]
            found.append(np.column_stack([query[nearest] + start, position[nearest]]))
        both = np.concatenate(found)
        return both[:, 0], both[:, 1]

    def _near(self, queries: np.ndarray) -> Iterator[np.ndarray]:
        """query * n + position of each pair, band by band."""
        for start, width, keys, order, starts in self._bands:
            turned = _turned(queries, start)
            low = np.uint64(64 - width)
            flips = np.concatenate([[0], 1 << np.arange(width)]).astype(np.uint64)
            codes = (turned >> low)[:, None] ^ flips
            begin, end = starts[codes], starts[codes + np.uint64(1)]
            full = end - begin > MOST_IN_BUCKET
            if full.any():
                rest = turned & ((np.uint64(1) << low) - np.uint64(1))
                middle = np.searchsorted(keys, (codes[:, 0] << low) | rest)
                last = end[:, 0] - MOST_IN_BUCKET
                end[full] = begin[full]  # nothing of a crowd next door, and of the own one the nearest
                own = full[:, 0]
                begin[own, 0] = np.clip(middle - MOST_IN_BUCKET // 2, begin[:, 0], last)[own]
                end[own, 0] = begin[own, 0] + MOST_IN_BUCKET
            counts = (end - begin).ravel()
            query = np.repeat(np.repeat(np.arange(len(queries)), len(flips)), counts)
            place = np.arange(counts.sum()) + np.repeat(begin.ravel() - np.cumsum(counts) + counts, counts)
            close = np.bitwise_count(keys[place] ^ turned[query]) <= RADIUS
            yield query[close] * len(keys) + order[place[close]]


def _search(
    thumbnails: np.ndarray, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Pairs of positions, lower first, how alike, whether mirrored, and how many photos were crowded."""
    sampled, values = _chunked(samples, thumbnails), _chunked(hashes, thumbnails)
    alone, *same = _same_hash(values, thumbnails, sampled)
    found, alike, mirrored = [same[0]], [same[1]], [np.zeros(len(same[0]), bool)]
    clusters = UnionFind(len(values))
    clusters.join(same[0])
    index = HashIndex(values[alone])
    views = (WHOLE, *CROPS, MIRRORED)
    for done, view in enumerate(views, 1):
        # In a crowd everything is near everything; there, crops would add nothing but time.
        asked = alone[~index.crowded] if view in CROPS else alone
        one, other = index.near(_chunked(partial(hashes, view=view), thumbnails[asked]))
        pairs = np.column_stack([asked[one], alone[other]])
        for start in range(0, len(pairs), _PAIRS):
            part = clusters.apart(pairs[start : start + _PAIRS])
            likeness = _compare(thumbnails, sampled, part, view)
            close = likeness >= LEAST_ALIKE
            clusters.join(part[close])
            found.append(np.sort(part[close], axis=1))
            alike.append(likeness[close])
            mirrored.append(np.full(int(close.sum()), view.mirrored))
        if progress is not None:
            progress(done * len(values) // len(views), len(values))
    return np.concatenate(found), np.concatenate(alike), np.concatenate(mirrored), int(index.crowded.sum())


def _same_hash(
    values: np.ndarray, thumbnails: np.ndarray, sampled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos of one hash that look alike are represented by the first of them, so that a thousand copies are one.

    Returns:
        Positions of those that represent themselves or others, pairs (first, other), and how alike they are.
    """
    rest, firsts, found, alike = np.arange(len(values)), [], [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for _ in range(_ROUNDS):
        _, at, hash_of = np.unique(values[rest], return_index=True, return_inverse=True)
        others = np.setdiff1d(np.arange(len(rest)), at)
        pairs = np.column_stack([rest[at[hash_of[others]]], rest[others]])
        likeness = _compare(thumbnails, sampled, pairs, WHOLE)
        close = likeness >= LEAST_ALIKE
        firsts.append(rest[at])
        found.append(pairs[close])
        alike.append(likeness[close])
        rest = rest[others[~close]]
    return np.sort(np.concatenate([*firsts, rest])), np.concatenate(found), np.concatenate(alike)


def _compare(thumbnails: np.ndarray, sampled: np.ndarray, pairs: np.ndarray, view: View) -> np.ndarray:
    """How alike a view of the first of each pair and the second are, (pairs,) float64; 0 where they don't even fit."""
    parts = [np.zeros(0)]
    for start in range(0, len(pairs), _PAIRS):
        one, other = pairs[start : start + _PAIRS].T
        photos, back = np.unique(one, return_inverse=True)
        seen = sampled[one] if view == WHOLE else samples(thumbnails[photos], view)[back]
        moves, fits = align(seen, sampled[other])
        likeness = np.zeros(len(one))
        likeness[fits] = detail(thumbnails[one[fits]], thumbnails[other[fits]], moves[fits], view)
        parts.append(likeness)
    return np.concatenate(parts)


def _chunked(make: Callable[[np.ndarray], np.ndarray], thumbnails: np.ndarray) -> np.ndarray:
    """`make` of all thumbnails, a chunk at a time, for they are bytes and become floats."""
    starts = range(0, max(1, len(thumbnails)), _CHUNK)
    return np.concatenate([make(thumbnails[start : start + _CHUNK]) for start in starts])


def _turned(values: np.ndarray, by: int) -> np.ndarray:
    """The 64 bits turned left, so that a band comes first."""
    turned: np.ndarray = values if by == 0 else (values << np.uint64(by)) | (values >> np.uint64(64 - by))
    return turned
