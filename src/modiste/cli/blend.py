"""The command blend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from modiste.cli.options import CalibrationMethod, Json, Policy
from modiste.cli.workflows import show_tuned


def blend(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were trained with the same split.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Blend folder to write.")],
    policy: Policy = None,
    calibration: CalibrationMethod = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split to fit the blend on.")] = "val",
    as_json: Json = False,
) -> None:
    """Make one model of several runs, then calibrate and tune it.

    The best single run, the mean, a weighted mean and a stack (logistic regression on all labels' logits) are
    compared out of fold; a more complex one is kept only if it is better beyond chance. The blend folder holds
    copies of its runs; evaluate, tag and export take it like a run folder.

    Examples:

        modiste blend runs/a runs/b -o runs/both

        modiste evaluate runs/both
    """
    from modiste.cli.progress import console, counting
    from modiste.cli.tables import print_table, print_words
    from modiste.experiments.ensemble import blend as make

    with counting("asking the runs") as progress:
        _, choice, tuned = make(runs, output, split=split, policy=policy, calibration=calibration, progress=progress)
    for note in tuned.notes:
        console.print(note)
    facts = {"blend": {"kept": choice.reason, "map": {one.name: one.map for one in choice.candidates}}}
    if not as_json:
        beaten = [one.comparison.sentence(one.against, one.name) if one.comparison else "" for one in choice.candidates]
        rows = [(one.name, f"{one.map:.4f}", words) for one, words in zip(choice.candidates, beaten, strict=True)]
        print_words("members: " + ", ".join(f"{k} is {folder}" for k, folder in enumerate(runs, 1)))
        print_table("out of fold", ["blend", "mAP", "against what was kept before"], rows)
        print_words(choice.reason)
    show_tuned(output, tuned, as_json=as_json, **facts)
