"""Does a 95 % interval hold the truth 95 times in 100? Macro F2 of tuned thresholds on the challenge's real labels.

    python benchmarks/coverage.py [REPETITIONS]

Labels are the 54,908 rows of the JD challenge's training list, drawn with replacement; scores are simulated: the
logit of a positive is higher by a distance of the label's own, and a part of the noise is shared by the labels of a
photo. The distances are chosen so that the best thresholds reach the macro F2 of the published results (the paper:
0.608, the winner: 0.683), frequent labels being told better than rare ones.

Each repetition draws 5,491 photos (a tenth, as a validation part), tunes thresholds on them, and asks whether the
interval of the score that a person is shown holds what these very thresholds reach on all photos with fresh scores.
Needs MODISTE_DATA (labels).
"""

import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from modiste.config import DecideConfig
from modiste.data.manifest import Manifest
from modiste.decisions.fit import cross_fit_decision, fit_decision, make_folds
from modiste.decisions.fit_thresholds import tune_thresholds
from modiste.decisions.policies import Policy
from modiste.labels import LabelSet
from modiste.metrics.bootstrap import interval, replicate
from modiste.metrics.sweep import best_fbeta, each_label
from modiste.prediction import Decided

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
LABELS = LabelSet.read("jd2018")
PHOTOS, FRESH = 5491, 10  # photos to tune on; how often the 54,908 get fresh scores for the truth
SHARED = 0.3  # of the variance of the noise, by all labels of a photo


@cache
def targets() -> np.ndarray:
    return Manifest.read(DATA / "data/jd2018/train-k-fold.txt").targets


def distances() -> np.ndarray:
    """How far apart the logits of positives and negatives are, in standard deviations of the noise."""
    shares = targets().mean(axis=0)
    return 2.35 + 0.15 * (np.log10(shares) + 2)


def scores(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of a well calibrated network: the logits of two normal distributions."""
    apart = distances()
    noise = np.sqrt(SHARED) * rng.normal(size=(len(rows), 1)) + np.sqrt(1 - SHARED) * rng.normal(size=rows.shape)
    shares = targets().mean(axis=0)
    logits = apart * (noise + apart * (rows - 0.5)) + np.log(shares / (1 - shares))
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def f2(rows: np.ndarray, decisions: np.ndarray) -> float:
    right = ((rows == 1) & (decisions == 1)).sum(axis=0)
    return float(np.mean(5 * right / np.maximum(4 * (rows == 1).sum(axis=0) + decisions.sum(axis=0), 1)))


@cache
def fresh() -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([targets()] * FRESH)
    return rows, scores(rows, np.random.default_rng(1))


class Repetition(NamedTuple):
    """Of one way to decide: the score shown, the ends of its interval, and the truth."""

    shown: float
    low: float
    high: float
    truth: float


def repeat(seed: int) -> list[Repetition]:
    """One sample of photos, decided in three ways: tuned and cross-fitted, careless, and above a fixed threshold."""
    rng = np.random.default_rng([2, seed])
    rows = targets()[rng.integers(len(targets()), size=PHOTOS)]
    raw = scores(rows, rng)
    config = DecideConfig(policy="fbeta:2")
    folds = make_folds(rows, None, 5)
    tuned = fit_decision(config, rows, raw, folds, LABELS).decision.thresholds.values
    best = np.array(each_label(lambda one: best_fbeta(one, 2).threshold, rows, raw), np.float32)
    fixed = np.full(len(LABELS), 0.2, np.float32)
    ways = [
        (tuned, cross_fit_decision(config, rows, raw, folds, LABELS).decisions),
        (best, (raw > best).astype(np.int8)),
        (fixed, (raw > fixed).astype(np.int8)),
    ]
    all_rows, all_raw = fresh()
    found = []
    for thresholds, decisions in ways:
        draws = replicate(rows, *Decided(raw, decisions), LABELS, seed=seed)["macro.f2"]
        found.append(Repetition(f2(rows, decisions), *interval(draws), f2(all_rows, (all_raw > thresholds))))
    return found


def reached(pooling: float, photos: int) -> tuple[float, float]:
    """What thresholds reach that the common one draws by so many positives: mean of 40 samples, and spread."""
    all_rows, all_raw = fresh()
    found = []
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        rows = targets()[rng.integers(len(targets()), size=photos)]
        with mock.patch("modiste.decisions.fit_thresholds.POOLING", pooling):
            tuned = tune_thresholds(Policy("fbeta", 2), rows, scores(rows, rng), LABELS).thresholds.values
        found.append(f2(all_rows, all_raw > tuned))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def pooling_table() -> None:
    print(
        "\nHow far thresholds are drawn towards the common one: macro F2 reached on all photos, mean of 40 samples.\n"
    )
    sizes, strengths = (1000, 5491), (1e-9, 5, 10, 20, 50, 100, 1e6)
    print("| photos tuned on | " + " | ".join(f"{one:g} positives" for one in strengths) + " |")
    print("|---" * (len(strengths) + 1) + "|")
    for photos in sizes:
        print(
            f"| {photos:,} | " + " | ".join("{:.4f} ± {:.4f}".format(*reached(one, photos)) for one in strengths) + " |"
        )


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    began = time.monotonic()
    rows, raw = fresh()
    best = np.array(each_label(lambda one: best_fbeta(one, 2).threshold, rows, raw), np.float32)
    with ProcessPoolExecutor() as pool:
        every = np.array(list(pool.map(repeat, range(repetitions))))
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, {time.monotonic() - began:.0f} s\n")
    print(
        f"{repetitions} repetitions of {PHOTOS:,} photos; positives in the mean photo set, rarest four labels: ", end=""
    )
    print(", ".join(f"{count:.0f}" for count in np.sort(targets().mean(axis=0))[:4] * PHOTOS))
    print(f"Best possible macro F2 with these scores: {f2(rows, raw > best):.3f}\n")
    print("| thresholds | score shown, mean | truth, mean | shown less truth | interval's width | holds the truth |")
    print("|---|---|---|---|---|---|")
    names = ("tuned, score cross-fitted", "each label's best, score on the same photos", "0.2 for all")
    for name, one in zip(names, every.transpose(1, 0, 2), strict=True):
        shown, low, high, truth = one.T
        held = ((low <= truth) & (truth <= high)).mean()
        print(
            f"| {name} | {shown.mean():.4f} | {truth.mean():.4f} | {(shown - truth).mean():+.4f} "
            f"| {(high - low).mean():.4f} | {held:.1%} |"
        )
    pooling_table()


if __name__ == "__main__":
    main()
