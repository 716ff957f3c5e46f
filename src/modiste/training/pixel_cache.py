"""Training photos decoded once and kept as bytes, so that no epoch waits for JPEG: the pixel cache.

What is kept is what `dataset.read` gives, bit for bit, so training with and without it ends with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from modiste.config import Recipe
from modiste.data import images
from modiste.storage import cache
from modiste.storage.arrays import Arrays, Share, missing, open_arrays, writing
from modiste.training.dataset import TrainingPhotos, read_training_photo

_UINT8 = np.dtype(np.uint8)
_NAME = "photos"
_SAMPLE = 16  # photos whose size tells how much room all of them need
_READERS = 4  # threads that decode, and photos that each has in hand


def fits(photos: TrainingPhotos, keys: np.ndarray) -> bool:
    """Whether the cache has room for what is not kept yet of photos with these content keys (n,); old entries make it.

    Raises:
        PhotoError: a photo can't be read.
    """
    folder, _ = _entry(photos)
    cache.touch(folder)  # else it might go to make room for what it lacks
    rows = missing(folder, _NAME, _UINT8, keys)
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    each = [read_training_photo(photos.paths[row], photos.recipe, photos.size).nbytes for row in sample]
    return cache.make_room(math.ceil(len(rows) * float(np.mean(each)) if each else 0))


def keep(
    photos: TrainingPhotos,
    keys: np.ndarray,
    *,
    share: Share = Share(),  # noqa: B008  frozen
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decode and keep what is not kept yet.

    Args:
        photos: which, at which size.
        keys: (n,) uint64, from `cache.content_keys`.
        share: of the work, what falls to this process; each keeps a file of its own.
        progress: told (photos done, photos in all).

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
    """
    folder, facts = _entry(photos)
    cache.create_entry(folder, facts)
    with writing(folder, _NAME, share.rank, _UINT8) as file, ThreadPoolExecutor(_READERS) as pool:
        rows = missing(folder, _NAME, _UINT8, keys)
        rows = rows[share.of(keys[rows])]
        for start in range(0, len(rows), _READERS**2):
            some = rows[start : start + _READERS**2]
            for row, photo in zip(
                some,
                pool.map(lambda row: read_training_photo(photos.paths[row], photos.recipe, photos.size), some),
                strict=True,
            ):
                file.add(int(keys[row]), photo)
            cache.touch(folder)
            if progress:
                progress(start + len(some), len(rows))


def open_kept(photos: TrainingPhotos, keys: np.ndarray) -> Arrays:
    """Open what every process kept, in the order of `keys`.

    Raises:
        KeyError: it was removed meanwhile.
    """
    folder = entry_of(photos)
    cache.touch(folder)
    return open_arrays(folder, _NAME, _UINT8, keys)


def entry_of(photos: TrainingPhotos) -> Path:
    """The folder of the cache where these photos are kept."""
    return _entry(photos)[0]


def _entry(photos: TrainingPhotos) -> tuple[Path, dict[str, Any]]:
    facts = _facts(photos.recipe, photos.size)
    return cache.entry_folder("pixels", facts), facts


def _facts(recipe: Recipe, size: int) -> dict[str, Any]:
    whole = recipe.augment.crop_scale == (1.0, 1.0)
    drawn = {"mode": recipe.image.mode} if whole else {"smallest crop": recipe.augment.crop_scale[0]}
    return {"size": size, **drawn, "versions": {"pillow": metadata.version("pillow"), "decoder": images.DECODER}}
