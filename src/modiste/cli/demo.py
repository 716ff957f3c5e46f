"""The command demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modiste.cli.options import (
    Json,
)
from modiste.cli.workflows import (
    Plan,
    evaluate_split,
    resume_training,
    show_evaluation,
    start_training,
    tune_and_evaluate,
)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder to write.")] = Path("modiste-demo"),
    as_json: Json = False,
) -> None:
    """Draw garments, train on them, evaluate, tag and report: no data, no network, under 4 minutes.

    The pictures are drawn, not photographed; the frequencies of their 13 styles and of their combinations are those
    of the JD AI Fashion Challenge. Run the command again to resume it.
    """
    from modiste.cli.progress import console, counting
    from modiste.demo.demo import prepare, tag_some
    from modiste.evaluation.report import DRAWN

    console.print(DRAWN)
    with counting("drawing", "pictures") as progress:
        manifest = prepare(output, progress)
    folder = output / "run"
    run = resume_training(folder) if folder.exists() else start_training(folder, manifest, Plan("demo"))
    tune_and_evaluate(run)
    show_evaluation(run, evaluate_split(run, "test"), as_json=as_json)
    for line in tag_some(output):
        console.print(line)
