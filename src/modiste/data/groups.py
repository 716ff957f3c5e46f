"""Groups of photos that belong together: products, people, near duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from modiste.data.manifest import Manifest

_T = TypeVar("_T", str, int)


class UnionFind:
    """Clusters of n photos that grow as pairs are joined (Tarjan 1975, "Efficiency of a Good But Not Linear Set Union
    Algorithm"); a cluster is named by the lowest position in it.
    """

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def join(self, pairs: np.ndarray) -> None:
        """Put the two photos of each pair (pairs, 2) into one cluster."""
        for one, other in pairs.tolist():
            first, second = self._root(one), self._root(other)
            self._parent[max(first, second)] = min(first, second)

    def apart(self, pairs: np.ndarray) -> np.ndarray:
        """Those of the pairs (pairs, 2) whose photos are in two clusters; comparing the others adds nothing."""
        return pairs[[self._root(one) != self._root(other) for one, other in pairs.tolist()]]

    def roots(self) -> np.ndarray:
        """The lowest position in the cluster of each photo, (n,) int64."""
        return np.array([self._root(k) for k in range(len(self._parent))], np.int64)

    def _root(self, k: int) -> int:
        parent = self._parent
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """The lowest position that each of n photos is connected with over `pairs` (pairs, 2), (n,) int64."""
    clusters = UnionFind(n)
    clusters.join(pairs)
    return clusters.roots()


def group_numbers(manifest: Manifest) -> np.ndarray:
    """(n,) int64, equal where photos have one group; a blank group is a group of its own."""
    if "group" not in manifest.frame.columns:
        return np.arange(len(manifest))
    return components(len(manifest), _pairs(manifest.frame["group"].to_list()))


def keep_together(manifest: Manifest, clusters: np.ndarray) -> Manifest:
    """Merge the groups of the column `group` with clusters of near duplicates, and write the result into that column.

    Args:
        manifest: n photos.
        clusters: (n,) int64, equal where photos are near duplicates.
    """
    n, named = len(manifest), [""] * len(manifest)
    if "group" in manifest.frame.columns:
        named = manifest.frame["group"].to_list()
    merged = components(n, np.concatenate([_pairs(named), _pairs(clusters.tolist())])).tolist()
    like = "like "
    while any(name.startswith(like) for name in named):  # as in a manifest that was split before
        like += "like "
    names: dict[int, str] = {}
    for k in range(n):
        if named[k]:
            names.setdefault(merged[k], named[k])
    together = np.bincount(merged, minlength=n)
    for k in range(n):
        if together[k] > 1:
            names.setdefault(k, like + manifest.frame["id"][k])
    return manifest.with_column("group", [names.get(root, "") for root in merged])


def _pairs(names: Sequence[_T]) -> np.ndarray:
    """(pairs, 2) int64: each photo with the first of its name; "" is no name."""
    first: dict[_T, int] = {}
    pairs = [(first.setdefault(name, k), k) for k, name in enumerate(names) if name != ""]
    return np.array(pairs, np.int64).reshape(-1, 2)
