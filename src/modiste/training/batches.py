"""Where a stage's batches come from: photos through the whole network, or kept features through its unlocked part."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from modiste.config import DEFAULT_VIEWS, Stage
from modiste.errors import ModisteError, PhotoError
from modiste.inference.predictor import Predictor, usable_cores
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Unlock, forward_function, groups_unlocked
from modiste.storage import cache
from modiste.storage.arrays import Share
from modiste.training import pixel_cache
from modiste.training.dataset import TrainingPhotos, ViewPlan, make_loader, reader_count
from modiste.training.feature_cache import FeatureEntry, Features, boundaries, compute
from modiste.training.fixed_views import FixedViews
from modiste.training.state import TrainingState, everywhere, raise_together

WORTH_KEEPING = 3  # epochs from pixels: fewer don't repay decoding everything beforehand
_AHEAD = 2  # batches of kept features that are read beforehand
_BATCH = 64  # photos whose kept features are scored together
_TRIES = 2  # to keep something that somebody else removes while it is computed

_log = logging.getLogger("modiste")
_T = TypeVar("_T")

Batch = Sequence[Tensor] | PhotoError  # inputs of the network, then targets
PhotoProbs = Callable[[Iterable[int]], Iterator[tuple[np.ndarray, str | None]]]  # of rows, as BatchSource.probs


class BatchSource(Protocol):
    """Where a stage's batches come from.

    Attributes:
        network: what trains: a module from a batch's inputs to logits.
    """

    network: nn.Module

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterable[Batch]:
        """The batches of the given rows of an epoch: inputs, then targets (n, labels)."""

    def probs(self, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, str | None]]:
        """(labels,) float32 probabilities of each validation photo by the validated weights, or an error."""


class FromPixels:
    """Photos, augmented in worker processes, through the whole network."""

    def __init__(self, state: TrainingState, photos: TrainingPhotos) -> None:
        self.network: nn.Module = state.model
        self._state, self._photos = state, photos

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterable[Batch]:
        """Decoded and augmented as they are asked for."""
        return make_loader(self._photos, epoch, rows, readers(self._state))

    def probs(self, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, str | None]]:
        """Through Predictor, as tagging does it."""
        state, part = self._state, self._state.parts["val"]
        forward = forward_function(state.best_model)
        readers = max(2, usable_cores() // _share(state).processes)
        predictor = Predictor(forward, part.label_set, state.recipe.image, state.run.decision, readers=readers)
        for raw in predictor.raw(part.photo(row) for row in rows):
            yield raw.probs, raw.error


@dataclass(frozen=True)
class KeptFeatures:
    """Frozen-backbone features of a stage: of the training views, and of the validation photos."""

    train: Features
    val: Features


class FromFeatures:
    """Frozen-backbone features, through the unlocked part."""

    def __init__(self, state: TrainingState, stage: Stage, plan: ViewPlan, kept: KeptFeatures) -> None:
        self._train, self._val = kept.train, kept.val
        self._plan, self._device = plan, state.fabric.device
        self._targets = TrainingPhotos(state.parts["train"], state.recipe, state.recipe.image.size).targets
        self.network: nn.Module = state.cutter.unlocked(stage.unlock)
        self._activation = state.model.activation
        self._validated = (
            self.network
            if state.average is None
            else NetworkSplitter(state.average, state.recipe.image.size).unlocked(stage.unlock)
        )

    def batches(self, epoch: int, rows: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Read a batch or two ahead, in a thread."""

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
                probs = self._activation(self._validated(*inputs)).cpu().numpy()
            yield from ((row, None) for row in probs)


def make_source(state: TrainingState, number: int) -> BatchSource:
    """Where the batches of the stage of this number come from; computes and keeps what is not kept yet.

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: features don't fit into 16 bits.
    """
    recipe, stage = state.recipe, state.recipe.stages[number]
    count = _view_count(state, stage)
    plan = None if count is None else ViewPlan.make(count, photo_keys(state, "train"), recipe.seed)
    photos = TrainingPhotos(state.parts["train"], recipe, stage.size or recipe.image.size, views=plan)
    state.in_use.hold(())
    if plan is not None and _can_cut(state, stage) and not _average_lags(state, number):
        kept = keep_features(state, number, photos)
        if kept is not None:
            return FromFeatures(state, stage, plan, kept)
    return FromPixels(state, _decoded(state, photos))


def _view_count(state: TrainingState, stage: Stage) -> int | None:
    """How many views of each photo a stage shows; None: a fresh one in each epoch."""
    if stage.unlock == "all":
        return None
    if state.recipe.augment.views is not None:
        return state.recipe.augment.views
    return DEFAULT_VIEWS if _can_cut(state, stage) else None


def _can_cut(state: TrainingState, stage: Stage) -> bool:
    recipe = state.recipe
    return recipe.train.cache == "auto" and recipe.augment.mixup == 0 and state.cutter.can_cut(stage.unlock)


def _average_lags(state: TrainingState, number: int) -> bool:
    """Whether the moving average has other weights than the network in what a stage locks."""
    before = state.recipe.stages[:number]
    most = max((groups_unlocked(stage.unlock) for stage in before), default=0)
    return state.average is not None and most > groups_unlocked(state.recipe.stages[number].unlock)


def photo_keys(state: TrainingState, part: str) -> np.ndarray:
    """(n,) uint64, what the photos of a part are known by: their content."""
    if part not in state.photo_keys:
        state.photo_keys[part] = cache.content_keys(state.parts[part].photos())
    return state.photo_keys[part]


