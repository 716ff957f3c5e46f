"""What commands do once a model is trained: tune and score it, write its report, show both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modiste.answers import name_failures, print_json
from modiste.errors import UsageError

if TYPE_CHECKING:  # need torch; a command that is only asked for its help does without
    from modiste.blends import BlendRun
    from modiste.bundle import Run
    from modiste.evaluation import Evaluation


def judged(run: Run | BlendRun) -> Evaluation:
    """Tune a trained run as its recipe says, and score it on its validation photos."""
    from modiste.bundle import Run
    from modiste.terminal import console, counting
    from modiste.tuning import needs_tuning, tune

    if isinstance(run, Run) and not needs_tuning(run):
        return evaluated(run, "val")
    try:
        with counting("tuning on val") as progress:
            tuned = tune(run.folder, progress=progress)
    except UsageError as error:  # the training stands
        console.print(f"not tuned, so labels are said above 0.5: {error}")
        return evaluated(run, "val")
    for note in tuned.notes:
        console.print(note)
    return tuned.evaluation


def evaluated(run: Run | BlendRun, split: str) -> Evaluation:
    """Score a model on one of its own splits, with a bar."""
    from modiste.evaluation import evaluate as measure
    from modiste.terminal import counting

    with counting(f"evaluating {split}") as progress:
        return measure(run.folder, split, progress=progress)


def finish(
    run: Run | BlendRun,
    evaluation: Evaluation,
    *,
    against: Sequence[tuple[str, Evaluation]] = (),
    as_json: bool,
    document: dict[str, object] | None = None,
) -> None:
    """Write the report of an evaluation, and show both; `document` takes the place of its JSON."""
    from modiste.evaluation import compared, summary
    from modiste.report import report_evaluation
    from modiste.terminal import console, print_scores, print_words

    comparisons = [one for name, other in against for one in compared(evaluation, other, str(run.folder), name)]
    page = report_evaluation(run, evaluation)
    if as_json:
        beside = {"comparisons": comparisons} if against else {}
        print_json(document or {**summary(evaluation), **beside})
    else:
        print_scores(evaluation)
        for comparison in comparisons:
            print_words(comparison["sentence"])
    console.print(f"report: {page}")
    name_failures(list(evaluation.failed.values()), len(evaluation.part) + len(evaluation.failed))
