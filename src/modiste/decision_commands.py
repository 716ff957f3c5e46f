"""The verbs about decisions: tune, blend; each a short function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modiste.options import CalibrationMethod, Json, Policy, Views
from modiste.results import finish

if TYPE_CHECKING:
    from modiste.tuning import Tuned


def tune(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    policy: Policy = None,
    calibration: CalibrationMethod = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Photos to tune on, never those to report on.")
    ] = "val",
    catalogue: Annotated[
        list[str] | None,
        typer.Option(help="Photos to be tagged, at least 50, without labels: corrects for a label mix that differs."),
    ] = None,
    views: Views = None,
    as_json: Json = False,
) -> None:
    """Calibrate a run's probabilities and tune its thresholds, and say what to expect of them.

    Scores are cross-fitted: no photo is decided by a threshold that it helped to choose. Thresholds of labels with
    few positives are drawn towards a common one. Writes decision.json, which evaluate and tag then apply, and
    report, scores and predictions of the photos tuned on.

    Examples:

        modiste tune runs/coat --policy fbeta:2 --calibration auto

        modiste tune runs/coat --policy precision:0.9

        modiste tune runs/coat --calibration auto --catalogue shop/

        modiste tune runs/coat --policy fixed:0.5 --calibration none
    """
    from modiste.loading import open_run
    from modiste.stock import files
    from modiste.terminal import console, counting
    from modiste.tuning import tune as make

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
    _show(run, tuned, as_json=as_json)


def blend(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were trained with the same split.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Blend folder to make.")],
    policy: Policy = None,
    calibration: CalibrationMethod = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Photos to fit on.")] = "val",
    as_json: Json = False,
) -> None:
    """Make one model of several runs, then calibrate and tune it.

    The best single run, the mean of all, convex weights and a stack over all labels' scores are compared out of
    fold; the simpler one is kept unless another is better beyond noise. The blend folder holds copies of its runs;
    evaluate and tag take it like any other.

    Examples:

        modiste blend runs/a runs/b -o runs/both

        modiste evaluate runs/both
    """
    from modiste.ensembles import blend as make
    from modiste.terminal import console, counting, print_table, print_words

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
    _show(output, tuned, as_json=as_json, **facts)


def _show(folder: Path, tuned: Tuned, *, as_json: bool, **facts: object) -> None:
    """Write the report, and show what was tuned."""
    from modiste.loading import open_run
    from modiste.terminal import print_tuned

    if not as_json:
        print_tuned(tuned)
    finish(open_run(folder), tuned.evaluation, as_json=as_json, document={**facts, **_plain(tuned)})


def _plain(tuned: Tuned) -> dict[str, object]:
    """Plain data for JSON."""
    from modiste.evaluation import summary

    return {
        **tuned.decision.to_dict(tuned.evaluation.part.labels),
        "notes": list(tuned.notes),
        "cross_fitted": summary(tuned.evaluation),
        "in_sample": tuned.in_sample.to_dict(),
        "fixed_0.5": tuned.before.to_dict(),
    }
