"""Every score of `metrics.score` where a photo counts a whole number of times, for many such weights at once.

Counts are sums of weights, and average precision needs only their running sums in the order of probability, so
that no photo is ever repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from modiste.labels import UNKNOWN, LabelSet
from modiste.metrics.scores import Scores, choices, ratios
from modiste.metrics.sweep import sweep

AVERAGES = ("macro", "micro", "sample")
_ROW = 32  # bytes of weights of one group, the most that numpy's take copies without a call for each
_PIECE = 2**14  # pairs of photo and label; their rows of weights take 512 kB and stay in the cache
_FOUR = ("precision", "recall", "f1", "f2")


def score_names(labels: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Names of all scores of some label ids and exclusive groups: "map", "macro.f2", "labels.<id>.ap" and so on."""
    averages = [f"{average}.{key}" for average in AVERAGES for key in _FOUR]
    of_labels = [f"labels.{label}.{key}" for label in labels for key in (*_FOUR, "ap")]
    return ["map", "micro_ap", *averages, *of_labels, *(f"groups.{group}.accuracy" for group in groups)]


def flat_scores(scores: Scores) -> dict[str, float]:
    """Each score by its name, in the order of `score_names`."""
    averages = [scores.macro, scores.micro, scores.sample]
    values = [scores.map, scores.micro_ap, *(getattr(average, key) for average in averages for key in _FOUR)]
    values += [getattr(label, key) for label in scores.labels.values() for key in (*_FOUR, "ap")]
    values += [group.accuracy for group in scores.groups.values()]
    return dict(zip(score_names(scores.labels, scores.groups), values, strict=True))


class _Piece(NamedTuple):
    """A piece of a ranking, which is the known pairs of photo and label from the most probable to the last positive.

    It consists of steps, each ending with a run of equal probabilities that holds a positive.

    Attributes:
        known: (m,) group of each pair's photo.
        ends: (steps,) position in `known` of the last pair of each step.
        positives: groups of the positives among them.
        lasts: (steps,) position in `positives` of the last one of each step.
    """

    known: np.ndarray
    ends: np.ndarray
    positives: np.ndarray
    lasts: np.ndarray


