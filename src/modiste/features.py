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
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils.data import DataLoader, Dataset

from modiste import cache, images
from modiste.config import Recipe
from modiste.cuts import Cutter, Locked
from modiste.dataset import TrainingPhotos
from modiste.engines import Engine, make_engine
from modiste.errors import PhotoError, TrainingError
from modiste.model import Unlock
from modiste.predict import Views, make_views
from modiste.rows import Rows, missing, open_rows, writing

FLOAT16 = np.dtype(np.float16)
BATCH = 16  # photos that go through the locked part together
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


def boundaries(cutter: Cutter, unlock: Unlock, sizes: Sequence[int]) -> list[Boundary]:
    """The boundary of a lock for pictures of each of several sizes."""
    part = cutter.locked([unlock]).eval()
    digest = _digest(part)
    found = []
    for size in sizes:
        with torch.inference_mode():
            photos = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=part.mean.device)
            found.append(Boundary(unlock, tuple(tuple(tensor.shape[1:]) for tensor in part(photos)), digest))
    return found


@dataclass(frozen=True)
class Pictures:
    """Squares of photos that a network is shown: some views of each, known by the photos' content."""

    digests: np.ndarray  # (n,) uint64
    views: int
    facts: dict[str, Any]  # what the squares depend on besides
    squares: Dataset  # (view, row) -> (3, size, size) uint8 tensor or PhotoError

    @classmethod
    def augmented(cls, photos: TrainingPhotos) -> Pictures:
        """The fixed augmented views of training photos."""
        assert photos.views is not None
        recipe = photos.recipe
        augment = recipe.augment.model_dump(mode="json", exclude={"views", "mixup"})
        facts = {"size": photos.size, "mode": recipe.image.mode, "augment": augment}
        return cls(photos.views.digests, photos.views.count, facts, _Augmented(photos))

    @classmethod
    def plain(cls, paths: Sequence[Path], digests: np.ndarray, recipe: Recipe, views: Views) -> Pictures:
        """The test-time views of photos; fewer views are the first of more."""
        facts = {"size": recipe.image.size, "mode": recipe.image.mode}
        count = sum(1 for _ in make_views(np.zeros((1, 20, 20, 3), np.uint8), views))
        return cls(digests, count, facts, _Plain([str(path) for path in paths], recipe, views))

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.facts["size"])


@dataclass(frozen=True)
class Shelf:
    """The cache's entry for pictures at a boundary."""

    pictures: Pictures
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

    def missing(self) -> list[tuple[int, int]]:
        """(view, row) of what is not kept yet."""
        return [(view, row) for view in range(self.pictures.views) for row in self.missing_rows(view)]

    def missing_rows(self, view: int) -> list[int]:
        """Rows of what is not kept yet of a view; of photos with the same content one."""
        rows: list[int] = missing(self.folder, _name(view), FLOAT16, self.pictures.digests).tolist()
        return rows

    def missing_bytes(self) -> int:
        """By how much computing what is missing would make the cache grow."""
        return len(self.missing()) * self.boundary.bytes

    def open(self) -> Features:
        """Open what was kept."""
        cache.touch(self.folder)
        digests = self.pictures.digests
        kept = (open_rows(self.folder, _name(view), FLOAT16, digests) for view in range(self.pictures.views))
        return Features(self.boundary, tuple(kept))


@dataclass(frozen=True)
class Features:
    """Kept features of pictures at a boundary."""

    boundary: Boundary
    views: tuple[Rows, ...]

    def tensors(self, views: Sequence[int], rows: Sequence[int] | np.ndarray) -> list[Tensor]:
        """The boundary's tensors, float32, for a batch of views and rows."""
        batch = np.empty((len(rows), self.boundary.bytes // FLOAT16.itemsize), FLOAT16)
        for k, (view, row) in enumerate(zip(views, rows, strict=True)):
            batch[k] = self.views[view][int(row)].reshape(-1)
        return self.boundary.tensors(batch)


def compute(
    cutter: Cutter,
    shelves: Sequence[Sequence[Shelf]],
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
        cache.begin(shelf.folder, shelf.facts)
    todo = [sorted(set(chain.from_iterable(s.missing() for s in own)))[share[0] :: share[1]] for own in shelves]
    total, done = sum(map(len, todo)), 0
    for size in sorted({own[0].pictures.size for own, cells in zip(shelves, todo, strict=True) if cells}):
        here = [(own, cells) for own, cells in zip(shelves, todo, strict=True) if own[0].pictures.size == size]
        part = cutter.locked([shelf.boundary.unlock for shelf in here[0][0]])
        engine = make_engine(part, size, sum(len(cells) for _, cells in here), part.mean.device)
        for own, cells in here:
            for count in _fill(engine, own, cells, share[0], workers):
                done += count
                if progress:
                    progress(done, total)


def _fill(
    engine: Engine, shelves: Sequence[Shelf], cells: Sequence[tuple[int, int]], writer: int, workers: int
) -> Iterator[int]:
    """Compute and keep cells view by view; yields how many pictures are done since it last did."""
    pictures = shelves[0].pictures
    for view in sorted({view for view, _ in cells}):
        with ExitStack() as stack:
            files = [stack.enter_context(writing(shelf.folder, _name(view), writer, FLOAT16)) for shelf in shelves]
            # Another process may have done some while this one waited for the files.
            lacking = [set(shelf.missing_rows(view)) for shelf in shelves]
            asked = [row for at, row in cells if at == view]
            rows = [row for row in asked if any(row in some for some in lacking)]
            yield len(asked) - len(rows)
            for batch, photos in _batches(pictures.squares, view, rows, workers):
                tensors = iter(engine(photos))
                for shelf, file, some in zip(shelves, files, lacking, strict=True):
                    own = [next(tensors).reshape(len(batch), -1) for _ in shelf.boundary.shapes]
                    for row, values in zip(batch, _finite(np.concatenate(own, axis=1)), strict=True):
                        if row in some:
                            file.add(int(pictures.digests[row]), values)
                    cache.touch(shelf.folder)
                yield len(batch)


def _batches(
    squares: Dataset, view: int, rows: Sequence[int], workers: int
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    parts = [rows[k : k + BATCH] for k in range(0, len(rows), BATCH)]
    keys = [[(view, row) for row in part] for part in parts]
    loader = DataLoader(squares, batch_sampler=keys, num_workers=workers, collate_fn=list)
    for part, photos in zip(parts, loader, strict=True):
        for photo in photos:
            if isinstance(photo, PhotoError):
                raise photo
        yield part, np.stack(photos)


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


class _Augmented(Dataset):
    """(view, row) -> an augmented view."""

    def __init__(self, photos: TrainingPhotos) -> None:
        self.photos = photos

    def __getitem__(self, cell: tuple[int, int]) -> np.ndarray | PhotoError:
        try:
            return np.ascontiguousarray(self.photos.view(*cell).transpose(2, 0, 1))
        except PhotoError as error:
            return error


class _Plain(Dataset):
    """(view, row) -> a test-time view."""

    def __init__(self, paths: Sequence[str], recipe: Recipe, views: Views) -> None:
        self.paths, self.recipe, self.views = paths, recipe, views

    def __getitem__(self, cell: tuple[int, int]) -> np.ndarray | PhotoError:
        view, row = cell
        try:
            photo = images.load(self.paths[row], self.recipe.image.size, self.recipe.image.mode)
        except PhotoError as error:
            return error
        square = next(islice(make_views(photo[None], self.views), view, None))[0]
        return np.ascontiguousarray(square.transpose(2, 0, 1))
