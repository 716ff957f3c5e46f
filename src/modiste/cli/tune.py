"""The command tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modiste.cli.options import CalibrationMethod, Json, Policy, Views
from modiste.cli.workflows import show_tuned


def tune(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    policy: Policy = None,
    calibration: CalibrationMethod = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Split to tune on; never the one to report scores of.")
    ] = "val",
    catalogue: Annotated[
        list[str] | None,
        typer.Option(help="Unlabelled photos of the catalogue to be tagged, at least 50; corrects for label shift."),
    ] = None,
    views: Views = None,
    as_json: Json = False,
) -> None:
    """Calibrate a run's probabilities, tune its thresholds, and estimate the scores to expect.

    Scores are cross-fitted: no photo is scored with a threshold that it helped to choose. Thresholds of labels with
    few positives are shrunk towards a common one. Writes decision.json, which evaluate and tag then apply, and
    report, scores and predictions of the photos used for tuning.

    Examples:

        modiste tune runs/coat --policy fbeta:2 --calibration auto

        modiste tune runs/coat --policy precision:0.9

        modiste tune runs/coat --calibration auto --catalogue shop/

        modiste tune runs/coat --policy fixed:0.5 --calibration none
    """
    from modiste.cli.progress import console, counting
    from modiste.evaluation.tune import tune as make
    from modiste.inputs.arguments import files
    from modiste.runs.load import open_run

    open_run(run)
    photos = files(catalogue) if catalogue else []
    with counting(f"tuning on {split}") as progress:
        tuned = make(
            run,
            policy=policy,
            calibration=calibration,
            split=split,
            views=views,
            catalogue=photos,
            progress=progress,
        )
    for note in tuned.notes:
        console.print(note)
    show_tuned(run, tuned, as_json=as_json)
