"""Plots as PNG files: training history, precision-recall curves, average precisions, confusion matrices."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from modiste.files import replacing
from modiste.labels import LabelSet
from modiste.metrics.scores import Scores, precision_recall
from modiste.prediction import Decided

# Okabe & Ito (2008): told apart with every common colour blindness.
BLUE, ORANGE, VERMILLION, GREY = "#0072B2", "#E69F00", "#D55E00", "#767676"
DPI = 144  # sharp on dense screens at 96 CSS pixels an inch
_HEAT = "Blues"  # one hue from light to dark, reads in grey too
MOST_LABELS = 60  # in one plot; more can't be read
_LONGEST = 24  # Latin letters that a label has room for in a plot; a Chinese one takes the room of two
UNIT_TICKS = {0.0: "0", 0.5: "0.5", 1.0: "1"}  # of small plots


class ScoredPhotos(NamedTuple):
    """Decided photos with their targets (n, labels) and scores, in the order of `label_set`."""

    scores: Scores
    targets: np.ndarray
    decided: Decided
    label_set: LabelSet


class MatrixWords(NamedTuple):
    """What the columns, rows and values of a matrix are."""

    columns: str
    rows: str
    values: str


def plot_history(history: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and validation mAP over the epochs as a PNG file.

    Args:
        history: one row an epoch with keys epoch, stage, loss, val_loss, val_map; None or nan leaves a gap.
        path: where to write, atomically.
    """

    def column(key: str) -> np.ndarray:
        return np.array([math.nan if row.get(key) is None else row[key] for row in history], dtype=np.float64)

    epochs, stages = column("epoch"), [str(row.get("stage", "")) for row in history]
    starts = [i for i in range(len(stages)) if i == 0 or stages[i] != stages[i - 1]]
    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, column("loss"), "o-", color=BLUE, markersize=3, label="training")
    left.plot(epochs, column("val_loss"), "s--", color=VERMILLION, markersize=3, label="validation")
    left.legend(frameon=False)
    right.plot(epochs, column("val_map"), "s--", color=VERMILLION, markersize=3)
    for axes, what in ((left, "loss"), (right, "validation mAP")):
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        for i, stage in zip(starts, drawable([stages[i] for i in starts]), strict=True):
            axes.axvline(epochs[i] - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            axes.annotate(stage, (epochs[i], 1.02), xycoords=("data", "axes fraction"), fontsize=8, color=GREY)
    save_plot(figure, path)


def plot_curves(scored: ScoredPhotos, shown: Sequence[int], words: Sequence[str], path: Path) -> None:
    """Precision against recall of the labels at positions `shown`, one small plot each, named by `words`.

    The dashed line is the label's prevalence, the dot what the thresholds chose.
    """
    aps = [scored.scores.labels[scored.label_set.ids[k]].ap for k in shown]
    titles = [f"{words[k]}\nAP {ap:.2f}" for k, ap in zip(shown, aps, strict=True)]
    plots = small_multiples(titles, "recall", "precision")
    axes = plots.axes
    for k, (x, y) in zip(shown, plots.corners, strict=True):
        label = scored.scores.labels[scored.label_set.ids[k]]
        precision, recall = precision_recall(scored.targets[:, k], scored.decided.probs[:, k])
        share = label.positives / label.known
        plots.draw_ticks((x, y), UNIT_TICKS, UNIT_TICKS)
        axes.plot((x, x + 1), (y + share, y + share), color=ORANGE, linewidth=1, linestyle="--")
        axes.step(x + np.append(0, recall), y + np.append(precision[0], precision), color=BLUE, linewidth=1.3)
        axes.plot(x + label.recall, y + label.precision, "o", color=VERMILLION, markersize=4)
    save_plot(plots.figure, path)


class SmallPlots(NamedTuple):
    """Many small plots in one Axes, since 60 Axes take half a minute; each is a square from its corner, side 1.

    Attributes:
        figure, axes: that hold all of them.
        corners: lower left corner (x, y) of each plot.
        size: of their titles, in points.
    """

    figure: Figure
    axes: Axes
    corners: list[tuple[float, float]]
    size: float

    def draw_ticks(
        self, corner: tuple[float, float], x_ticks: Mapping[float, str], y_ticks: Mapping[float, str]
    ) -> None:
        """Ticks of the plot at a corner: places from 0 to 1, and what is written there."""
        x, y = corner
        style: dict[str, Any] = {"fontsize": 0.75 * self.size, "color": GREY}
        self.axes.vlines([x + at for at in x_ticks], y - 0.03, y, color=GREY, linewidth=0.8)
        self.axes.hlines([y + at for at in y_ticks], x - 0.03, x, color=GREY, linewidth=0.8)
        for at, written in x_ticks.items():
            self.axes.text(x + at, y - 0.05, written, ha="center", va="top", **style)
        for at, written in y_ticks.items():
            self.axes.text(x - 0.05, y + at, written, ha="right", va="center", **style)


def small_multiples(titles: Sequence[str], x_name: str, y_name: str) -> SmallPlots:
    """Empty small plots with titles and the names of their axes.

    Args:
        titles: of the plots; one that is too wide is written smaller.
        x_name, y_name: of the axes, written at the outer plots.
    """
    columns = 5 if len(titles) <= 20 else 8
    rows = -(-len(titles) // columns)
    wide, high = 1.24, 1.52  # of one plot with its margin
    across, down = (columns - 1) * wide + 1.34, (rows - 1) * high + 1.72
    figure = Figure((11, 11 * down / across))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.3, across - 0.3), ylim=(0.38 - down, 0.38))
    axes.set_axis_off()
    corners = [(place % columns * wide, -(place // columns) * high - 1) for place in range(len(titles))]
    size, room = 10.0 if columns <= 5 else 7.5, figure.bbox.width / across
    for place, (title, (x, y)) in enumerate(zip(titles, corners, strict=True)):
        axes.plot((x, x, x + 1), (y + 1, y, y), color=GREY, linewidth=0.8)
        text, fitting = axes.text(x, y + 1.04, title, fontsize=size), size
        while text.get_window_extent().width > room:  # widths don't follow sizes exactly, as letters are hinted
            fitting *= 0.95
            text.set_fontsize(fitting)
        if place % columns == 0:
            axes.text(x - 0.28, y + 0.5, y_name, fontsize=0.8 * size, color=GREY, rotation=90, ha="left", va="center")
        if place + columns >= len(titles):
            axes.text(x + 0.5, y - 0.16, x_name, fontsize=0.8 * size, color=GREY, ha="center", va="top")
    return SmallPlots(figure, axes, corners, size)


def plot_labels(scores: Scores, shown: list[int], words: list[str], path: Path) -> None:
    """Average precision of the labels at positions `shown` as bars, with the prevalence as a tick."""
    every = list(scores.labels.values())
    order = sorted(shown, key=lambda k: every[k].ap)
    figure = Figure((8, 0.9 + 0.22 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), [every[k].ap for k in order], color=BLUE, height=0.7, label="average precision")
    share = [every[k].positives / every[k].known for k in order]
    axes.plot(share, range(len(order)), "|", color=ORANGE, markersize=11, markeredgewidth=2.5, label="prevalence")
    axes.set_yticks(range(len(order)), [words[k] for k in order], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(order) - 0.4), xlabel="average precision, and prevalence")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    save_plot(figure, path)


def plot_matrix(values: np.ndarray, words: list[str], axes_words: MatrixWords, path: Path) -> None:
    """A square matrix as shades; `words` name its rows and columns."""
    size, side = len(words), min(3.5 + 0.3 * len(words), 11)
    figure = Figure((side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(values, cmap=_HEAT, vmin=0), ax=axes, label=axes_words.values, shrink=0.6)
    axes.set_xticks(range(size), words, rotation=90, fontsize=8 if size <= 30 else 6)
    axes.set_yticks(range(size), words, fontsize=8 if size <= 30 else 6)
    axes.set(xlabel=axes_words.columns, ylabel=axes_words.rows)
    if size <= 20:
        for (i, j), value in np.ndenumerate(values):
            if value:
                colour = "white" if value > 0.6 * values.max() else "black"
                text = f"{value:.0f}" if value >= 1 else f"{value:.2f}".lstrip("0")
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    save_plot(figure, path)


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})


# Fonts with Chinese, Japanese and Korean glyphs as Linux, macOS and Windows have them.
_CJK = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei")


def drawable(words: Sequence[str]) -> list[str]:
    """Words as the plots' fonts can draw them; one with a glyph that they lack becomes its number in the table.

    A long one loses its middle, since labels often begin alike.
    """
    glyphs = {glyph for font in _fonts() for glyph in get_font(findfont(FontProperties(family=font))).get_charmap()}
    short = [_shortened(word) for word in words]
    drawable = [glyphs >= set(map(ord, word)) for word in short]  # with "$" escaped, as it begins a formula
    return [short[k].replace("$", r"\$") if drawable[k] else f"no. {k + 1}" for k in range(len(words))]


def _shortened(word: str) -> str:
    widths = np.cumsum([2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in word])
    if not len(word) or widths[-1] <= _LONGEST:
        return word
    half = (_LONGEST - 1) // 2
    start, end = int((widths <= half).sum()), int((widths[-1] - widths > half).sum()) + 1
    return f"{word[:start]}…{word[end:]}"


@cache
def _fonts() -> list[str]:
    """The plots' own font, then those that are installed of `_CJK`, which draw what it lacks."""
    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _CJK if name in installed)]


rcParams["font.family"] = _fonts()
