"""Photos of a report: the worst and the best, what was chosen for them, and where the evidence lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from modiste.data import images
from modiste.inference.heatmaps import overlay
from modiste.inference.predictor import BasePredictor
from modiste.metrics.scores import mean_log_loss
from modiste.pages.html import jpeg_uri, thumbnail
from modiste.pages.plots import ScoredPhotos
from modiste.prediction import Prediction

_EACH_WAY = 12  # worst photos, and best ones
_THUMBNAIL = 360  # pixels of the longer side: about 180 on the page, twice that on dense screens
_HEATMAPS = 3  # labels of a photo whose evidence is shown
_HEATMAP = 180  # pixels a side: about 60 on the page
_SHOWN = ("right", "wrong", "missed", "unknown")  # kinds of labels, the first have heatmaps first


def photo_cards(
    scored: ScoredPhotos, photos: Sequence[Path], tags: BasePredictor | None, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """What the page shows of the worst and the best photos, by log loss.

    Args:
        scored: n photos with their targets and decisions.
        photos: n files.
        tags: the model, to ask for heatmaps; None shows none.
        folder: where the page will lie, which links to the photos.
    """
    losses = np.array([mean_log_loss(*pair) for pair in zip(scored.targets, scored.decided.probs, strict=True)])
    order = np.argsort(-losses, kind="stable")[: np.isfinite(losses).sum()]  # nan, nothing known, sorts last
    rows = {"worst": order[:_EACH_WAY], "best": order[_EACH_WAY:][::-1][:_EACH_WAY]}  # no photo is both
    every = [int(i) for chosen in rows.values() for i in chosen]
    stream = tags.stream([photos[i] for i in every], heatmaps=True) if tags else []
    predictions = dict(zip(every, stream, strict=True)) if tags else {}
    mode = tags.image.mode if tags else "stretch"

    def card(i: int) -> dict[str, Any]:
        shown = _card(photos[i], float(losses[i]), i, scored)
        labels = [id_ for kind in _SHOWN for id_, _, _ in shown["chips"][kind]][:_HEATMAPS]
        shown["link"] = photo_link(photos[i], folder)
        return {**shown, "heatmaps": _heatmaps(photos[i], predictions[i], labels, mode) if tags else []}

    return {way: [card(int(i)) for i in chosen] for way, chosen in rows.items()}


def photo_link(photo: Path, folder: Path) -> str | None:
    """The address of a photo on a page in `folder` that is opened from disk; None where there is no such file.

    Relative where both lie below one folder other than the root, so that they may be moved together; else absolute.
    """
    if not photo.is_file():
        return None
    at, base = (os.path.normpath(path.absolute()) for path in (photo, folder))
    try:
        together = Path(os.path.commonpath([at, base]))
    except ValueError:  # on two drives of Windows
        return Path(at).as_uri()
    if together == Path(together.anchor):
        return Path(at).as_uri()
    return quote(os.fsencode(Path(os.path.relpath(at, base)).as_posix()))


def _card(photo: Path, loss: float, i: int, scored: ScoredPhotos) -> dict[str, Any]:
    target, prob, chosen = scored.targets[i], scored.decided.probs[i], scored.decided.decisions[i].astype(bool)
    true = target == 1
    kinds = {
        "right": true & chosen,
        "missed": true & ~chosen,
        "wrong": (target == 0) & chosen,
        "unknown": (target < 0) & chosen,
    }
    labels, order = list(scored.label_set), np.argsort(-prob, kind="stable")
    chips = {
        kind: [(labels[k].id, labels[k].name(), float(prob[k])) for k in order if found[k]]
        for kind, found in kinds.items()
    }
    named = {"name": Path(photo).name, "true": [label.name() for label, has in zip(labels, true, strict=True) if has]}
    return {**named, "loss": loss, "thumbnail": thumbnail(photo, _THUMBNAIL), "chips": chips}


def _heatmaps(photo: Path, seen: Prediction, labels: Sequence[str], mode: images.Mode) -> list[tuple[str, str]]:
    """Name and picture of each label's evidence."""
    if seen.cells is None:
        return []
    square = images.read_square(photo, _HEATMAP, mode)
    found = []
    for label in labels:
        name = seen.label_set.names()[seen.label_set.index(label)]
        found.append((name, jpeg_uri(Image.fromarray(overlay(square, seen.heatmap(label, _HEATMAP))))))
    return found
