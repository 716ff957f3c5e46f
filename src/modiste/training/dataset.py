"""Training photos, read and augmented online; which photos make which step.

Everything is a function of (seed, epoch, photo), so the same photo in the same epoch is augmented
the same way whatever the number of workers or devices, and training resumes in the middle of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from modiste.config import Recipe
from modiste.data import images
from modiste.data.manifest import Manifest
from modiste.errors import PhotoError
from modiste.inference.predictor import usable_cores
from modiste.labels import UNKNOWN
from modiste.storage.arrays import Arrays
from modiste.training.augment import augment, generator, mixup

MOST_READERS = 8  # processes a device: each holds some hundred megabytes of its own

PixelBatch = tuple[Tensor, Tensor] | PhotoError

_AUGMENT, _MIXUP, _ORDER, _TURN = 0, 1, 2, 3  # streams of random numbers of one seed and epoch


class Showing(NamedTuple):
    """One photo, a row of the manifest, in one epoch."""

    epoch: int
    row: int


@dataclass(frozen=True)
class ViewPlan:
    """A fixed number of augmented views of each photo, shown in turn.

    A view is a function of the photo's content and the view's number, so runs of any seed, split or fold share it;
    which view a photo begins with is a function of the seed.
    """

    count: int
    keys: np.ndarray  # (n,) uint64, from cache.content_keys
    turns: np.ndarray  # (n,) int64, where each photo's round begins

    @classmethod
    def make(cls, count: int, keys: np.ndarray, seed: int) -> ViewPlan:
        """The plan of a run's seed."""
        return cls(count, keys, generator(seed, 0, 0, _TURN).integers(0, count, len(keys)))

    def view(self, epoch: int, row: int) -> int:
        """Number of the view that an epoch shows."""
        return int(epoch + self.turns[row]) % self.count

    def rng(self, view: int, row: int) -> np.random.Generator:
        """Random numbers of a view."""
        return generator(0, view, int(self.keys[row]), _AUGMENT)


class TrainingPhotos(Dataset):
    """(epoch, row) -> photo (3, size, size) uint8 and targets (labels,) float32, nan = unknown.

    A photo that can't be read is returned as its PhotoError, because an exception that crosses from a
    worker process loses its class and its one sentence.

    Args:
        manifest: the photos.
        recipe: how they are augmented, and the seed.
        size: pixels a side of what is given.
        views: a fixed number of views of each photo; None draws a fresh one in each epoch.
        kept: the photos as `read` gives them, in the manifest's order; None reads the files.
    """

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        size: int,
        *,
        views: ViewPlan | None = None,
        kept: Arrays | None = None,
    ) -> None:
        self.manifest = manifest
        self.paths = [str(manifest.photo(k)) for k in range(len(manifest))]
        self.targets = np.where(manifest.targets == UNKNOWN, np.nan, manifest.targets).astype(np.float32)
        self.recipe = recipe
        self.size = size
        self.views = views
        self.kept = kept

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, showing: Showing) -> tuple[Tensor, Tensor] | PhotoError:
        try:
            photo, targets = self._mixed(*showing)
        except PhotoError as error:
            return error
        return torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))), torch.from_numpy(targets)

    def _mixed(self, epoch: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        alpha = self.recipe.augment.mixup
        photo, targets = self._augmented(epoch, row), self.targets[row]
        if alpha == 0:
            return photo, targets
        rng = generator(self.recipe.seed, epoch, row, _MIXUP)
        other = int(rng.integers(len(self)))
        share = float(rng.beta(alpha, alpha))
        return mixup(photo, targets, self._augmented(epoch, other), self.targets[other], share)

    def _augmented(self, epoch: int, row: int) -> np.ndarray:
        if self.views is not None:
            return self.view(self.views.view(epoch, row), row)
        return self._drawn(row, generator(self.recipe.seed, epoch, row, _AUGMENT))

    def view(self, view: int, row: int) -> np.ndarray:
        """One of the fixed views, (size, size, 3) uint8.

        Raises:
            PhotoError: the photo can't be read.
        """
        assert self.views is not None
        return self._drawn(row, self.views.rng(view, row))

    def _drawn(self, row: int, rng: np.random.Generator) -> np.ndarray:
        photo = read_training_photo(self.paths[row], self.recipe, self.size) if self.kept is None else self.kept[row]
        return augment(photo, self.size, self.recipe.image.mode, self.recipe.augment, rng)


def read_training_photo(path: str, recipe: Recipe, size: int) -> np.ndarray:
    """A photo as augmentation takes it: (height, width, 3) uint8, already of the final size where no crop is drawn.

    Raises:
        PhotoError: it can't be read.
    """
    smallest = recipe.augment.crop_scale[0]
    if recipe.augment.crop_scale == (1.0, 1.0):
        return images.read_square(path, size, recipe.image.mode)
    # Decode at least so large that the smallest crop still has `size` pixels a side.
    return images.read_photo(path, target=math.ceil(size / math.sqrt(smallest)))


def global_batches(photos: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Arrays of each step of an epoch, over all devices together.

    Photos are shuffled anew each epoch; those left over after the last whole batch wait for the next
    epoch. Fewer photos than one batch make one smaller batch.
    """
    order = generator(seed, epoch, 0, _ORDER).permutation(photos)
    steps = steps_an_epoch(photos, batch_size)
    return [order[k * batch_size : (k + 1) * batch_size] for k in range(steps)]


def steps_an_epoch(photos: int, batch_size: int) -> int:
    """Whole batches in `photos`, at least one."""
    return max(1, photos // batch_size)


def reader_count(recipe: Recipe, devices: int = 1) -> int:
    """Processes that decode and augment for one of this machine's devices; results are the same with any number.

    The recipe's `train.workers`, else one for two cores that the device has to itself, MOST_READERS at most.
    """
    if recipe.train.workers is not None:
        return recipe.train.workers
    return min(max(usable_cores() // (2 * devices), 1), MOST_READERS)


def make_loader(dataset: TrainingPhotos, epoch: int, batches: Sequence[np.ndarray], workers: int) -> DataLoader:
    """Batches of (photos (n, 3, size, size) uint8, targets (n, labels)), or of a PhotoError, in order."""
    showings = [[Showing(epoch, int(row)) for row in batch] for batch in batches]
    return DataLoader(dataset, batch_sampler=showings, num_workers=workers, collate_fn=_collate)


def _collate(items: list[tuple[Tensor, Tensor] | PhotoError]) -> PixelBatch:
    for item in items:
        if isinstance(item, PhotoError):
            return item
    photos, targets = zip(*items, strict=True)
    return torch.stack(photos), torch.stack(targets)
