"""Scores of whole products beside those of their photos: what several photos of one product give together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modiste.decisions.pooling import Pooling, Products
from modiste.labels import LabelSet
from modiste.metrics.bootstrap import Comparison, Interval, compare_draws, intervals, replicate
from modiste.metrics.scores import Scores, score
from modiste.metrics.weighted import flat_scores
from modiste.prediction import Decided


@dataclass(frozen=True, eq=False)
class ProductScores:
    """How good the answers for whole products are.

    Attributes:
        products: which photos show one, and what is known of each.
        pooling: how their photos became one answer.
        decided: probs and decisions (products, labels).
        scores: of the products; its `photos` counts products.
        intervals: score's name -> 95 % interval, as of an Evaluation.
        gains: of the main scores, products (second) against their photos (first), on the same draws of products.
    """

    products: Products
    pooling: Pooling
    decided: Decided
    scores: Scores
    intervals: Mapping[str, Interval]
    gains: tuple[Comparison, ...]

    @property
    def sentence(self) -> str:
        """What was scored, in words."""
        several, contradicting = self.products.several, int(self.products.contradicting.sum())
        words = f"{len(self.products):,} products, {several:,} with several photos, pooled by the {self.pooling}"
        return words + (f"; the photos of {contradicting:,} contradict each other" if contradicting else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; None stands for nan."""
        scores = self.scores.to_dict()
        return {
            "products": scores.pop("photos"),
            "with_several_photos": self.products.several,
            "contradicting": int(self.products.contradicting.sum()),
            "pooling": self.pooling,
            **scores,
            "intervals": {name: _plain(one) for name, one in self.intervals.items()},
            "gains": {
                one.name: {
                    "photos": None if np.isnan(one.first) else one.first,
                    "products": None if np.isnan(one.second) else one.second,
                    "difference": None if np.isnan(one.difference) else one.difference,
                    "interval": _plain(one.interval),
                    "probability": None if np.isnan(one.better) else one.better,
                }
                for one in self.gains
            },
        }


def score_products(
    products: Products,
    pooling: Pooling,
    decided: Decided,
    label_set: LabelSet,
    *,
    prevalence: np.ndarray,
    photos: Scores,
    draws: Mapping[str, np.ndarray],
) -> ProductScores:
    """Score products, and compare with the scores of their photos.

    Args:
        products: what is known of them.
        pooling: how their photos became one answer.
        decided: probs and decisions (products, labels).
        label_set: names the label axis.
        prevalence: (labels,) share of positives in the training photos.
        photos: scores of the photos.
        draws: replicates of those, products drawn as groups.
    """
    scores = score(products.targets, *decided, label_set, prevalence)
    own = replicate(products.targets, *decided, label_set)  # the same products are drawn as for the photos
    points, before = flat_scores(scores), flat_scores(photos)
    names = ["map", *(["macro.f2", "macro.f1"] if label_set.free_labels.size else [])]
    names += [f"groups.{group}.accuracy" for group in label_set.exclusive]
    gains = [compare_draws(name, (before[name], points[name]), (draws[name], own[name])) for name in names]
    return ProductScores(products, pooling, decided, scores, intervals(own, points), tuple(gains))


def _plain(interval: Interval) -> list[float] | None:
    return None if np.isnan(interval.low) else [interval.low, interval.high]
