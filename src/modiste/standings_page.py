"""One page for a person: which way of training is best, how sure that is, and what it costs.

`index.html` holds everything it shows and asks nothing of the network; its plots lie beside it as PNG files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from modiste.outcomes import SCORES, number
from modiste.pages import data_uri, render
from modiste.plots import DPI
from modiste.standings import Standings
from modiste.standings_plots import History, plot_costs, plot_epochs, plot_scores
from modiste.storage import write_text

PAGE = "index.html"


def write_page(
    folder: Path,
    found: Standings,
    *,
    title: str = "Comparison",
    facts: Mapping[str, object] | None = None,
    histories: Mapping[str, Sequence[History]] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page and its plots into `folder`, and return the page's path.

    Args:
        folder: made if missing; files of an earlier page are replaced.
        found: from `standings.standings`.
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
    write_text(folder / PAGE, page)
    return folder / PAGE


def _plot(path: Path) -> tuple[str, int]:
    """A plot as a data URI, and its width on the page in CSS pixels."""
    content = path.read_bytes()
    return data_uri("png", content), Image.open(io.BytesIO(content)).width * 96 // DPI
