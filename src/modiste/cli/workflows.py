"""What several commands do: train with progress, then tune, score, report and show.

What needs torch is imported when a function runs, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modiste.cli.output import first_process, name_failures, print_json, shown_path
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.data.manifest import Manifest
    from modiste.evaluation.evaluate import Evaluation
    from modiste.evaluation.tune import Tuned
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run
    from modiste.training.monitor import Monitor


@dataclass(frozen=True)
class Hardware:
    """What to train on.

    Attributes:
        devices: how many processes; None takes the recipe's.
        accelerator: "auto", "cpu", "cuda" or "mps".
    """

    devices: int | None = None
    accelerator: str = "auto"


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes:
        recipe: name or file; None takes the default.
        changes: "section.key=value"; they have the last word.
        size: pixels a side of all photos; None takes the recipe's.
        epochs: of the last stage; None takes the recipe's.
    """

    recipe: str | None = None
    changes: Sequence[str] = ()
    size: int | None = None
    epochs: int | None = None

    def settings(self) -> Recipe:
        """The recipe with all changes; tells what short options set.

        Raises:
            RecipeError: there is no such recipe, or it can't be changed so.
        """
        from modiste.config import DEFAULT_RECIPE, Recipe

        recipe = Recipe.read(self.recipe or DEFAULT_RECIPE)
        for option, value, made in (
            ("--size", self.size, recipe.size_assignments),
            ("--epochs", self.epochs, recipe.epochs_assignments),
        ):
            if value is not None:
                changes = made(value)
                show_notes([f"{option} {value} sets {', '.join(changes)}."])
                recipe = recipe.replace(changes)
        return recipe.replace(self.changes)


def start_training(
    folder: Path,
    manifest: Path,
    plan: Plan = Plan(),
    *,
    hardware: Hardware = Hardware(),
    folds: int | None = None,
) -> Run | BlendRun:
    """Train a new run of a recipe with changes, or one for each of several folds, shown in the terminal.

    Args:
        folder: to make.
        manifest: of the photos.
        plan: what to train.
        hardware: devices and accelerator.
        folds: how many; None makes one run.
    """
    from modiste.data.manifest import Manifest
    from modiste.experiments.cross_validation import create_folds
    from modiste.training.loop import train
    from modiste.training.state import make_fabric

    settings = plan.settings()
    photos = Manifest.read(manifest, settings.data)
    show_summary(photos)
    fabric = make_fabric(settings, hardware.devices if folds is None else 1, hardware.accelerator)
    if folds is None:
        return train(settings, photos, folder, fabric=fabric, monitor=_monitor(folder))
    show_notes(create_folds(folder, settings, photos, folds).notes())
    return resume_training(folder, hardware)


def resume_training(folder: Path, hardware: Hardware = Hardware()) -> Run | BlendRun:
    """Resume a run, or the runs of several folds, shown in the terminal."""
    from modiste.experiments import cross_validation
    from modiste.runs.run import Run
    from modiste.training.loop import resume
    from modiste.training.state import make_fabric

    if (folder / cross_validation.FOLDS_FILE).is_file():
        return cross_validation.cross_validate(folder, accelerator=hardware.accelerator, watch=watch)
    fabric = make_fabric(Run.read(folder).recipe, hardware.devices, hardware.accelerator)
    return resume(folder, fabric=fabric, monitor=_monitor(folder))


def show_summary(photos: Manifest) -> None:
    """What a manifest was understood to be, on the first process alone."""
    from modiste.data.summary import describe

    show_notes(describe(photos))


def show_notes(notes: Iterable[str]) -> None:
    """Sentences that a person should read, on stderr, by the first process alone."""
    from modiste.cli.progress import console

    if first_process():
        for note in notes:
            console.print(note, markup=False)


def watch(title: str) -> Monitor:
    """Show the training of one of several runs in the terminal, under a title."""
    from modiste.cli.progress import TerminalMonitor, console

    console.print(title)
    return TerminalMonitor()


