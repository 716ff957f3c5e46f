"""Where a stage's batches come from: photos through the whole network, or kept features through its unlocked part."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from modiste.config import DEFAULT_VIEWS, Stage
from modiste.errors import PhotoError
from modiste.inference.predictor import Predictor
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Unlock, forward_function, groups_unlocked
from modiste.storage import cache
from modiste.training import pixel_cache
from modiste.training.dataset import TrainingPhotos, ViewPlan, make_loader
from modiste.training.feature_cache import FeatureEntry, Features, boundaries, compute
from modiste.training.fixed_views import FixedViews
from modiste.training.state import TrainingState, raise_together

WORTH_KEEPING = 3  # epochs from pixels: fewer don't repay decoding everything beforehand
_AHEAD = 2  # batches of kept features that are read beforehand
_BATCH = 64  # photos whose kept features are scored together

Batch = Sequence[Tensor] | PhotoError  # inputs of the network, then targets


class BatchSource(Protocol):
    """Where a stage's batches come from.

    Attributes:
        network: what trains: a module from a batch's inputs to logits.
    """

    network: nn.Module

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterable[Batch]:
        """The batches of the given rows of an epoch: inputs, then targets (n, labels)."""

    def probs(self, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, str | None]]:
        """What the weights that are validated say of validation photos: (labels,) float32, or why it can't be read."""


class FromPixels:
    """Photos, augmented in worker processes, through the whole network."""

    def __init__(self, job: TrainingState, photos: TrainingPhotos) -> None:
        self.network: nn.Module = job.model
        self._job, self._photos = job, photos

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterable[Batch]:
        """Decoded and augmented as they are asked for."""
        return make_loader(self._photos, epoch, rows, self._job.recipe.train.workers)

    def probs(self, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, str | None]]:
        """Through Predictor, as tagging does it."""
        job, part = self._job, self._job.parts["val"]
        forward = forward_function(job.best_model)
        predictor = Predictor(forward, part.label_set, job.recipe.image, job.run.decision, readers=2)
        for said in predictor.raw(part.photo(row) for row in rows):
            yield said.probs, said.error


