"""Groups of photos that belong together: products, people, look-alikes; union-find over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from modiste.data.manifest import Manifest


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """The lowest position that each of n photos is connected with over `pairs` (pairs, 2), (n,) int64: union-find."""
    parent = list(range(n))
    _join(parent, pairs)
    return np.array([_root(parent, k) for k in range(n)], np.int64)


def _join(parent: list[int], pairs: np.ndarray) -> None:
    for one, other in pairs.tolist():
        first, second = _root(parent, one), _root(parent, other)
        parent[max(first, second)] = min(first, second)


def _apart(parent: list[int], pairs: np.ndarray) -> np.ndarray:
    """The pairs that are not in one cluster yet: comparing the others could add nothing."""
    return pairs[[_root(parent, one) != _root(parent, other) for one, other in pairs.tolist()]]


def _root(parent: list[int], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


def group_numbers(manifest: Manifest) -> np.ndarray:
    """(n,) int64, equal where photos have one group; a blank group is a group of its own."""
    if "group" not in manifest.frame.columns:
        return np.arange(len(manifest))
    return components(len(manifest), _pairs(manifest.frame["group"].to_list()))


def keep_together(manifest: Manifest, alike: np.ndarray) -> Manifest:
    """Write into the column `group` the groups that keep both its own and photos that look alike together.

    Args:
        manifest: n photos.
        alike: (n,) int64, equal where photos look alike.
    """
    n, named = len(manifest), [""] * len(manifest)
    if "group" in manifest.frame.columns:
        named = manifest.frame["group"].to_list()
    merged = components(n, np.concatenate([_pairs(named), _pairs(alike.tolist())])).tolist()
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


_T = TypeVar("_T", str, int)


def _pairs(names: Sequence[_T]) -> np.ndarray:
    """(pairs, 2) int64: each photo with the first of its name; "" is no name."""
    first: dict[_T, int] = {}
    pairs = [(first.setdefault(name, k), k) for k, name in enumerate(names) if name != ""]
    return np.array(pairs, np.int64).reshape(-1, 2)
