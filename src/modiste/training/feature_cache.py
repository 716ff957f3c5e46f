"""What the locked part says of the photos, computed once and kept: the prefix cache.

A locked network says the same of the same picture, so each of a photo's augmented views goes through it once; epochs,
stages, seeds, optimisers, folds and runs that share it read the result. Kept as float16, by the photo's content, in an
entry for everything else that it depends on: weights and operations, size, augmentation, versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
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
from modiste.storage import cache
from modiste.storage.arrays import Arrays, missing, open_arrays, writing
from modiste.training.feature_engine import ComputeFeatures, make_engine
from modiste.training.fixed_views import FixedViews

FLOAT16 = np.dtype(np.float16)

_VERSIONS = ("torch", "timm", "pillow", "numpy")

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Boundary:
    """Where a lock ends, for pictures of one size: what is kept of each, and what it depends on."""

    unlock: Unlock
    shapes: tuple[tuple[int, ...], ...]  # of the tensors of one picture
    digest: str  # of the weights and operations before it

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
    digest = _digest(part)
    found = {}
    for size in set(sizes):
        with torch.inference_mode():
            photos = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=part.mean.device)
            found[size] = Boundary(unlock, tuple(tuple(tensor.shape[1:]) for tensor in part(photos)), digest)
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
        network = {"backbone": self.backbone, "unlock": boundary.unlock, "network": boundary.digest}
        shapes = [list(shape) for shape in boundary.shapes]
        return {**network, **self.pictures.facts, "shapes": shapes, "versions": versions}

    @cached_property
    def folder(self) -> Path:
        """Where it lies."""
        return cache.entry_folder("features", self.facts)

    def missing(self, view: int) -> np.ndarray:
        """Arrays of what is not kept yet of a view, in order; of photos with the same content one."""
        return missing(self.folder, _name(view), FLOAT16, self.pictures.digests)

    def missing_bytes(self) -> int:
        """By how much computing what is missing would make the cache grow."""
        return sum(len(self.missing(view)) for view in range(self.pictures.views)) * self.boundary.bytes

    def open(self) -> Features:
        """Open what was kept."""
        cache.touch(self.folder)
        digests = self.pictures.digests
        kept = (open_arrays(self.folder, _name(view), FLOAT16, digests) for view in range(self.pictures.views))
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
    shelves: Sequence[Sequence[FeatureEntry]],
    *,
    workers: int = 1,
    share: tuple[int, int] = (0, 1),
    progress: Progress = None,
) -> None:
    """Compute and keep what is missing.

    Args:
        cutter: of the network, whose locked parts are as they will be in the stages of the boundaries.
        shelves: for each pictures, the shelves of the boundaries that are to be kept of it; one pass fills them.
        workers: processes that decode and augment.
        share: this process's rank and how many share the work on this machine; each keeps files of its own.
        progress: told (pictures done, pictures in all).

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: a value doesn't fit into 16 bits.
    """
    for shelf in chain.from_iterable(shelves):
        cache.create_entry(shelf.folder, shelf.facts)
    todo = [[_mine(own, view, share) for view in range(own[0].pictures.views)] for own in shelves]
    total, done = sum(len(rows) for views in todo for rows in views), 0
    for size in sorted(
        {own[0].pictures.size for own, views in zip(shelves, todo, strict=True) if any(map(len, views))}
    ):
        here = [(own, views) for own, views in zip(shelves, todo, strict=True) if own[0].pictures.size == size]
        part = cutter.locked([shelf.boundary.unlock for shelf in here[0][0]])
        whole = sum(own[0].pictures.views * len(own[0].pictures.digests) for own, _ in here)
        engine = make_engine(part, size, whole, part.mean.device)
        for own, views in here:
            for view, rows in enumerate(views):
                for count in _fill(engine, own, (view, rows), share[0], workers):
                    done += count
                    if progress:
                        progress(done, total)


def _mine(shelves: Sequence[FeatureEntry], view: int, share: tuple[int, int]) -> np.ndarray:
    """Arrays of what is not kept yet of a view on one of the shelves, as far as they fall to this process.

    Photos are shared out by their content, not by what is missing, which changes as the others go ahead.
    """
    rank, world = share
    rows = np.unique(np.concatenate([shelf.missing(view) for shelf in shelves]))
    mine: np.ndarray = rows[shelves[0].pictures.digests[rows] % np.uint64(world) == rank]
    return mine


def _fill(
    engine: ComputeFeatures, shelves: Sequence[FeatureEntry], cells: tuple[int, np.ndarray], writer: int, workers: int
) -> Iterator[int]:
    """Compute and keep some rows of a view; yields how many pictures are done since it last did."""
    view, asked = cells
    pictures = shelves[0].pictures
    if not len(asked):
        return
    with ExitStack() as stack:
        files = [stack.enter_context(writing(shelf.folder, _name(view), writer, FLOAT16)) for shelf in shelves]
        # Another process may have done some while this one waited for the files.
        lacking = [np.isin(np.arange(len(pictures.digests)), shelf.missing(view)) for shelf in shelves]
        rows = asked[np.any(lacking, axis=0)[asked]]
        yield len(asked) - len(rows)
        for batch, photos in pictures.batches(view, rows, workers):
            tensors = iter(engine(photos))
            for shelf, file, some in zip(shelves, files, lacking, strict=True):
                own = [next(tensors).reshape(len(batch), -1) for _ in shelf.boundary.shapes]
                for row, values in zip(batch, _finite(np.concatenate(own, axis=1)), strict=True):
                    if some[row]:
                        file.add(int(pictures.digests[row]), values)
                cache.touch(shelf.folder)
            yield len(batch)


def _finite(row: np.ndarray) -> np.ndarray:
    if not np.isfinite(row).all():
        raise TrainingError.expected(
            "what locked layers say to fit into 16 bits", "values beyond 65,504", "--no-cache, which keeps none of it"
        )
    return row


def _name(view: int) -> str:
    return f"view{view:03}"


def _digest(part: Locked) -> str:
    """Of the weights and operations of a locked part."""
    digest = hashlib.sha256(part.part.code.encode() if isinstance(part.part, fx.GraphModule) else b"whole")
    for name, tensor in part.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # has no effect on any output
            digest.update(name.encode() + str(tensor.dtype).encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
