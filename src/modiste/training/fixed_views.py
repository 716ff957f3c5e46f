"""The squares that a network with locked layers is shown: fixed views of photos, known by the photos' content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from modiste.config import Recipe
from modiste.data import images
from modiste.errors import PhotoError
from modiste.inference.predictor import Views, make_views
from modiste.training.dataset import TrainingPhotos

BATCH = 16  # squares that go through the locked part together


@dataclass(frozen=True)
class FixedViews:
    """Squares of photos that a network is shown: some views of each, known by the photos' content."""

    keys: np.ndarray  # (n,) uint64, from cache.content_keys
    views: int
    facts: dict[str, Any]  # what the squares depend on besides
    squares: Dataset  # (view, row) -> (3, size, size) uint8 tensor or PhotoError

    @classmethod
    def augmented(cls, photos: TrainingPhotos) -> FixedViews:
        """The fixed augmented views of training photos."""
        assert photos.views is not None
        recipe = photos.recipe
        augment = recipe.augment.model_dump(mode="json", exclude={"views", "mixup"})
        facts = {"size": photos.size, "mode": recipe.image.mode, "augment": augment, "decoder": images.DECODER}
        return cls(photos.views.keys, photos.views.count, facts, _Augmented(photos))

    @classmethod
    def plain(cls, paths: Sequence[Path], keys: np.ndarray, recipe: Recipe, views: Views) -> FixedViews:
        """The test-time views of photos; fewer views are the first of more."""
        facts = {"size": recipe.image.size, "mode": recipe.image.mode, "decoder": images.DECODER}
        count = sum(1 for _ in make_views(np.zeros((1, 20, 20, 3), np.uint8), views))
        return cls(keys, count, facts, _Plain([str(path) for path in paths], recipe, views))

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.facts["size"])

    def batches(self, view: int, rows: np.ndarray, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some rows and the squares (n, 3, size, size) uint8 of their view, read and made in worker processes.

        Raises:
            PhotoError: a photo can't be read.
        """
        loader = DataLoader(self.squares, batch_sampler=_Cells(view, rows), num_workers=workers, collate_fn=list)
        for k, photos in enumerate(loader):
            for photo in photos:
                if isinstance(photo, PhotoError):
                    raise photo
            yield rows[k * BATCH : (k + 1) * BATCH], np.stack(photos)


@dataclass(frozen=True)
class _Cells:
    """Batches of (view, row), made as they are asked for: a list of millions would fill the memory."""

    view: int
    rows: np.ndarray

    def __len__(self) -> int:
        return (len(self.rows) + BATCH - 1) // BATCH

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self.rows), BATCH):
            yield [(self.view, int(row)) for row in self.rows[start : start + BATCH]]


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
            photo = images.read_square(self.paths[row], self.recipe.image.size, self.recipe.image.mode)
        except PhotoError as error:
            return error
        square = next(islice(make_views(photo[None], self.views), view, None))[0]
        return np.ascontiguousarray(square.transpose(2, 0, 1))
