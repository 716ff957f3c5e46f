"""PNG plots of decisions: reliability, threshold curves, what a precision costs in reviews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from modiste.metrics.bootstrap import Interval
from modiste.metrics.calibration_error import CalibrationError, calibration_error
from modiste.metrics.operating_points import OperatingPoint
from modiste.metrics.sweep import Sweep
from modiste.pages.plots import BLUE, GREY, ORANGE, UNIT_TICKS, VERMILLION, SmallPlots, save_plot, small_multiples

_LOGITS = 5.0  # the axis of thresholds runs from the probability 0.007 to 0.993
_TICKS = (0.01, 0.1, 0.5, 0.9, 0.99)


class ThresholdCurve(NamedTuple):
    """One label: what it is called, its counts, the threshold that was chosen, the 95 % interval of its score."""

    name: str
    counts: Sweep
    threshold: float
    interval: Interval


def plot_reliability(targets: np.ndarray, raw: np.ndarray, probs: np.ndarray, names: Sequence[str], path: Path) -> None:
    """How often each label holds where it is predicted with a probability of p, one small plot a label.

    Each plot has its own scale. Orange: the network's own probabilities; blue, with 95 %
    intervals: those that are decided on.

    Args:
        targets, raw, probs: (n, labels), `raw` before and `probs` after calibration.
        names: what each label is called.
        path: where to write, atomically.
    """
    plots = small_multiples(names, "predicted probability", "share that has it")
    for k, corner in enumerate(plots.corners):
        before, after = (calibration_error(targets[:, k], part[:, k], bins=10) for part in (raw, probs))
        _reliability(plots, corner, before, after)
    save_plot(plots.figure, path)


def _reliability(
    plots: SmallPlots, corner: tuple[float, float], before: CalibrationError, after: CalibrationError
) -> None:
    axes, (x, y) = plots.axes, corner
    most = max([0.02, *before.prob, *before.share, *after.prob, *after.high])
    side = min(1.0, most)
    ticks = {0.0: "0", 0.5: f"{side / 2:.2g}", 1.0: f"{side:.2g}"}
    plots.draw_ticks(corner, ticks, ticks)
    axes.plot((x, x + 1), (y, y + 1), color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(x + before.prob / side, y + before.share / side, "o-", color=ORANGE, linewidth=1, markersize=2.5)
    axes.vlines(x + after.prob / side, y + after.low / side, y + after.high / side, color=BLUE, linewidth=0.8)
    axes.plot(x + after.prob / side, y + after.share / side, "s-", color=BLUE, linewidth=1.2, markersize=2.5)


def plot_thresholds(curves: Sequence[ThresholdCurve], beta: float, path: Path) -> None:
    """F-beta of each label at every threshold, one small plot a label, with the threshold that was chosen.

    From left to right thresholds from 0.007 to 0.993 as logits, ticks at 0.01, 0.1, 0.5, 0.9 and 0.99. The bar
    at the threshold is the 95 % interval of the score.
    """
    plots = small_multiples([curve.name for curve in curves], "threshold", f"F{beta:g}")
    ticks = dict(zip(_place(np.array(_TICKS)).tolist(), map(str, _TICKS), strict=True))
    axes = plots.axes
    for curve, (x, y) in zip(curves, plots.corners, strict=True):
        counts = curve.counts
        axes.step(x + _place(counts.probs), y + counts.fbeta(beta), color=BLUE, linewidth=1.2, where="post")
        plots.draw_ticks((x, y), ticks, UNIT_TICKS)
        at = x + float(_place(np.array([curve.threshold]))[0])
        axes.vlines(at, y, y + 1, color=VERMILLION, linewidth=0.8, linestyle="--")
        axes.vlines(at, y + curve.interval.low, y + curve.interval.high, color=VERMILLION, linewidth=2.5)
        predicted = int((counts.probs > curve.threshold).sum())
        reached = float(counts.fbeta(beta)[predicted - 1]) if predicted else 0.0
        axes.plot(at, y + reached, "o", color=VERMILLION, markersize=4)
    save_plot(plots.figure, path)


def _place(probs: np.ndarray) -> np.ndarray:
    """Where probabilities lie on an axis of logits from 0 to 1."""
    clipped = np.clip(probs.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.clip(np.log(clipped / (1 - clipped)) / (2 * _LOGITS) + 0.5, 0, 1)


def plot_operating(points: Sequence[OperatingPoint], path: Path) -> None:
    """What is auto-approved at each precision, and what needs review.

    Args:
        points: of rising precision.
        path: where to write, atomically.
    """
    wanted = [point.wanted for point in points]
    figure = Figure((9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(wanted, [point.auto_approved for point in points], "o-", color=BLUE, label="labels auto-approved")
    left.plot(wanted, [point.photos for point in points], "s--", color=ORANGE, label="photos without review")
    left.plot(wanted, [point.precision for point in points], "^:", color=VERMILLION, label="precision reached")
    left.plot(wanted, wanted, color=GREY, linewidth=0.8, linestyle=":")
    left.set(ylim=(0, 1.02), ylabel="share")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.plot(wanted, [point.labels_to_review for point in points], "o-", color=BLUE, label="labels")
    right.plot(wanted, [point.photos_to_review for point in points], "s--", color=ORANGE, label="photos")
    right.set(ylabel="need review, per 1,000 photos")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set(xlabel="precision wanted of auto-approved labels")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    save_plot(figure, path)