def _ranking(target: np.ndarray, prob: np.ndarray, group: np.ndarray) -> list[_Piece]:
    """Of pairs with these targets, probabilities and groups (m,)."""
    cuts, known = sweep(target, prob), target != UNKNOWN
    order = np.argsort(-prob[known])
    group, hit = group[known][order], target[known][order] == 1
    positives = group[hit]
    predicted, hits = (np.append(0, counts[cuts.rising]) for counts in (cuts.predicted, cuts.hits))
    bounds = [0, *np.flatnonzero(np.diff(predicted[1:] // _PIECE)) + 1, len(predicted) - 1]
    return [
        _Piece(
            group[predicted[a] : predicted[b]],
            predicted[a + 1 : b + 1] - predicted[a] - 1,
            positives[hits[a] : hits[b]],
            hits[a + 1 : b + 1] - hits[a] - 1,
        )
        for a, b in pairwise(bounds)
        if a < b
    ]


def _average_precisions(ranking: list[_Piece], packed: list[_Packed]) -> np.ndarray:
    """Average precision of a ranking, (weightings,); nan where no positive counts."""
    return np.concatenate([_average_precision(ranking, weights) for weights in packed])


def _average_precision(ranking: list[_Piece], weights: _Packed) -> np.ndarray:
    area = np.zeros(weights.weightings)
    all_predicted, all_hits = np.zeros((2, 1, weights.words.shape[1]), np.uint64)  # up to the piece
    for piece in ranking:
        predicted = weights.running(piece.known, piece.ends, all_predicted)
        hits = weights.running(piece.positives, piece.lasts, all_hits)
        gains = hits - np.concatenate([all_hits, hits[:-1]])  # in words, as no running sum falls
        all_predicted, all_hits = predicted[-1:], hits[-1:]
        predicted, hits, gains = (weights.unpack(words) for words in (predicted, hits, gains))
        precision = np.divide(
            hits, np.maximum(predicted, 1, out=predicted), out=predicted
        )  # nothing predicted, nothing gained
        area += np.einsum("sw,sw->w", gains, precision)
    return _ratio(area, weights.unpack(all_hits)[0])


@dataclass(frozen=True, eq=False)
class WeightedScores:
    """What the scores are made of, for photos that belong to groups with one weight each.

    Attributes:
        groups: how many.
        counted: for each count the groups of its photos, one after the other; a count begins with a group that
            weighs 0, as there may be no photo. The counts: right, wrong and missed of each label; photos of each
            outcome; for each exclusive group of labels, photos with one of them, and with that one chosen.
        starts: where each count begins in `counted`.
        outcomes: (4, outcomes) float64, the scores of a photo of each outcome.
        rankings: of each label, and of all together.
        largest: photos of the largest group.
    """

    groups: int
    counted: np.ndarray
    starts: np.ndarray
    outcomes: np.ndarray
    rankings: list[list[_Piece]]
    largest: int

    @classmethod
    def gather(
        cls, targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, label_set: LabelSet, *, group: np.ndarray
    ) -> Self:
        """From arrays as of `metrics.score`, checked before, and the group of each photo.

        Args:
            targets: (n, labels) int8, 1, 0 or -1 = unknown; at least one photo.
            probs: (n, labels) in [0, 1].
            decisions: (n, labels) 1 or 0.
            label_set: names the label axis.
            group: (n,) int, each number from 0 to the highest at least once.
        """
        positive, negative, predicted = targets == 1, targets == 0, decisions == 1
        parts = [positive & predicted, negative & predicted, positive & ~predicted]
        known = np.flatnonzero((positive | negative).any(axis=1))
        counts = [group[mask] for part in parts for mask in part.T]
        right, wrong, missed = photo = np.stack([part[known].sum(axis=1) for part in parts])
        key = (right * (len(label_set) + 1) + wrong) * (len(label_set) + 1) + missed  # no count exceeds the labels
        _, first, outcome, many = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        alike = known[np.argsort(outcome, kind="stable")]
        counts += [group[those] for those in np.split(alike, np.cumsum(many)[:-1])][
            : len(many)
        ]  # none where none known
        for at in label_set.exclusive.values():
            one, true, chosen = choices(targets[:, at], probs[:, at])
            counts += [group[one], group[one][true == chosen]]
        rankings = [_ranking(targets[:, k], probs[:, k], group) for k in range(len(label_set))]
        rankings.append(_ranking(targets.ravel(), probs.ravel(), np.repeat(group, len(label_set))))
        sizes = np.bincount(group)
        counted = np.concatenate([part for count in counts for part in ([len(sizes)], count)])
        starts = np.cumsum([0, *(1 + len(count) for count in counts[:-1])])
        return cls(len(sizes), counted, starts, ratios(*photo[:, first]), rankings, int(sizes.max()))

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Each score, (names, weightings) float64 in the order of `score_names`; nan where there is nothing to score.

        Args:
            weights: (weightings, groups) int, at least 0; how often the photos of each group count.
        """
        *rankings, together = self.rankings
        most = int(weights.sum(axis=1).max()) * self.largest
        packed, wide = _Packed.parts(weights, most), _Packed.parts(weights, most * len(rankings))
        counts = np.concatenate([part.sums(self.counted, self.starts) for part in packed], axis=1)
        of_labels, outcomes, chosen = np.split(counts, np.cumsum([3 * len(rankings), self.outcomes.shape[1]]))
        right, wrong, missed = of_labels.reshape(3, len(rankings), -1)
        each, there = ratios(right, wrong, missed), right + missed > 0
        ap = np.stack([_average_precisions(ranking, packed) for ranking in rankings])
        averages = [
            _ratio(np.nansum(ap, axis=0), there.sum(axis=0))[None],
            _average_precisions(together, wide)[None],
            _ratio((each * there).sum(axis=1), there.sum(axis=0)),
            ratios(right.sum(axis=0), wrong.sum(axis=0), missed.sum(axis=0)),
            _ratio(np.einsum("so,ow->sw", self.outcomes, outcomes), outcomes.sum(axis=0)),
        ]
        own = np.concatenate([each, ap[None]]).swapaxes(0, 1).reshape(5 * len(rankings), -1)
        return np.concatenate([*averages, own, _ratio(chosen[1::2], chosen[::2])])


class _Packed(NamedTuple):
    """Weights with several weightings side by side in a word of 64 bits, so that one sum serves them all.

    No sum runs over into the next weighting, as none exceeds what a lane holds. numpy's products of matrices are not
    used: their threads and those that call them wait for each other.

    Attributes:
        words: (groups + 1, columns) uint64, the last group weighing 0.
        lane: unsigned type of one weighting's part of a word.
        weightings: how many; the lanes behind them are 0.
    """

    words: np.ndarray
    lane: np.dtype
    weightings: int

    @classmethod
    def parts(cls, weights: np.ndarray, most: int) -> list[Self]:
        """From weights (weightings, groups) no sum of which will exceed `most`, as many at a time as fill a row."""
        lane = np.min_scalar_type(most)
        in_row, in_word = _ROW // lane.itemsize, 8 // lane.itemsize
        parts = []
        for start in range(0, len(weights), in_row):
            part = weights[start : start + in_row]
            padded = np.zeros((part.shape[1] + 1, -(-len(part) // in_word) * in_word), lane)
            padded[:-1, : len(part)] = part.T
            parts.append(cls(padded.view(np.uint64), lane, len(part)))
        return parts

    def sums(self, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Sums over groups in an order, (sums, weightings) float64, each from one start to the next."""
        return self.unpack(np.add.reduceat(self.words.take(order, axis=0), starts, axis=0))

    def running(self, order: np.ndarray, at: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Running sums from `before` over groups in an order, at some positions of it, (positions, columns) uint64."""
        taken = self.words.take(order, axis=0)
        taken[:1] += before
        return np.cumsum(taken, axis=0, out=taken).take(at, axis=0)

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """(m, columns) uint64 -> (m, weightings) float64."""
        return words.view(self.lane)[:, : self.weightings].astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole > 0, whole, math.nan)
