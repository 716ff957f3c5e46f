"""A stage that fits the last layer to convergence: features of the frozen backbone, computed once, then L-BFGS."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from modiste.config import DEFAULT_VIEWS
from modiste.metrics.scores import mean_average_precision
from modiste.training.batches import PhotoProbs, keep_features, photo_keys, readers
from modiste.training.dataset import TrainingPhotos, ViewPlan
from modiste.training.feature_cache import Features
from modiste.training.feature_engine import make_engine
from modiste.training.fit_head import STRENGTHS, FittedHead, HeadProblem, fit_path
from modiste.training.fixed_views import FixedViews
from modiste.training.losses import make_loss
from modiste.training.state import TrainingState


class HeadFit(NamedTuple):
    """What a stage that fits the last layer did.

    Attributes:
        head: the fitted one.
        seconds: it took, features included.
        pictures: views of training photos that it was fitted on.
        probs: gives the probabilities of validation photos.
    """

    head: FittedHead
    seconds: float
    pictures: int
    probs: PhotoProbs


def fit_stage(state: TrainingState, number: int) -> HeadFit:
    """Fit the last layer to the frozen backbone's features, and give it to the network.

    Where the stage names no strength of L2, it is the one with the best mAP on validation photos.

    Raises:
        PhotoError: a photo can't be read.
        StorageError: the cache can't be written.
        TrainingError: features don't fit into 16 bits.
    """
    began, recipe, part = time.monotonic(), state.recipe, state.parts["val"]
    stage = recipe.stages[number]
    plan = ViewPlan.make(recipe.augment.views or DEFAULT_VIEWS, photo_keys(state, "train"), recipe.seed)
    photos = TrainingPhotos(state.parts["train"], recipe, stage.size or recipe.image.size, views=plan)
    train, val = _features(state, number, photos)
    loss = make_loss(recipe.loss, part.label_set, state.parts["train"].prevalence)
    problem = HeadProblem(train, np.tile(photos.targets, (plan.count, 1)), loss)

    def judge(head: FittedHead) -> float:
        probs = _probs(head.weight, head.bias, val, state.model.activation)
        return float(np.nan_to_num(mean_average_precision(part.targets, probs, part.label_set).value))

    path = fit_path(problem, judge, STRENGTHS if stage.l2 is None else (stage.l2,))
    best = max(path, key=lambda pair: pair[1])[0]
    head = problem.fit(best.l2, best)
    _give(state, head)
    return HeadFit(head, time.monotonic() - began, len(train), partial(_probs_of, state, val))


def _probs_of(
    state: TrainingState, features: np.ndarray, rows: Iterable[int]
) -> Iterator[tuple[np.ndarray, str | None]]:
    """(labels,) of each validation photo, by the network's last layer on its features (n, features)."""
    head = state.model.head
    probs = _probs(head.weight, head.bias, features, state.model.activation)
    yield from ((probs[row], None) for row in rows)


def _give(state: TrainingState, head: FittedHead) -> None:
    """The same head to the network and its moving average, on every process."""
    for model in filter(None, (state.model, state.average)):
        with torch.no_grad():
            for own, fitted in ((model.head.weight, head.weight), (model.head.bias, head.bias)):
                own.copy_(fitted)
                if state.fabric.world_size > 1:
                    torch.distributed.broadcast(own.data, 0)


def _features(state: TrainingState, number: int, photos: TrainingPhotos) -> tuple[np.ndarray, np.ndarray]:
    """(views * n, features) float16 of training photos, view by view, and (n, features) of validation photos."""
    recipe = state.recipe
    kept = keep_features(state, number, photos) if recipe.train.cache == "auto" else None
    if kept is not None:
        return _matrix(kept.train), _matrix(kept.val)
    plain = FixedViews.plain(state.parts["val"].photos(), photo_keys(state, "val"), recipe, "one")
    return _computed(state, FixedViews.augmented(photos)), _computed(state, plain)


def _matrix(kept: Features) -> np.ndarray:
    return np.concatenate([np.stack([view[row].reshape(-1) for row in range(len(view))]) for view in kept.views])


def _computed(state: TrainingState, pictures: FixedViews) -> np.ndarray:
    """Features that are computed for this stage alone."""
    total = pictures.views * len(pictures.keys)
    engine = make_engine(state.cutter.locked(["none"]), pictures.size, total, state.fabric.device)
    parts, done = [], 0
    for view in range(pictures.views):
        for batch, squares in pictures.batches(view, np.arange(len(pictures.keys)), readers(state)):
            parts.append(engine(squares)[0])
            done += len(batch)
            state.monitor.caching(done, total)
    return np.concatenate(parts)


def _probs(weight: Tensor, bias: Tensor, features: np.ndarray, activation: nn.Module) -> np.ndarray:
    """(n, labels) float32."""
    with torch.inference_mode():
        rows = torch.from_numpy(features).to(weight.device, torch.float32)
        probs: np.ndarray = activation(nn.functional.linear(rows, weight.float(), bias.float())).cpu().numpy()
    return probs
