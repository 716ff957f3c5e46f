"""One page for a person: which way of training is best, how sure that is, and what it costs.

`index.html` holds everything it shows and asks nothing of the network; its plots lie beside it as PNG files.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from modiste.experiments.outcomes import SCORES, number
from modiste.experiments.ranking import Ranking
from modiste.files import write_text
from modiste.pages.html import data_uri, render
from modiste.pages.plots import BLUE, DPI, GREY, ORANGE, VERMILLION, drawable, save_plot

COMPARISON_PAGE = "index.html"


def write_comparison_page(
    folder: Path,
    found: Ranking,
    *,
    title: str = "Comparison",
    facts: Mapping[str, object] | None = None,
    histories: Mapping[str, Sequence[History]] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page and its plots into `folder`, and return the page's path.

    Args:
        folder: made if missing; files of an earlier page are replaced.
        found: from `ranking.rank_candidates`.
        title: of the page.
        facts: settings that all runs share, in order: data, epochs, device...
        histories: candidate -> its runs, each as (epoch, validation mAP); None draws no curve.
        notes: sentences to put above everything else.

    Raises:
        StorageError: `folder` can't be written.
    """
    folder = Path(folder)
    names = [one.candidate for one in found.ranked]
    places = {name: place for place, name in enumerate(names, 1)}
    plot_scores(found, folder / "scores.png")
    plot_costs(found, folder / "costs.png")
    drawn = ["scores", "costs"]
    curves = {name: (histories or {}).get(name, ()) for name in names}  # in the order of the other plots' colours
    if any(curves.values()):
        plot_epochs(curves, folder / "epochs.png")
        drawn.append("epochs")
    page = render(
        "compare.html.j2",
        {"number": number},
        title=title,
        found=found,
        places=places,
        runs=sorted(found.outcomes, key=lambda one: places[one.candidate]),
        facts=facts or {},
        notes=notes,
        plots={name: _plot(folder / f"{name}.png") for name in drawn},
        scores=SCORES,
    )
    write_text(folder / COMPARISON_PAGE, page)
    return folder / COMPARISON_PAGE


def _plot(path: Path) -> tuple[str, int]:
    """A plot as a data URI, and its width on the page in CSS pixels."""
    content = path.read_bytes()
    return data_uri("png", content), Image.open(io.BytesIO(content)).width * 96 // DPI


# A colour a candidate, of Okabe & Ito (2008) without yellow, which is lost on white; then other dashes.
_COLOURS = (BLUE, VERMILLION, "#009E73", ORANGE, "#CC79A7", "#56B4E9", "#000000")


_DASHES = ("-", "--", ":", "-.")


_MARKERS = ("o", "s", "^", "D")


_SIDES = ((1, 0), (-1, 0), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8), (0, 1), (0, -1))  # of a point


_AWAY = (11, 15, 20, 26)  # from the centre of a point to that of its number, in points


History = Sequence[tuple[float, float | None]]  # of one run: epoch, validation mAP; None or nan leaves a gap


def numbered(names: Sequence[str]) -> list[str]:
    """Names with their place, as plots can draw them; a long one loses its middle, one without a font all."""
    return [one if one == f"no. {k}" else f"{k}. {one}" for k, one in enumerate(drawable(names), 1)]


def plot_scores(found: Ranking, path: Path) -> None:
    """Test mAP of each candidate, the best in validation mAP on top, and how far each is behind it, as a PNG file.

    Left: a dot a seed, above them their mean and its interval. Right: the paired difference from the first, with
    intervals that hold together, in colour where it is more than chance; missing where nothing can be compared.

    Args:
        found: from `ranking.rank_candidates`.
        path: where to write, atomically.
    """
    count = len(found.ranked)
    figure = Figure((9, 1.3 + 0.42 * count), layout="constrained")
    left, *others = figure.subplots(1, 2 if found.differences else 1, sharey=True, squeeze=False)[0]
    for row, one in enumerate(found.ranked):
        mean = one.scores["map"]
        seeds = [run.scores["map"] for run in found.outcomes if run.candidate == one.candidate]
        left.hlines(row, *mean.interval, color=BLUE, linewidth=1.6)
        left.plot(seeds, [row + 0.25] * len(seeds), "o", color=GREY, markersize=4, markerfacecolor="none")
        left.plot(mean.mean, row, "D", color=BLUE, markersize=6)
        gap = found.behind(one.candidate)
        if gap:
            colour = VERMILLION if gap.interval.low > 0 or gap.interval.high < 0 else GREY
            others[0].hlines(row, *gap.interval, color=colour, linewidth=1.6)
            others[0].plot(gap.value, row, "D", color=colour, markersize=6)
    left.set_yticks(range(count), numbered([one.candidate for one in found.ranked]), fontsize=8)
    left.set(ylim=(count - 0.4, -0.5), xlabel=f"test mAP: seeds, mean, {100 * found.level:g} % interval")
    for axes in others:
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlabel="behind the first in test mAP")
        axes.tick_params(left=False)
    for axes in (left, *others):
        axes.spines[["top", "right"]].set_visible(False)
        axes.locator_params(axis="x", nbins=6)
    save_plot(figure, path)


