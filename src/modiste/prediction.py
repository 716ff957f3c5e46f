"""What is said of photos: by a network, and in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from modiste.errors import UsageError
from modiste.labels import LabelSet


class NetworkOutput(NamedTuple):
    """What a network says of n photos.

    Attributes:
        probs: (n, labels) float32, its own probabilities, before any calibration.
        features: (n, features) float32, what its last layer goes by.
        maps: (n, labels, height, width) float32: what each place of a photo says for each label. Their mean is the
            label's logit without its bias, where the network ends in global average pooling; None where it has no
            places.
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


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one photo, and how probable each one is.

    Attributes:
        photo: its name.
        label_set: what each column of `prob_array` means.
        prob_array: (labels,) float32 in [0, 1], calibrated where the model is; nan where the photo can't be read.
        labels: ids of the chosen labels, in label order; empty where the photo can't be read.
        error: the sentence that says why it can't be read; None where it can.
        maps, cells: what `heatmap` is made of.
    """

    photo: str
    label_set: LabelSet
    prob_array: np.ndarray
    labels: tuple[str, ...]
    error: str | None = None
    maps: np.ndarray | None = None
    cells: MapCells | None = None

    @property
    def probs(self) -> dict[str, float]:
        """Label id -> probability in [0, 1], in label order."""
        return dict(zip(self.label_set.ids, map(float, self.prob_array), strict=True))

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
            UsageError: the network has no places, or the photo could not be read.
        """
        k = self.label_set.index(label)
        if self.maps is None or self.cells is None:
            got = "a photo that can't be read" if self.error else "a network that has none"
            raise UsageError.expected("a map of the photo's places", got, "a convolutional backbone")
        spread = self.cells.spread(side or self.cells.size)
        heat: np.ndarray = spread @ np.maximum(self.maps[k], 0) @ spread.T
        heat /= max(float(heat.max()), 1e-12)
        return heat.astype(np.float32)


class RawPrediction(NamedTuple):
    """What a network says of one photo.

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
    """What a model says of some photos: probs (n, labels) in [0, 1] and decisions (n, labels) 1 or 0."""

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
