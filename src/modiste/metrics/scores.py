"""Scores: how good probabilities and decisions are, beside what needs no photo at all.

Everything takes targets (n, labels) int8 with 1, 0 and -1 = unknown, and leaves the unknown out.
Definitions and conventions in words: docs/reference/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modiste.labels import UNKNOWN, LabelSet
from modiste.metrics.sweep import check_probs, each_label, sweep

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Average:
    """Precision, recall and F-scores as an average; nan where there is nothing to average."""

    precision: float
    recall: float
    f1: float
    f2: float


@dataclass(frozen=True)
class LabelScore(Average):
    """Scores of one label over the photos where it is known.

    Attributes:
        known: photos where the label is 1 or 0.
        positives: photos where it is 1.
        ap: average precision; nan without positives.
    """

    known: int
    positives: int
    ap: float


@dataclass(frozen=True, eq=False)
class GroupScore:
    """Choosing the most probable label of an exclusive group, over photos with exactly one positive in it.

    Attributes:
        n: number of those photos.
        accuracy: share of them where the most probable label is the positive one, whether it is chosen or the group is
            unsure; nan where n = 0.
        coverage: share of them where a label of the group is chosen; nan where n = 0.
        precision: share of the photos with a chosen label where it is the right one, over those n and the photos that
            have no label of the group; nan where none is chosen.
        majority: id of the most frequent label.
        majority_accuracy: accuracy of always predicting it.
        ids: label ids, the order of both axes of `confusion`.
        confusion: (labels of the group, labels of the group) int64; rows are true, columns are predicted.
    """

    n: int
    accuracy: float
    coverage: float
    precision: float
    majority: str
    majority_accuracy: float
    ids: tuple[str, ...]
    confusion: np.ndarray

    @property
    def abstains(self) -> bool:
        """Whether the group is unsure for some of the photos."""
        return self.coverage < 1


@dataclass(frozen=True, eq=False)
class Scores:
    """All scores of one set of predictions.

    Attributes:
        photos: number of photos, n.
        map: mean average precision over the labels with positives (paper, eq. 9).
        micro_ap: average precision of all known (photo, label) pairs taken together.
        macro: mean over labels with positives.
        micro: from the counts of all labels together.
        sample: mean over photos with at least one known label.
        labels: label id -> its scores, in label order.
        groups: name of each exclusive group -> its scores.
        left_out: ids of labels without positives, which `map` and `macro` leave out.
        baselines: name -> scores of an answer that looks at no photo.
    """

    photos: int
    map: float
    micro_ap: float
    macro: Average
    micro: Average
    sample: Average
    labels: Mapping[str, LabelScore]
    groups: Mapping[str, GroupScore]
    left_out: tuple[str, ...]
    baselines: Mapping[str, Scores] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; None stands for nan."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def to_frame(self) -> pl.DataFrame:
        """A row for each label: label, known, positives, ap, precision, recall, f1, f2; null where it is nan."""
        import polars as pl

        rows = [{"label": label, **asdict(score)} for label, score in self.labels.items()]
        names = ("label", "known", "positives", "ap", "precision", "recall", "f1", "f2")
        return pl.DataFrame(rows).select(names).fill_nan(None)


class MeanAP(NamedTuple):
    """Mean average precision with its parts."""

    value: float  # nan if no label has a positive
    each: np.ndarray  # (labels,) float64, nan for a label without positives
    left_out: tuple[str, ...]  # ids of those labels


class Curve(NamedTuple):
    """Precision and recall at each distinct probability, from the highest to the lowest."""

    precision: np.ndarray
    recall: np.ndarray


def measure_prevalence(targets: np.ndarray) -> np.ndarray:
    """Share of positives among the known targets of each label, (labels,) float64; 0 where none is known."""
    return _ratio((targets == 1).sum(axis=0), (targets != UNKNOWN).sum(axis=0))


def precision_recall(target: np.ndarray, prob: np.ndarray) -> Curve:
    """Precision and recall of one label when everything at or above a probability is predicted to have it.

    Args:
        target: (n,) 1, 0 or -1 = unknown.
        prob: (n,) probabilities; equal ones are taken in one step.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    cuts = sweep(target, prob)
    return Curve(cuts.precision, cuts.recall)


def average_precision(target: np.ndarray, prob: np.ndarray) -> float:
    """Area under the stepped precision-recall curve, as scikit-learn computes it.

    Args:
        target: 1, 0 or -1 = unknown; of one label (n,), or of any shape taken together.
        prob: probabilities of the same shape.

    Returns:
        Sum over distinct probabilities of precision times the gain in recall; nan with no positive.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    return sweep(target, prob).average_precision


def mean_average_precision(targets: np.ndarray, probs: np.ndarray, label_set: LabelSet) -> MeanAP:
    """Mean of the labels' average precision (paper, eq. 9); labels without positives are left out and named.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    check_probs(targets, probs, label_set)
    each = np.array(each_label(lambda cuts: cuts.average_precision, targets, probs))
    left_out = tuple(label for label, ap in zip(label_set.ids, each, strict=True) if math.isnan(ap))
    return MeanAP(_mean(each[~np.isnan(each)]), each, left_out)