def plot_costs(found: Ranking, path: Path) -> None:
    """Mean test mAP with its interval against what it costs, each candidate with its number, as a PNG file.

    Left: seconds to train one run, the cache of its backbone included. Right: milliseconds to tag a photo. What is
    not known or costs nothing is left out.
    """
    figure = Figure((9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # measures the numbers
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_costs(left, found, [one.seconds + one.cache_seconds for one in found.ranked])
    _draw_costs(right, found, [one.ms_a_photo for one in found.ranked])
    left.set(xlabel="seconds to train, with the cache", ylabel=f"test mAP, {100 * found.level:g} % interval")
    right.set(xlabel="milliseconds to tag a photo")
    marks = [Line2D([], [], linestyle="", **_mark(k)) for k in range(len(found.ranked))]
    names = numbered([one.candidate for one in found.ranked])
    figure.legend(marks, names, loc="outside right upper", frameon=False, fontsize=8)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # numbers are placed in a layout that stays
    for axes in (left, right):
        number_points(axes)
    save_plot(figure, path)


def _mark(k: int) -> dict[str, Any]:
    """How the candidate at a place is drawn."""
    return {
        "color": _COLOURS[k % len(_COLOURS)],
        "marker": _MARKERS[k // len(_COLOURS) % len(_MARKERS)],
        "markersize": 6,
    }


def _draw_costs(axes: Axes, found: Ranking, costs: Sequence[float]) -> None:
    axes.set_xscale("log")
    known = []
    for k, (one, cost) in enumerate(zip(found.ranked, costs, strict=True)):
        mean = one.scores["map"]
        if math.isfinite(cost + mean.mean) and cost > 0:
            axes.vlines(cost, *mean.interval, color=_mark(k)["color"], linewidth=1.2, alpha=0.6)
            axes.plot(cost, mean.mean, label=str(k + 1), **_mark(k))
            known.append(cost)
    if known:
        room = max(1.5, (max(known) / min(known)) ** 0.1)
        axes.set_xlim(min(known) / room, max(known) * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)


def number_points(axes: Axes) -> list[Annotation]:
    """Write the label of each point of an Axes beside it, at the nearest place where it hides least.

    The layout has to be final, on a canvas that draws.
    """
    scale = axes.figure.dpi / 72  # pixels in a point
    points = [(float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0])) for line in axes.lines]
    places = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_extents(*(at - 4 * scale), *(at + 4 * scale)) for at in places]
    taken += [bars.get_window_extent().padded(scale) for bars in axes.collections]
    named = []
    for line, point, at in zip(axes.lines, points, places, strict=True):
        name = axes.annotate(
            str(line.get_label()),
            point,
            (0, 0),
            textcoords="offset points",
            fontsize=9,
            va="center",
            ha="center",
            color=line.get_color(),
        )
        half = np.array(name.get_window_extent().size) / 2
        ways = [away * np.array(side) for away in _AWAY for side in _SIDES]
        boxes = [Bbox([at + way * scale - half, at + way * scale + half]) for way in ways]
        hidden = [round(sum(_shared(box, other) for other in taken)) for box in boxes]
        best = int(np.argmin(hidden))  # the first of them is the nearest
        name.set_position(tuple(ways[best]))
        taken.append(boxes[best])
        named.append(name)
    return named


def _shared(box: Bbox, other: Bbox) -> float:
    """Pixels that lie in both."""
    both = Bbox.intersection(box, other)
    return 0.0 if both is None else float(both.width * both.height)


def plot_epochs(histories: Mapping[str, Sequence[History]], path: Path) -> None:
    """Validation mAP by epoch of each run, one colour a candidate, as a PNG file.

    Args:
        histories: candidate -> its runs. Colours go by the place in it, also of candidates without runs.
        path: where to write, atomically.
    """
    figure = Figure((9, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, (name, runs) in enumerate(zip(numbered(list(histories)), histories.values(), strict=True)):
        colour, dash = _COLOURS[k % len(_COLOURS)], _DASHES[k // len(_COLOURS) % len(_DASHES)]
        for k_run, run in enumerate(runs):
            epochs = [epoch for epoch, _ in run]
            values = [math.nan if value is None else value for _, value in run]
            label = name if k_run == 0 else None
            axes.plot(
                epochs, values, dash, color=colour, linewidth=1.2, alpha=0.8, marker="o", markersize=2.5, label=label
            )
    axes.set(xlabel="epoch", ylabel="validation mAP")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if any(histories.values()):
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    save_plot(figure, path)
