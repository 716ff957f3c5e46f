"""Probabilities of a trained network for a split, from frozen-backbone features where layers stayed locked."""

from __future__ import annotations

import logging

import numpy as np
import torch

from modiste.data.manifest import Manifest
from modiste.errors import PhotoError
from modiste.models.activation import Activation
from modiste.models.split import NetworkSplitter, Unlocked
from modiste.models.tagger import groups_unlocked
from modiste.progress import Progress
from modiste.runs.load import trained_network
from modiste.runs.predictions import Predictions, predict
from modiste.runs.run import Run
from modiste.storage import cache
from modiste.training.dataset import reader_count
from modiste.training.feature_cache import FeatureEntry, Features, boundaries, compute
from modiste.training.fixed_views import FixedViews

_log = logging.getLogger("modiste")

_BATCH = 64  # photos whose features go through the unlocked part together


def predict_kept(run: Run, part: Manifest, progress: Progress | None = None) -> Predictions:
    """The network's probabilities for a part of its own photos, with its own views.

    Runs of a comparison that lock the same layers share the features of their test photos too. Where nothing was
    locked, or a photo can't be read, or there is no room, the whole network is asked.

    Args:
        run: a trained run.
        part: the photos.
        progress: told (photos done, photos in all).

    Raises:
        RunError: there is no trained model, or not one photo can be read.
    """
    recipe = run.recipe
    unlock = max((stage.unlock for stage in recipe.stages), key=groups_unlocked)
    model = trained_network(run).to("cuda" if torch.cuda.is_available() else "cpu")
    cutter = NetworkSplitter(model, recipe.image.size)
    if recipe.train.cache != "auto" or not cutter.can_cut(unlock):
        return predict(run, part, None, progress)
    try:
        pictures = FixedViews.plain(part.photos(), cache.content_keys(part.photos()), recipe, run.views)
        (boundary,) = boundaries(cutter, unlock, (pictures.size,))
        entry = FeatureEntry(pictures, boundary, recipe.model.backbone)
        cache.touch(entry.folder)
        if not cache.make_room(entry.missing_bytes()):
            _log.info("the whole network is asked, which is slower: features don't fit into the cache's budget")
            return predict(run, part, None, progress)
        compute(cutter, [[entry]], workers=reader_count(recipe), progress=progress)
        kept = entry.open()
    except PhotoError as error:
        _log.info("the whole network is asked, which is slower, as a photo can't be read: %s", error)
        return predict(run, part, None, progress)
    except KeyError:
        _log.info("the whole network is asked, which is slower: features were removed from %s", cache.cache_folder())
        return predict(run, part, None, progress)
    raw = _probs(cutter.unlocked(unlock).eval(), model.activation, kept, len(part))
    return Predictions(part, raw, [None] * len(part), run.views)


def _probs(network: Unlocked, activation: Activation, kept: Features, photos: int) -> np.ndarray:
    """(photos, labels) float32, the mean over the views."""
    batches = []
    for start in range(0, photos, _BATCH):
        rows = range(start, min(start + _BATCH, photos))
        outputs = []
        for view in range(len(kept.views)):
            inputs = [tensor.to(network.head.weight.device) for tensor in kept.tensors([view] * len(rows), rows)]
            with torch.inference_mode():
                outputs.append(activation(network(*inputs)))
        batches.append(torch.stack(outputs).mean(dim=0))
    probs: np.ndarray = torch.cat(batches).cpu().numpy()
    return probs
