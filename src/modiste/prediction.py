"""Predictions: a network's output, the raw and the decided prediction of a photo."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import NamedTuple

import numpy as np

from modiste.errors import PhotoError, UsageError
from modiste.labels import LabelSet


class NetworkOutput(NamedTuple):
    """A network's output for n photos.

    Attributes:
        probs: (n, labels) float32, its own probabilities, before any calibration.
        features: (n, features) float32, what its last layer goes by.
        maps: (n, labels, height, width) float32: the evidence for each label at each place of a photo. Their mean
            is the label's logit without its bias, where the network ends in global average pooling; None where it
            has no places.
    """

    probs: np.ndarray
    features: np.ndarray
    maps: np.ndarray | None


class MapCells(NamedTuple):
    """Where the cells of a map lie in the square that a network sees; rows and columns are alike.

    Attributes:
        size: pixels a side of the square.
        centres: of the cells along a side, as shares of it.
    """

    size: int
    centres: tuple[float, ...]

    def spread(self, side: int) -> np.ndarray:
        """How much each pixel of a side takes from each cell, (side, cells): all at its centre, none at the next."""
        places = (np.arange(side) + 0.5) / side
        gap = self.centres[1] - self.centres[0] if len(self.centres) > 1 else 1.0
        near: np.ndarray = np.maximum(0, 1 - np.abs(places[:, None] - np.array(self.centres)) / gap)
        return near


_MOST_BARS = 12  # that a notebook shows; chosen labels are shown all


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The labels of one photo, and how probable each one is.

    Attributes:
        photo: its name.
        label_set: what each column of `prob_array` means.
        prob_array: (labels,) float32 in [0, 1], calibrated where the model is; nan where the photo can't be read.
        labels: ids of the chosen labels, in label order; empty where the photo can't be read.
        error: the sentence that says why it can't be read; None where it can.
        maps, cells: what `heatmap` is made of.
        thresholds: (labels,) float32, above which a label is chosen; nan where the most probable one of an exclusive
            group always is; None where that is not known.
        preview: gives the photo, small, (height, width, 3) uint8 RGB; None where it isn't kept.
        unsure: names of the exclusive groups of which no label is chosen, as none is probable enough. Where the
            model's thresholds were tuned (not "fixed" or "top"), also ids of the free labels that are chosen with a
            probability below one half, or not chosen with one above.
    """

    photo: str
    label_set: LabelSet
    prob_array: np.ndarray
    labels: tuple[str, ...]
    error: str | None = None
    maps: np.ndarray | None = None
    cells: MapCells | None = None
    thresholds: np.ndarray | None = None
    preview: Callable[[], np.ndarray] | None = None
    unsure: tuple[str, ...] = ()

    def __repr__(self) -> str:
        if self.error is not None:
            return f"{type(self).__name__}({self.photo!r}, error={self.error!r})"
        return f"{type(self).__name__}({self.photo!r}, {self.words or 'no label'})"

    def _repr_html_(self) -> str:
        """For notebooks: the photo, and a bar for each label that is chosen or probable, with its threshold."""
        title = f'<div style="font-weight:600;overflow-wrap:anywhere">{escape(self.photo)}</div>'
        if self.error is not None:
            return _card(title + f'<div style="color:#b00020">{escape(self.error)}</div>')
        order = sorted(range(len(self.label_set)), key=lambda k: -self.prob_array[k])
        chosen = set(self.labels)
        shown = [k for place, k in enumerate(order) if place < _MOST_BARS or self.label_set.ids[k] in chosen]
        bars = "".join(self._bar(k, self.label_set.ids[k] in chosen) for k in shown)
        left = len(order) - len(shown)
        more = f'<div style="opacity:.7">and {left} less probable</div>' if left else ""
        return _card(f"{_picture(self.preview)}<div>{title}{bars}{more}</div>")

    def _bar(self, k: int, chosen: bool) -> str:
        """One label: its name, its probability as a bar, a line at its threshold, and the number."""
        name, prob = escape(self.label_set.names()[k]), float(self.prob_array[k])
        threshold = np.nan if self.thresholds is None else float(self.thresholds[k])
        line = (
            f'<i title="threshold {threshold:.2f}" style="position:absolute;left:{100 * threshold:.1f}%;top:-2px;'
            f'bottom:-2px;border-left:2px solid currentColor"></i>'
            if 0 < threshold < 1
            else ""
        )
        weight, colour = ("600", "#1a6e4a") if chosen else ("400", "#8a8a8a")
        return (
            f'<div style="display:flex;gap:.6em;align-items:center;font-weight:{weight}">'
            f'<span style="width:12em;overflow-wrap:anywhere">{name}{" ✓" if chosen else ""}</span>'
            f'<span style="position:relative;width:12em;height:.7em;background:rgba(128,128,128,.2)">'
            f'<b style="position:absolute;left:0;top:0;bottom:0;width:{100 * prob:.1f}%;background:{colour}"></b>{line}'
            f"</span><span>{prob:.2f}</span></div>"
        )

    @property
    def probs(self) -> dict[str, float]:
        """Label id -> probability in [0, 1], in label order."""
        return dict(zip(self.label_set.ids, map(float, self.prob_array), strict=True))

    @property
    def review(self) -> bool:
        """Whether a person should look at the photo: something is unsure, or it can't be read."""
        return bool(self.unsure) or self.error is not None

    @property
    def words(self) -> str:
        """Its labels with their probabilities, the surest first, then the groups that are unsure: "garment unsure
        (shirt 0.41)"; "" where there is neither.
        """
        probs = self.probs
        words = [f"{label} {probs[label]:.2f}" for label in sorted(self.labels, key=lambda label: -probs[label])]
        for group in (one for one in self.label_set.groups if one.exclusive and one.name in self.unsure):
            best = max((label.id for label in group.labels), key=lambda label: probs[label])
            words.append(f"{group.name} unsure ({best} {probs[best]:.2f})")
        return ", ".join(words)

    def heatmap(self, label: str, side: int | None = None) -> np.ndarray:
        """Where the evidence for a label lies.

        A class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization"): what
        each place adds to the label's logit, where that is more than nothing, as a share of the most. Evidence
        against the label is 0 here. It compares places of one photo, not photos or labels. Each cell of the map is
        laid where the network looks, not where an even split would have it.

        Args:
            label: any label, chosen or not.
            side: pixels of the heatmap; None takes those of the square that the network sees.

        Returns:
            (side, side) float32 in [0, 1], over that square.

        Raises:
            LabelError: no such label.
            UsageError: the network has no places, heatmaps were not asked for, or the photo could not be read.
        """
        k = self.label_set.index(label)
        if self.maps is None or self.cells is None:
            got, fix = "a network that has none", "a convolutional backbone"
            if self.error:
                got, fix = "a photo that can't be read", "another photo"
            elif self.cells is not None:
                got, fix = "a prediction without heatmaps", "predict(photo), or stream(photos, heatmaps=True)"
            raise UsageError.expected("a map of the photo's places", got, fix)
        spread = self.cells.spread(side or self.cells.size)
        heat: np.ndarray = spread @ np.maximum(self.maps[k], 0) @ spread.T
        heat /= max(float(heat.max()), 1e-12)
        return heat.astype(np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class ProductPrediction(Prediction):
    """The labels of one product, from all of its photos that could be read.

    `photo` is what the product is called; it has no heatmaps of its own, and no preview.

    Attributes:
        photos: what each photo says alone, in order; with `error` where it could not be read.
    """

    photos: tuple[Prediction, ...] = ()


class RawPrediction(NamedTuple):
    """A network's output for one photo.

    Attributes:
        photo: its name.
        probs: (labels,) float32, nan where it can't be read.
        error: why it can't.
        maps: (labels, height, width) float32, as in NetworkOutput, of the photo as it is.
    """

    photo: str
    probs: np.ndarray
    error: str | None
    maps: np.ndarray | None = None


class Decided(NamedTuple):
    """A model's predictions for some photos: probs (n, labels) in [0, 1] and decisions (n, labels) 1 or 0."""

    probs: np.ndarray
    decisions: np.ndarray


def check_range(probs: np.ndarray) -> None:
    """Check probabilities of any shape.

    Raises:
        UsageError: one is nan or outside [0, 1].
    """
    if probs.size and not (probs.min() >= 0 and probs.max() <= 1):  # this form catches nan too
        outside = probs[~((probs >= 0) & (probs <= 1))][0]
        raise UsageError.expected("probabilities in [0, 1]", outside, "the sigmoid of the logits of a trained model")


def _card(content: str) -> str:
    style = "display:flex;gap:1em;align-items:flex-start;font:13px/1.7 system-ui,sans-serif"
    return f'<div style="{style}">{content}</div>'


def _picture(preview: Callable[[], np.ndarray] | None) -> str:
    """An <img> that holds its photo; nothing where there is none any more."""
    from PIL import Image

    try:
        pixels = None if preview is None else preview()
    except PhotoError:  # its file has gone since it was tagged
        pixels = None
    if pixels is None:
        return ""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