def mean_log_loss(targets: np.ndarray, probs: np.ndarray) -> float:
    """Mean binary cross-entropy in nats over the known targets (paper, eq. 2); nan where none is known.

    Args:
        targets: 1, 0 or -1 = unknown, of any shape.
        probs: of the same shape; kept 1e-7 away from being wrong for sure, so that the mean stays finite.
    """
    prob = probs.astype(np.float64)
    of_truth = np.where(targets == 1, prob, 1 - prob)[targets != UNKNOWN]
    return _mean(-np.log(np.maximum(of_truth, 1e-7)))


def score(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    label_set: LabelSet,
    prevalence: np.ndarray | None = None,
) -> Scores:
    """All scores, with those of the two baselines beside them.

    Args:
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        probs: (n, labels) probabilities.
        decisions: (n, labels) 1 or 0.
        label_set: names the label axis.
        prevalence: (labels,) share of positives in the training photos; taken from `targets` where None.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    check_probs(targets, probs, label_set)
    base = measure_prevalence(targets) if prevalence is None else np.nan_to_num(prevalence)
    constant, frequent = np.ones(targets.shape), np.broadcast_to(base, targets.shape)
    yes = np.ones(targets.shape, dtype=np.int8)
    usual = (frequent > 0.5).astype(np.int8)  # the more frequent answer, not a tuned threshold
    for where in label_set.exclusive.values():
        usual[:, where] = np.arange(len(where)) == base[where].argmax()
    baselines = {
        # It predicts every label of an exclusive group, so there is no choice to be right or wrong.
        "yes to everything": _score(targets, constant, yes, label_set, {}),
        "prevalence": _score(
            targets, frequent, usual, label_set, _groups(targets, frequent, usual, label_set, base=base)
        ),
    }
    scores = _score(targets, probs, decisions, label_set, _groups(targets, probs, decisions, label_set, base=base))
    return replace(scores, baselines=baselines)


def _score(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    label_set: LabelSet,
    groups: Mapping[str, GroupScore],
) -> Scores:
    check_probs(targets, decisions, label_set)
    mean_ap = mean_average_precision(targets, probs, label_set)
    positive, negative, predicted = targets == 1, targets == 0, decisions == 1
    right, wrong, missed = positive & predicted, negative & predicted, positive & ~predicted
    each = ratios(right.sum(axis=0), wrong.sum(axis=0), missed.sum(axis=0))
    by_photo = ratios(right.sum(axis=1), wrong.sum(axis=1), missed.sum(axis=1))
    known, positives = (positive | negative).sum(axis=0), positive.sum(axis=0)
    return Scores(
        photos=len(targets),
        map=mean_ap.value,
        micro_ap=average_precision(targets, probs),
        macro=_average(each[:, positives > 0]),
        micro=_average(ratios(right.sum(), wrong.sum(), missed.sum())[:, None]),
        sample=_average(by_photo[:, (positive | negative).any(axis=1)]),
        labels={
            label: LabelScore(*row, int(known[k]), int(positives[k]), float(mean_ap.each[k]))
            for k, (label, row) in enumerate(zip(label_set.ids, _rows(each.T), strict=True))
        },
        groups=groups,
        left_out=mean_ap.left_out,
    )


def _groups(
    targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, label_set: LabelSet, *, base: np.ndarray
) -> dict[str, GroupScore]:
    return {
        name: _group(targets[:, at], probs[:, at], decisions[:, at] == 1, tuple(label_set.ids[k] for k in at), base[at])
        for name, at in label_set.exclusive.items()
    }


def choices(targets: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which photos have exactly one label of an exclusive group, (n,) bool; of these, the true and the predicted one.

    Args:
        targets, probs: (n, labels of the group).
    """
    one = (targets == 1).sum(axis=1) == 1
    return one, (targets[one] == 1).argmax(axis=1), probs[one].argmax(axis=1)


def _group(
    targets: np.ndarray, probs: np.ndarray, chosen: np.ndarray, ids: tuple[str, ...], base: np.ndarray
) -> GroupScore:
    one, true, predicted = choices(targets, probs)
    size, majority, said = len(ids), int(base.argmax()), np.asarray(chosen.any(axis=1))
    judged = np.asarray(said & (one | (targets == 0).all(axis=1)))
    right = np.asarray((chosen & (targets == 1)).any(axis=1))
    return GroupScore(
        n=int(one.sum()),
        accuracy=_mean(true == predicted),
        coverage=_mean(said[one]),
        precision=_mean(right[judged]),
        majority=ids[majority],
        majority_accuracy=_mean(true == majority),
        ids=ids,
        confusion=np.bincount(true * size + predicted, minlength=size * size).reshape(size, size),
    )


def ratios(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """(4, ...) float64: precision, recall, F1, F2 from counts (...); 0 where there is nothing to divide by."""
    f1, f2 = (
        _ratio((1 + b * b) * right, (1 + b * b) * right + b * b * missed + wrong)
        for b in (1, 2)  # F-beta: recall counts beta times as much
    )
    return np.array([_ratio(right, right + wrong), _ratio(right, right + missed), f1, f2])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float64)  # part <= whole, so 0 / 1 where whole is 0


def _average(ratios: np.ndarray) -> Average:
    return Average(*(_mean(row) for row in ratios))


def _rows(table: np.ndarray) -> list[tuple[float, float, float, float]]:
    return [tuple(row) for row in table.tolist()]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isnan(value) else value
