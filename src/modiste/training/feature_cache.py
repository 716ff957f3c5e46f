"""Frozen-backbone features of the photos, computed once and kept.

A locked network gives the same features for the same picture, so each of a photo's augmented views goes through it
once; epochs, stages, seeds, optimisers, folds and runs that share it read the result. Kept as float16, by the photo's
content, in an entry for everything else that it depends on: weights and operations, size, augmentation, versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from modiste.errors import TrainingError
from modiste.models.split import Locked, NetworkSplitter
from modiste.models.tagger import Unlock
from modiste.progress import Progress
from modiste.storage import cache
from modiste.storage.arrays import Arrays, Share, missing, open_arrays, writing
from modiste.training.feature_engine import ComputeFeatures, make_engine
from modiste.training.fixed_views import FixedViews

FLOAT16 = np.dtype(np.float16)

_VERSIONS = ("torch", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class Boundary:
    """Where a lock ends, for pictures of one size: what is kept of each, and what it depends on."""

    unlock: Unlock
    shapes: tuple[tuple[int, ...], ...]  # of the tensors of one picture
    key: str  # of the weights and operations before it

    @property
    def bytes(self) -> int:
        """Of one picture."""
        return sum(map(math.prod, self.shapes)) * FLOAT16.itemsize

    def tensors(self, rows: np.ndarray) -> list[Tensor]:
        """(n, size) float16 as kept -> the tensors, each (n, ...) float32."""
        whole, start, found = torch.from_numpy(rows), 0, []
        for shape in self.shapes:
            end = start + math.prod(shape)
            tensor = whole[:, start:end].reshape(-1, *shape).float()
            found.append(tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor)
            start = end
        return found


def boundaries(cutter: NetworkSplitter, unlock: Unlock, sizes: Sequence[int]) -> list[Boundary]:
    """The boundary of a lock for pictures of each of several sizes."""
    part = cutter.locked([unlock]).eval()
    key = _network_key(part)
    found = {}
    for size in set(sizes):
        with torch.inference_mode():
            photos = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=part.mean.device)
            found[size] = Boundary(unlock, tuple(tuple(tensor.shape[1:]) for tensor in part(photos)), key)
    return [found[size] for size in sizes]


@dataclass(frozen=True)
class FeatureEntry:
    """The cache's entry for pictures at a boundary."""

    pictures: FixedViews
    boundary: Boundary
    backbone: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What its content depends on."""
        boundary, versions = self.boundary, {name: metadata.version(name) for name in _VERSIONS}
        network = {"backbone": self.backbone, "unlock": boundary.unlock, "network": boundary.key}
        shapes = [list(shape) for shape in boundary.shapes]
        return {**network, **self.pictures.facts, "shapes": shapes, "versions": versions}

    @cached_property
    def folder(self) -> Path:
        """Where it lies."""
        return cache.entry_folder("features", self.facts)

    def missing(self, view: int) -> np.ndarray:
        """Rows of what is not kept yet of a view, in order; of photos with the same content one."""
        return missing(self.folder, _name(view), FLOAT16, self.pictures.keys)

    def missing_bytes(self) -> int:
        """By how much computing what is missing would make the cache grow."""
        return sum(len(self.missing(view)) for view in range(self.pictures.views)) * self.boundary.bytes

    def open(self) -> Features:
        """Open what was kept.

        Raises:
            KeyError: it was removed meanwhile.
        """
        cache.touch(self.folder)
        keys = self.pictures.keys
        kept = (open_arrays(self.folder, _name(view), FLOAT16, keys) for view in range(self.pictures.views))
        return Features(self.folder, self.boundary, tuple(kept))


@dataclass(frozen=True)
class Features:
    """Kept features of pictures at a boundary."""

    folder: Path
    boundary: Boundary
    views: tuple[Arrays, ...]

    def tensors(self, views: Sequence[int], rows: Sequence[int] | np.ndarray) -> list[Tensor]:
        """The boundary's tensors, float32, for a batch of views and rows."""
        batch = np.empty((len(rows), self.boundary.bytes // FLOAT16.itemsize), FLOAT16)
        for k, (view, row) in enumerate(zip(views, rows, strict=True)):
            batch[k] = self.views[view][int(row)].reshape(-1)
        return self.boundary.tensors(batch)


def compute(
    cutter: NetworkSplitter,
    entries: Sequence[Sequence[FeatureEntry]],
    *,
    workers: int = 1,
    share: Share = Share(),  # noqa: B008  frozen
    progress: Progress | None = None,
) -> None:
    """Compute and keep what is missing.

    Args:
        cutter: of the network, whose locked parts are as they will be in the stages of the boundaries.
        entries: for each pictures, the entries of the boundaries that are to be kept of it; one pass fills them.
        workers: processes that decode and augment.
        share: of the work, what falls to this process; each keeps files of its own.
        progress: told (pictures done, pictures in all).

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: a value doesn't fit into 16 bits.
    """
    every = list(chain.from_iterable(entries))
    for entry in every:
        cache.create_entry(entry.folder, entry.facts)
    in_use = cache.InUse(entry.folder for entry in every)
    todo = [[_mine(own, view, share) for view in range(own[0].pictures.views)] for own in entries]
    total, done = sum(len(rows) for views in todo for rows in views), 0
    for size in sorted(
        {own[0].pictures.size for own, views in zip(entries, todo, strict=True) if any(map(len, views))}
    ):
        here = [(own, views) for own, views in zip(entries, todo, strict=True) if own[0].pictures.size == size]
        part = cutter.locked([entry.boundary.unlock for entry in here[0][0]])
        whole = sum(own[0].pictures.views * len(own[0].pictures.keys) for own, _ in here)
        engine = make_engine(part, size, whole, part.mean.device)
        for own, views in here:
            for view, rows in enumerate(views):
                for count in _fill(engine, own, view, rows=rows, writer=share.rank, workers=workers):
                    done += count
                    in_use.touch()
                    if progress:
                        progress(done, total)


def _mine(entries: Sequence[FeatureEntry], view: int, share: Share) -> np.ndarray:
    """Rows of what is not kept yet of a view in one of the entries, as far as they fall to this process."""
    rows = np.unique(np.concatenate([entry.missing(view) for entry in entries]))
    mine: np.ndarray = rows[share.of(entries[0].pictures.keys[rows])]
    return mine


def _fill(
    engine: ComputeFeatures, entries: Sequence[FeatureEntry], view: int, *, rows: np.ndarray, writer: int, workers: int
) -> Iterator[int]:
    """Compute and keep some rows of a view; yields how many pictures are done since it last did."""
    pictures, asked = entries[0].pictures, rows
    if not len(asked):
        return
    with ExitStack() as stack:
        for entry in entries:
            cache.create_entry(entry.folder, entry.facts)  # again, where somebody has removed it meanwhile
        files = [stack.enter_context(writing(entry.folder, _name(view), writer, FLOAT16)) for entry in entries]
        # Another process may have done some while this one waited for the files.
        lacking = [np.isin(np.arange(len(pictures.keys)), entry.missing(view)) for entry in entries]
        rows = asked[np.any(lacking, axis=0)[asked]]
        yield len(asked) - len(rows)
        for batch, photos in pictures.batches(view, rows, workers):
            tensors = iter(engine(photos))
            for entry, file, some in zip(entries, files, lacking, strict=True):
                own = [next(tensors).reshape(len(batch), -1) for _ in entry.boundary.shapes]
                for row, values in zip(batch, _finite(np.concatenate(own, axis=1)), strict=True):
                    if some[row]:
                        file.add(int(pictures.keys[row]), values)
            yield len(batch)


def _finite(row: np.ndarray) -> np.ndarray:
    if not np.isfinite(row).all():
        raise TrainingError.expected(
            "features of locked layers to fit into 16 bits",
            "values beyond 65,504",
            "--no-cache, which keeps none of them",
        )
    return row


def _name(view: int) -> str:
    return f"view{view:03}"


def _network_key(part: Locked) -> str:
    """Of the weights and operations of a locked part."""
    digest = hashlib.sha256(part.part.code.encode() if isinstance(part.part, fx.GraphModule) else b"whole")
    for name, tensor in part.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # has no effect on any output
            digest.update(name.encode() + str(tensor.dtype).encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
