"""Which of several ways of training is best, and how sure that is: trained runs -> means, intervals, a winner or none.

A candidate is a way of training; its runs differ in their seed alone. Two chances part what was measured from what
is asked for: other test photos, and other seeds (Bouthillier et al. 2021, "Accounting for Variance in Machine
Learning Benchmarks"). Each interval counts both; `rank_candidates` says how.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modiste.experiments.outcomes import (
    NOWHERE,
    SCORES,
    Mean,
    Outcome,
    check_outcomes,
    inferred,
    mean,
    number,
    ranged,
    spread,
)
from modiste.metrics.bootstrap import Interval

if TYPE_CHECKING:
    import polars as pl

_MOST_NAMES = 6  # of one list in a sentence


@dataclass(frozen=True)
class RankedCandidate:
    """One candidate: its outcomes over its seeds.

    Attributes:
        val_map: without an interval.
        scores: each of `SCORES` on the test photos, in [0, 1].
        seconds, ms_a_photo: means; `cache_seconds` was spent once.
    """

    candidate: str
    backbone: str
    optimizer: str
    seeds: tuple[int, ...]
    val_map: Mean
    scores: dict[str, Mean]
    seconds: float
    cache_seconds: float
    parameters: int
    ms_a_photo: float


@dataclass(frozen=True)
class Difference:
    """By how much the leader's score is above that of another candidate.

    Attributes:
        candidate: the other one.
        name: of the score, one of `SCORES`.
        value: mean of the leader less that of the other; nan where a score is.
        interval: of the value. All those of one score hold together with the level that was asked for.
        error: standard error of the value.
        freedom: degrees of freedom of `error`; infinite where only other photos are counted.
    """

    candidate: str
    name: str
    value: float
    interval: Interval
    error: float
    freedom: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """What `rank_candidates` found.

    Attributes:
        outcomes: the runs, as they came.
        ranked: the candidates by mean validation mAP, the best first.
        leader: the first of them; None where no candidate has a validation mAP in all of its runs.
        differences: of the leader from each other candidate, in the order of `ranked`, for each of `SCORES`.
        level: probability of the intervals.
    """

    outcomes: tuple[Outcome, ...]
    ranked: tuple[RankedCandidate, ...]
    leader: str | None
    differences: tuple[Difference, ...]
    level: float

    @property
    def winner(self) -> str | None:
        """The leader, if its test mAP is above that of each other candidate by more than chance; None if not."""
        deciding = [one for one in self.differences if one.name == "map"]
        return self.leader if deciding and all(one.interval.low > 0 for one in deciding) else None

    @property
    def best(self) -> Outcome | None:
        """The run of the leader with the highest validation mAP, the first of several."""
        return max(
            (one for one in self.outcomes if one.candidate == self.leader), key=lambda one: one.val_map, default=None
        )

    @property
    def seconds(self) -> float:
        """Of all trainings, each backbone's cache counted once."""
        caches = {one.backbone: one.cache_seconds for one in sorted(self.outcomes, key=lambda one: one.cache_seconds)}
        return sum(one.seconds for one in self.outcomes) + sum(caches.values())

    @property
    def sentence(self) -> str:
        """Who won or why nobody did, who is surely behind, and which chance could not be counted, in words."""
        return " ".join([*_verdict(self), *_uncounted(self)])

    def behind(self, candidate: str, name: str = "map") -> Difference | None:
        """How far a candidate is behind the leader by a score; None for the leader itself, or where there is none."""
        return next((one for one in self.differences if (one.candidate, one.name) == (candidate, name)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; None is nan, and infinite degrees of freedom."""
        whole = {
            "level": self.level,
            "leader": self.leader,
            "winner": self.winner,
            "sentence": self.sentence,
            "best": None if self.best is None else self.best.folder,
            "seconds": self.seconds,
            "candidates": [asdict(one) for one in self.ranked],
            "differences": [asdict(one) for one in self.differences],
            "runs": [{k: v for k, v in vars(one).items() if k != "replicates"} for one in self.outcomes],
        }
        return dict(_finite(whole))

    def to_frame(self) -> pl.DataFrame:
        """A row for each candidate, the best first; null where they can't be told.

        Columns: candidate, backbone, optimizer, seeds; val_map; for each score of `SCORES` NAME, NAME.sd, NAME.low,
        NAME.high and, behind the leader, NAME.behind, NAME.behind.low, NAME.behind.high; then costs.
        """
        import polars as pl

        rows: list[dict[str, Any]] = []
        for one in self.ranked:
            row: dict[str, Any] = {"candidate": one.candidate, "backbone": one.backbone, "optimizer": one.optimizer}
            row |= {"seeds": len(one.seeds), "val_map": one.val_map.mean, "val_map.sd": one.val_map.sd}
            for name, score in one.scores.items():
                gap = self.behind(one.candidate, name)
                value, interval = (math.nan, NOWHERE) if gap is None else (gap.value, gap.interval)
                row |= {name: score.mean, f"{name}.sd": score.sd}
                row |= {f"{name}.low": score.interval.low, f"{name}.high": score.interval.high}
                row |= {f"{name}.behind": value, f"{name}.behind.low": interval.low}
                row |= {f"{name}.behind.high": interval.high}
            row |= {"seconds": one.seconds, "cache_seconds": one.cache_seconds}
            rows.append(row | {"parameters": one.parameters, "ms_a_photo": one.ms_a_photo})
        return pl.DataFrame(rows).fill_nan(None)

    def to_markdown(self) -> str:
        """The candidates as a table of GitHub's Markdown, with the sentence below."""
        percent = f"{100 * self.level:g} %"
        head = ["candidate", "backbone", "optimizer", "seeds", "val mAP"]
        head += [f"test {words} ({percent})" for words in SCORES.values()]
        head += [f"behind in {words} ({percent})" for words in SCORES.values()]
        head += ["training s", "cache s", "million parameters", "ms a photo"]
        rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *(self._row(one) for one in self.ranked)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        return f"{table}\n\n{_escaped(self.sentence)}\n"

    def _row(self, one: RankedCandidate) -> list[str]:
        cells = [_escaped(one.candidate), _escaped(one.backbone), _escaped(one.optimizer), str(len(one.seeds))]
        cells += [spread(mean) + ranged(mean.interval) for mean in (one.val_map, *one.scores.values())]
        gaps = [self.behind(one.candidate, name) for name in SCORES]
        cells += ["–" if gap is None else number(gap.value) + ranged(gap.interval) for gap in gaps]
        cells += [number(one.seconds, 1), number(one.cache_seconds, 1)]
        return [*cells, number(one.parameters / 1e6, 2), number(one.ms_a_photo, 1)]


def rank_candidates(outcomes: Sequence[Outcome], level: float = 0.95) -> Ranking:
    """Rank candidates by mean validation mAP, and say which are surely worse than the first on the test photos.

    The test photos choose nothing. Of candidates i and j with S runs each, the test score is the mean over the runs,
    and the squared standard error of the difference of two means is

        V + s_i^2 / S_i + s_j^2 / S_j

    V: variance, over the bootstrap's draws of photos, of the difference of the two means, on the same photos for both
    (Efron & Tibshirani 1993, chapter 6); s^2: variance over seeds, with S - 1. The interval takes Student's t with the
    degrees of freedom of Welch (1947) and Satterthwaite (1946), infinitely many for V. The level is shared among the
    leader's k comparisons by a score, each at 1 - (1 - level) / k (Bonferroni; Dunn 1961). The interval of one
    candidate's mean is made alike, of V + s^2 / S, at the level itself.

    What a seed does to some photos only is in V and in s^2, so that intervals are rather too wide. Seeds of two
    candidates count as independent, also where their numbers are equal. With one seed, s^2 counts as 0: chance is
    then that of the photos alone, and the sentence says so.

    Intervals hold as for a leader named beforehand. A leader's seeds may owe their validation mAP to luck that its test
    mAP shows too; still, where all k + 1 candidates are equal, one of them is called the winner with a probability of
    at most (1 - level) (k + 1) / (2 k), as it would have to leave some interval at its upper end.

    Args:
        outcomes: the runs; those of a candidate stand in any order.
        level: probability of the intervals, in (0, 1).

    Raises:
        UsageError: there is no run, a run comes twice, lacks a score or has another number of replicates, or a
            candidate has two backbones or optimisers.
    """
    check_outcomes(outcomes, level)
    runs: dict[str, list[Outcome]] = {}
    for one in outcomes:
        runs.setdefault(one.candidate, []).append(one)
    found = [_standing(those, level) for those in runs.values()]
    ranked = tuple(sorted(found, key=lambda one: -one.val_map.mean if math.isfinite(one.val_map.mean) else math.inf))
    leader = ranked[0].candidate if math.isfinite(ranked[0].val_map.mean) else None
    if leader is None:
        return Ranking(tuple(outcomes), ranked, None, (), level)
    shared = 1 - (1 - level) / max(1, len(ranked) - 1)
    differences = tuple(
        Difference(one.candidate, name, *inferred([runs[leader], runs[one.candidate]], name, shared))
        for one in ranked[1:]
        for name in SCORES
    )
    return Ranking(tuple(outcomes), ranked, leader, differences, level)


def _standing(runs: Sequence[Outcome], level: float) -> RankedCandidate:
    first = runs[0]
    return RankedCandidate(
        first.candidate,
        first.backbone,
        first.optimizer,
        tuple(one.seed for one in runs),
        mean([one.val_map for one in runs]),
        {name: mean([one.scores[name] for one in runs], inferred([runs], name, level).interval) for name in SCORES},
        float(np.mean([one.seconds for one in runs])),
        max(one.cache_seconds for one in runs),
        first.parameters,
        float(np.mean([one.ms_a_photo for one in runs])),
    )


def _verdict(found: Ranking) -> list[str]:
    """Sentences: who won, or why nobody did, and who is surely behind."""
    leader, deciding = found.leader, [one for one in found.differences if one.name == "map"]
    if leader is None:
        return ["No winner: no candidate has a validation mAP in all of its runs."]
    if not deciding:
        return [f"Nothing to compare: {leader} is the only candidate."]
    behind = [one for one in deciding if one.interval.low > 0]
    ahead = [one for one in deciding if one.interval.high < 0]
    blank = [one.candidate for one in deciding if math.isnan(one.interval.low)]
    unclear = [one for one in deciding if one.interval.low <= 0 <= one.interval.high]
    words = []
    if found.winner:
        near, *rest = sorted(behind, key=lambda one: one.value)
        words = [f"Winner: {leader}. It is best in validation mAP, and in test mAP {near.candidate} is behind"]
        words += [f"by {_gap(near)}, more than chance{_also(rest, ', and so is ', ', and so are ')}."]
    elif ahead:
        near, *rest = sorted(ahead, key=lambda one: one.value)
        words = [f"No winner: {leader} is best in validation mAP, but in test mAP {near.candidate} is ahead"]
        words += [f"by {_gap(near, -1)}, more than chance{_also(rest, ', and so is ', ', and so are ')}."]
    elif unclear:
        near, *rest = sorted(unclear, key=lambda one: one.value)
        pair = f"{leader} and {near.candidate}" if near.value >= 0 else f"{near.candidate} and {leader}"
        gap = _gap(near, 1 if near.value >= 0 else -1, " in test mAP")
        words = [f"No winner: {pair} differ by {gap}, which is within chance."]
        words += [f"Nor can {leader} be told from {_listed([one.candidate for one in rest])}."] if rest else []
    if blank:
        the = "The" if words else "No winner: the"
        words += [f"{the} test mAP of {leader} and that of {_listed(blank)} can't be compared, as it is not all known."]
    if behind and not found.winner:
        words += [f"Surely behind {leader}: {_listed([one.candidate for one in behind])}."]
    return words


def _uncounted(found: Ranking) -> list[str]:
    """A sentence where the chance of other seeds could not be counted."""
    single = [one.candidate for one in found.ranked if len(one.seeds) == 1]
    if len(single) == len(found.ranked):
        return ["With one seed a candidate, chance means other photos; what other seeds would change is not counted."]
    if not single:
        return []
    have = "has" if len(single) == 1 else "have"
    return [f"As {_listed(single)} {have} one seed, what other seeds would change there is not counted."]


def _gap(one: Difference, sign: int = 1, what: str = "") -> str:
    ends = sorted(sign * end for end in one.interval)
    return number(sign * one.value) + what + ranged(Interval(*ends))


def _also(rest: Sequence[Difference], single: str, several: str) -> str:
    names = [one.candidate for one in rest]
    return (single if len(names) == 1 else several) + _listed(names) if names else ""


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _escaped(words: str) -> str:
    """As Markdown shows it letter by letter, in one cell of a table."""
    return re.sub(r"([\\`*\[\]<>|~])", r"\\\1", " ".join(words.split()))


def _finite(data: Any) -> Any:
    """Plain data with None where a number is not finite, and for intervals that are not known."""
    if isinstance(data, Interval) and math.isnan(data.low):
        return None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    plain = data.item() if isinstance(data, np.generic) else data
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