class FromFeatures:
    """Kept features of the locked part, through the unlocked part."""

    def __init__(self, job: TrainingState, stage: Stage, plan: ViewPlan, kept: tuple[Features, Features]) -> None:
        self._train, self._val = kept
        self._plan, self._device = plan, job.fabric.device
        self._targets = TrainingPhotos(job.parts["train"], job.recipe, job.recipe.image.size).targets
        self.network: nn.Module = job.cutter.unlocked(stage.unlock)
        self._validated = (
            self.network
            if job.average is None
            else NetworkSplitter(job.average, job.recipe.image.size).unlocked(stage.unlock)
        )

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Read a batch or two ahead, in a thread."""
        cache.touch(self._train.folder)
        cache.touch(self._val.folder)

        def read(batch: np.ndarray) -> Batch:
            views = [self._plan.view(epoch, int(row)) for row in batch]
            return *self._train.tensors(views, batch), torch.from_numpy(self._targets[batch])

        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Future[Batch]] = deque()
            for batch in rows:
                waiting.append(pool.submit(read, batch))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def probs(self, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, str | None]]:
        """From kept features of the validation photos."""
        waiting = list(rows)
        for start in range(0, len(waiting), _BATCH):
            some = waiting[start : start + _BATCH]
            kind = next(self._validated.parameters()).dtype
            inputs = [tensor.to(self._device, kind) for tensor in self._val.tensors([0] * len(some), some)]
            with torch.inference_mode():
                said = self._validated(*inputs).float().sigmoid().cpu().numpy()
            yield from ((probs, None) for probs in said)


def make_source(job: TrainingState, number: int) -> BatchSource:
    """Where the batches of the stage of this number come from; computes and keeps what is not kept yet.

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: features don't fit into 16 bits.
    """
    recipe, stage = job.recipe, job.recipe.stages[number]
    count = _view_count(job, stage)
    plan = None if count is None else ViewPlan.make(count, _digests(job, "train"), recipe.seed)
    photos = TrainingPhotos(job.parts["train"], recipe, stage.size or recipe.image.size, views=plan)
    if plan is not None and _can_cut(job, stage) and not _average_lags(job, number):
        kept = _features(job, number, photos)
        if kept is not None:
            return FromFeatures(job, stage, plan, kept)
        job.monitor.note(
            f"stage '{stage.name}' trains from pixels: its features don't fit into the cache's budget of "
            f"{cache.budget() / 1e9:.1f} GB. Try MODISTE_CACHE_GB, or fewer augment.views."
        )
    return FromPixels(job, _decoded(job, photos))


def _view_count(job: TrainingState, stage: Stage) -> int | None:
    """How many views of each photo a stage shows; None: a fresh one in each epoch."""
    if stage.unlock == "all":
        return None
    if job.recipe.augment.views is not None:
        return job.recipe.augment.views
    return DEFAULT_VIEWS if _can_cut(job, stage) else None


def _can_cut(job: TrainingState, stage: Stage) -> bool:
    recipe = job.recipe
    return recipe.train.cache == "auto" and recipe.augment.mixup == 0 and job.cutter.can_cut(stage.unlock)


def _average_lags(job: TrainingState, number: int) -> bool:
    """Whether the moving average has other weights than the network in what a stage locks."""
    before = job.recipe.stages[:number]
    most = max((groups_unlocked(stage.unlock) for stage in before), default=0)
    return job.average is not None and most > groups_unlocked(job.recipe.stages[number].unlock)


def _digests(job: TrainingState, part: str) -> np.ndarray:
    if part not in job.digests:
        job.digests[part] = cache.content_keys(job.parts[part].photos())
    return job.digests[part]


def _share(job: TrainingState) -> tuple[int, int]:
    """This process among those of its machine: each machine has a cache of its own."""
    return job.fabric.local_rank, max(1, job.fabric.world_size // max(1, getattr(job.fabric.strategy, "num_nodes", 1)))


def _features(job: TrainingState, number: int, photos: TrainingPhotos) -> tuple[Features, Features] | None:
    """Features of a stage's training views and of the validation photos; None where there is no room."""
    recipe = job.recipe
    augmented = FixedViews.augmented(photos)
    plain = FixedViews.plain(job.parts["val"].photos(), _digests(job, "val"), recipe, "one")
    shelves: tuple[list[FeatureEntry], list[FeatureEntry]] = ([], [])
    needed = 0
    for unlock in _together(job, number):
        sizes = (augmented.size, plain.size)
        trained = max((groups_unlocked(stage.unlock) for stage in recipe.stages[:number]), default=0)
        if (unlock, sizes) not in job.boundaries or groups_unlocked(unlock) < trained:  # else it is as it was
            job.boundaries[unlock, sizes] = boundaries(job.cutter, unlock, sizes)
        found = job.boundaries[unlock, sizes]
        pair = [
            FeatureEntry(pictures, boundary, recipe.model.backbone)
            for pictures, boundary in zip((augmented, plain), found, strict=True)
        ]
        for shelf in pair:
            cache.touch(shelf.folder)  # else it might go to make room for what it lacks
        more = sum(shelf.missing_bytes() for shelf in pair)
        if job.fabric.broadcast(cache.make_room(needed + more)):
            needed += more
            for own, shelf in zip(shelves, pair, strict=True):
                own.append(shelf)
        elif unlock == recipe.stages[number].unlock:
            return None
    share, workers = _share(job), recipe.train.workers
    error = None
    try:
        compute(job.cutter, shelves, workers=workers, share=share, progress=job.monitor.caching)
    except PhotoError as met:
        error = met
    raise_together(job.fabric, error)
    job.fabric.barrier()
    return shelves[0][0].open(), shelves[1][0].open()


def _together(job: TrainingState, number: int) -> list[Unlock]:
    """Locks of this stage and of later ones of its size whose locked part is as it is now: one pass does all."""
    recipe, now = job.recipe, job.recipe.stages[number]
    unlocks, most = [now.unlock], groups_unlocked(now.unlock)
    for stage in recipe.stages[number + 1 :]:
        groups = groups_unlocked(stage.unlock)
        # Where less is unlocked than before, what is locked trains before.
        if groups >= most and stage.size == now.size and job.cutter.can_cut(stage.unlock):
            unlocks.append(stage.unlock)
        most = max(most, groups)
    return list(dict.fromkeys(unlocks))


def _decoded(job: TrainingState, photos: TrainingPhotos) -> TrainingPhotos:
    """The same photos, decoded beforehand where that pays and there is room."""
    recipe = job.recipe
    epochs = sum(stage.epochs for stage in recipe.stages if (stage.size or recipe.image.size) == photos.size)
    if recipe.train.cache == "off" or epochs < WORTH_KEEPING:
        return photos
    digests = _digests(job, "train")
    if not job.fabric.broadcast(pixel_cache.fits(photos, digests)):
        return photos
    error = None
    try:
        pixel_cache.keep(photos, digests, share=_share(job), progress=job.monitor.caching)
    except PhotoError as met:
        error = met
    raise_together(job.fabric, error)
    job.fabric.barrier()
    kept = pixel_cache.open_kept(photos, digests)
    return TrainingPhotos(photos.manifest, recipe, photos.size, views=photos.views, kept=kept)
