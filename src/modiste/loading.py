"""From a trained model on disk to a Predictor."""

from __future__ import annotations

from pathlib import Path

from modiste.errors import RunError
from modiste.predict import Predictor, Views
from modiste.thresholds import Thresholds


def load(path: Path | str, *, views: Views | None = None, threshold: float | None = None) -> Predictor:
    """Open a run folder for tagging: `modiste.load("runs/coat").predict("street.jpg").labels`.

    Args:
        path: the folder that `modiste train -o` made.
        views: test-time augmentation; None takes the recipe's.
        threshold: one probability for all labels; None takes the run's own thresholds.

    Raises:
        RunError: there is no trained model.
    """
    folder = Path(path)
    if not folder.exists():
        raise RunError.expected(f"{folder} to be a run folder", "no such folder", "the folder that modiste train made")
    import torch  # only here: a light install can import this module

    from modiste.bundle import Run
    from modiste.model import Tagger, forward_function

    run = Run.read(folder)
    model = Tagger.from_state(run.recipe.model, run.read_weights())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    thresholds = run.thresholds if threshold is None else Thresholds.fixed(threshold, len(run.labels))
    return Predictor(
        forward_function(model), run.labels, run.recipe.image, thresholds, views or run.recipe.evaluate.views
    )
