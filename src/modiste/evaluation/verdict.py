"""The verdict on a model in one sentence: which labels are good enough to publish unreviewed, and what is a guess."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from modiste.decisions.fit_thresholds import FEW
from modiste.labels import LabelSet
from modiste.metrics.operating_points import FEWEST_PHOTOS
from modiste.metrics.scores import Scores
from modiste.metrics.weighted import flat_scores

LabelVerdict = Literal["publish", "review", "too few photos"]
GOOD_PRECISION = 0.9  # of the photos a label is chosen for, the share that has to be right
_BESIDE_GUESSES = {
    "map": "mAP",
    "macro.f2": "macro F2",
    "macro.f1": "macro F1",
    "micro.f1": "micro F1",
    "sample.f1": "per-photo F1",
}
_MOST_NAMED = 8  # labels in one sentence


class BelowGuess(NamedTuple):
    """A score that is no better than an answer that looks at no photo.

    Attributes:
        name: of the score, as in `weighted.flat_scores`.
        words: what a person calls it.
        value: of the model.
        guess: the best that guessing gets, at least `value`.
        how: how it is guessed.
    """

    name: str
    words: str
    value: float
    guess: float
    how: str

    @property
    def sentence(self) -> str:
        """The finding in words."""
        than = "below" if self.value < self.guess else "no better than"
        return f"{self.words} is {self.value:.3f}, {than} guessing, which gets {self.guess:.3f} ({self.how})."


@dataclass(frozen=True)
class Verdict:
    """What may be published unreviewed, judged on photos that neither training nor tuning has seen.

    A label is judged over the photos where it is known:

    - "too few photos": fewer than `FEW` (10) of them have it.
    - "publish": else, where it is rightly chosen for at least `FEWEST_PHOTOS` (10) and its precision, the share
      of the photos it is chosen for that have it, is at least `GOOD_PRECISION` (0.9).
    - "review": all others.

    Attributes:
        labels: label id -> its verdict, in label order.
        judged: photos that it was judged on.
        photos: photos that were scored.
        below: scores that are no better than guessing, those of all labels together first.
        unsure: a sentence for each exclusive group that is unsure for some of the photos.
    """

    labels: Mapping[str, LabelVerdict]
    judged: int
    photos: int
    below: tuple[BelowGuess, ...]
    unsure: tuple[str, ...] = ()

    def count(self, verdict: LabelVerdict) -> int:
        """How many labels got a verdict."""
        return sum(one == verdict for one in self.labels.values())

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.photos and not self.judged:
            return "All these photos were used for training or tuning, so they can't tell what to publish unreviewed."
        good, few, total = self.count("publish"), self.count("too few photos"), len(self.labels)
        labels = f"{total} label{'' if total == 1 else 's'}"
        part = "" if self.judged == self.photos else self._part()
        if few == total:
            return f"Too few photos to tell whether any of {labels} can be published unreviewed{part}."
        words = f"Good enough to publish {good} of {labels} unreviewed"
        if not good:
            words = f"Not good enough to publish any of {labels} unreviewed"
        rare = f"; {few} {'has' if few == 1 else 'have'} too few photos to tell" if few else ""
        return f"{words}{rare}{part}."

    def _part(self) -> str:
        return f" (judged on the {self.judged:,} of {self.photos:,} photos that were not used for training or tuning)"

    @property
    def guesses(self) -> tuple[str, ...]:
        """A sentence for each score that is no better than guessing; labels share one."""
        labels = [one.words for one in self.below if one.name.startswith("labels.")]
        sentences = [one.sentence for one in self.below if not one.name.startswith("labels.")]
        if labels:
            more = len(labels) - _MOST_NAMED
            named = ", ".join(labels[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            many = "label is" if len(labels) == 1 else "labels are"
            sentences.append(
                f"{len(labels)} {many} ranked no better than by guessing (AP at or below the prevalence): {named}."
            )
        return tuple(sentences)

    def below_guessing(self, label: str) -> bool:
        """Whether the average precision of a label, by its id, is at or below its prevalence."""
        return any(one.name == f"labels.{label}.ap" for one in self.below)


def judge(
    scores: Scores, targets: np.ndarray, decisions: np.ndarray, label_set: LabelSet, unseen: np.ndarray | None = None
) -> Verdict:
    """The verdict on decisions.

    Args:
        scores: of all n photos.
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        decisions: (n, labels) 1 or 0, by thresholds that were not tuned on these photos, or cross-fitted.
        label_set: names the label axis.
        unseen: (n,) bool, photos that neither training nor tuning has seen; None: all.
    """
    rows = np.ones(len(targets), bool) if unseen is None else unseen
    target, chosen = targets[rows], decisions[rows] == 1
    right, wrong = (chosen & (target == 1)).sum(axis=0), (chosen & (target == 0)).sum(axis=0)
    positives = (target == 1).sum(axis=0)
    labels = {label: _judge(positives[k], right[k], wrong[k]) for k, label in enumerate(label_set.ids)}
    return Verdict(labels, int(rows.sum()), len(targets), tuple(_below(scores)), tuple(_unsure(scores)))


def _judge(positives: int, right: int, wrong: int) -> LabelVerdict:
    if positives < FEW:
        return "too few photos"
    return "publish" if right >= FEWEST_PHOTOS and right >= GOOD_PRECISION * (right + wrong) else "review"


def _unsure(scores: Scores) -> list[str]:
    found = []
    for name, group in scores.groups.items():
        if group.abstains and group.coverage:
            right = "" if math.isnan(group.precision) else f", {group.precision:.1%} of what is said is right"
            found.append(f"{name} is said for {group.coverage:.1%} of the photos and unsure for the others{right}.")
        elif group.abstains:
            found.append(f"{name} is unsure for all photos.")
    return found


def _below(scores: Scores) -> list[BelowGuess]:
    """Scores at or below the best guess; a guess that is always or never right says nothing."""
    values = flat_scores(scores)
    guessed = {how: flat_scores(baseline) for how, baseline in scores.baselines.items()}
    found = []
    for name, words in _BESIDE_GUESSES.items():
        guesses = [(of[name], how) for how, of in guessed.items() if not math.isnan(of[name])]
        if guesses:
            guess, how = max(guesses)
            found.append(BelowGuess(name, words, values[name], guess, how))
    for name, group in scores.groups.items():
        path, how = f"groups.{name}.accuracy", f"always “{group.majority}”"
        found.append(BelowGuess(path, f"accuracy of {name}", group.accuracy, group.majority_accuracy, how))
    for label, one in scores.labels.items():
        share = one.positives / one.known if one.known else math.nan
        found.append(BelowGuess(f"labels.{label}.ap", label, one.ap, share, "prevalence"))
    return [one for one in found if one.value <= one.guess and 0 < one.guess < 1]
