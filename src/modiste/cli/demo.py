"""The command demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modiste.cli.options import (
    Json,
)
from modiste.cli.workflows import evaluate_split, resume_training, show_evaluation, start_training, tune_and_evaluate


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")] = Path("modiste-demo"),
    as_json: Json = False,
) -> None:
    """Draw garments, train on them, evaluate, tag and report: no data, no network, under 4 minutes.

    The pictures are drawn, not photographed; their 13 styles are as frequent, and as often together,
    as in the JD AI Fashion Challenge. Run again to go on where it stopped.
    """
    from modiste.cli.progress import console, counting
    from modiste.demo.demo import prepare, tag_some
    from modiste.evaluation.report import DRAWN

    console.print(DRAWN)
    with counting("drawing", "pictures") as progress:
        manifest = prepare(output, progress)
    folder = output / "run"
    run = resume_training(folder) if folder.exists() else start_training(folder, manifest, "demo", [])
    tune_and_evaluate(run)
    show_evaluation(run, evaluate_split(run, "test"), as_json=as_json)
    for line in tag_some(output):
        console.print(line)