def _share(state: TrainingState) -> Share:
    """This process's share among those of its machine: each machine has a cache of its own."""
    machines = max(1, getattr(state.fabric.strategy, "num_nodes", 1))
    return Share(state.fabric.local_rank, max(1, state.fabric.world_size // machines))


def readers(state: TrainingState) -> int:
    """Processes that decode for this device."""
    return reader_count(state.recipe, _share(state).processes)


def keep_features(state: TrainingState, number: int, photos: TrainingPhotos) -> KeptFeatures | None:
    """Features of a stage's training views and of the validation photos; None where they can't be kept.

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: features don't fit into 16 bits.
    """
    entries = _entries(state, number, photos)
    if entries is None:
        why = f"don't fit into the cache's budget of {cache.budget() / 1e9:.1f} GB"
        _note_pixels(state, number, f"{why}. Try MODISTE_CACHE_GB, or fewer augment.views")
        return None
    own, share, workers = [one for pair in entries for one in pair], _share(state), readers(state)
    state.in_use.hold(entry.folder for entry in own)
    kept = _computed(
        state,
        lambda: compute(state.cutter, entries, workers=workers, share=share, progress=state.monitor.caching),
        lambda: KeptFeatures(entries[0][0].open(), entries[1][0].open()),
    )
    if kept is None:
        _note_pixels(state, number, f"were removed from {cache.cache_folder()} while they were computed")
    return kept


def _note_pixels(state: TrainingState, number: int, why: str) -> None:
    state.monitor.note(f"stage '{state.recipe.stages[number].name}' trains from pixels: its features {why}.")


def _entries(
    state: TrainingState, number: int, photos: TrainingPhotos
) -> tuple[list[FeatureEntry], list[FeatureEntry]] | None:
    """What is to be kept of training views and of validation photos, this stage's first; None where this has no room.

    Those of later stages that have the same locked part come along where there is room for them.
    """
    recipe = state.recipe
    augmented = FixedViews.augmented(photos)
    plain = FixedViews.plain(state.parts["val"].photos(), photo_keys(state, "val"), recipe, "one")
    entries: tuple[list[FeatureEntry], list[FeatureEntry]] = ([], [])
    needed = 0
    for unlock in _together(state, number):
        sizes = (augmented.size, plain.size)
        trained = max((groups_unlocked(stage.unlock) for stage in recipe.stages[:number]), default=0)
        if (unlock, sizes) not in state.boundaries or groups_unlocked(unlock) < trained:  # else it is as it was
            state.boundaries[unlock, sizes] = boundaries(state.cutter, unlock, sizes)
        found = state.boundaries[unlock, sizes]
        pair = [
            FeatureEntry(pictures, boundary, recipe.model.backbone)
            for pictures, boundary in zip((augmented, plain), found, strict=True)
        ]
        for entry in pair:
            cache.touch(entry.folder)  # else it might go to make room for what it lacks
        more = sum(entry.missing_bytes() for entry in pair)
        if state.fabric.broadcast(cache.make_room(needed + more)):
            needed += more
            for own, entry in zip(entries, pair, strict=True):
                own.append(entry)
        elif unlock == recipe.stages[number].unlock:
            return None
        else:
            _log.info("features of unlock = %s don't fit into the cache together with this stage's", unlock)
    return entries


def _computed(state: TrainingState, work: Callable[[], None], opened: Callable[[], _T]) -> _T | None:
    """What `work` keeps in the cache, opened on every process; None where it is removed again each time.

    Raises:
        ModisteError: what `work` raises on some process.
    """
    for _ in range(_TRIES):
        error, kept = None, None
        try:
            work()
        except ModisteError as met:
            error = met
        raise_together(state.fabric, error)
        state.fabric.barrier()
        try:
            kept = opened()
        except KeyError:
            _log.info("what was computed was removed from %s meanwhile", cache.cache_folder())
        if everywhere(state.fabric, kept is not None):
            return kept
    return None


def _together(state: TrainingState, number: int) -> list[Unlock]:
    """Locks of this stage and of later ones of its size whose locked part is as it is now: one pass does all."""
    recipe, now = state.recipe, state.recipe.stages[number]
    unlocks, most = [now.unlock], groups_unlocked(now.unlock)
    for stage in recipe.stages[number + 1 :]:
        groups = groups_unlocked(stage.unlock)
        # Where less is unlocked than before, what is locked trains before.
        if groups >= most and stage.size == now.size and state.cutter.can_cut(stage.unlock):
            unlocks.append(stage.unlock)
        most = max(most, groups)
    return list(dict.fromkeys(unlocks))


def _decoded(state: TrainingState, photos: TrainingPhotos) -> TrainingPhotos:
    """The same photos, decoded beforehand where that pays and there is room."""
    recipe = state.recipe
    epochs = sum(stage.rounds for stage in recipe.stages if (stage.size or recipe.image.size) == photos.size)
    if recipe.train.cache == "off" or epochs < WORTH_KEEPING:
        return photos
    keys = photo_keys(state, "train")
    if not state.fabric.broadcast(pixel_cache.fits(photos, keys)):
        _log.info("photos are decoded anew in each epoch, which is slower: they don't fit into the cache's budget")
        return photos
    state.in_use.hold([pixel_cache.entry_of(photos)])
    kept = _computed(
        state,
        lambda: pixel_cache.keep(photos, keys, share=_share(state), progress=state.monitor.caching),
        lambda: pixel_cache.open_kept(photos, keys),
    )
    if kept is None:
        _log.info("photos are decoded anew in each epoch, which is slower")
    return TrainingPhotos(photos.manifest, recipe, photos.size, views=photos.views, kept=kept)