def tune_and_evaluate(run: Run | BlendRun) -> Evaluation:
    """Tune a trained run as its recipe says, and score it on its validation photos."""
    from modiste.cli.progress import console, counting
    from modiste.evaluation.tune import needs_tuning, tune
    from modiste.runs.run import Run

    if isinstance(run, Run) and not needs_tuning(run):
        return evaluate_split(run, "val")
    try:
        with counting("tuning on val") as progress:
            tuned = tune(run.folder, progress=progress)
    except UsageError as error:  # the training stands
        console.print(f"not tuned, so labels are chosen above 0.5: {_why_untuned(run, error)}", markup=False)
        return evaluate_split(run, "val")
    for note in tuned.notes:
        console.print(note)
    return tuned.evaluation


def _why_untuned(run: Run | BlendRun, error: UsageError) -> str:
    """Why a trained run can't be tuned, and with which options of training another one could be."""
    from modiste.data.groups import group_numbers
    from modiste.decisions.fit import too_few
    from modiste.evaluation.tune import advice_for_more
    from modiste.runs.run import Run

    manifest = run.manifest()
    part = manifest.part("val")
    lack = too_few(len(part), group_numbers(part), run.decide.folds)
    if lack is None:
        return str(error)
    advice = advice_for_more(manifest, lack, dealt=None if isinstance(run, Run) and run.data.fold is None else False)
    return f"tuning takes at least {lack.least} validation {lack.noun}, and there are {lack.there}. Try {advice}."


def evaluate_split(run: Run | BlendRun, split: str) -> Evaluation:
    """Score a model on one of its own splits, with a bar."""
    from modiste.cli.progress import counting
    from modiste.evaluation.evaluate import evaluate

    with counting(f"evaluating {split}") as progress:
        return evaluate(run.folder, split, progress=progress)


def show_evaluation(
    run: Run | BlendRun,
    evaluation: Evaluation,
    *,
    against: Sequence[tuple[str, Evaluation]] = (),
    as_json: bool,
    document: dict[str, object] | None = None,
) -> None:
    """Write the report of an evaluation, and show both; `document` takes the place of its JSON."""
    from modiste.cli.progress import console
    from modiste.cli.tables import print_scores, print_words
    from modiste.evaluation.evaluate import compared, to_document
    from modiste.evaluation.report import report_evaluation

    comparisons = [one for name, other in against for one in compared(evaluation, other, str(run.folder), name)]
    page = report_evaluation(run, evaluation)
    if as_json:
        beside = {"comparisons": comparisons} if against else {}
        print_json(document or {**to_document(evaluation), **beside})
    else:
        print_scores(evaluation)
        for comparison in comparisons:
            print_words(comparison["sentence"])
    console.print(f"report: {shown_path(page)}")
    name_failures(list(evaluation.failed.values()), len(evaluation.part) + len(evaluation.failed))


def show_tuned(folder: Path, tuned: Tuned, *, as_json: bool, **facts: object) -> None:
    """Write the report of what was tuned, and show both; `facts` stand first in its JSON."""
    from modiste.cli.tables import print_tuned
    from modiste.runs.load import open_run

    if not as_json:
        print_tuned(tuned)
    document = {**facts, **_tuned_document(tuned)}
    show_evaluation(open_run(folder), tuned.evaluation, as_json=as_json, document=document)


def _tuned_document(tuned: Tuned) -> dict[str, object]:
    """Plain data for JSON."""
    from modiste.evaluation.evaluate import to_document

    return {
        **tuned.decision.to_dict(tuned.evaluation.part.label_set),
        "notes": list(tuned.notes),
        "cross_fitted": to_document(tuned.evaluation),
        "in_sample": tuned.in_sample.to_dict(),
        "fixed_0.5": tuned.before.to_dict(),
    }


def _monitor(folder: Path) -> Monitor:
    from modiste.cli.progress import TerminalMonitor
    from modiste.training.monitor import Monitors, TensorBoard

    return Monitors([TerminalMonitor(), TensorBoard(folder / "tensorboard")])
