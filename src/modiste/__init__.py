"""modiste: teach a network the attributes of a clothing catalogue and tag every photo with them.

    import modiste

    prediction = modiste.load("coat.onnx").predict("street.jpg")
    print(prediction.labels, prediction.probs)

Names are imported when first used, so that `import modiste` is quick and needs no torch. Those of training need the
extra `train`: without it they are there, and say so when they are called.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modiste.audit.check import check
    from modiste.audit.split import split
    from modiste.config import Recipe
    from modiste.data.manifest import Manifest
    from modiste.errors import ModisteError
    from modiste.evaluation.evaluate import evaluate
    from modiste.evaluation.tune import tune
    from modiste.experiments.comparison import compare
    from modiste.experiments.ensemble import blend
    from modiste.exporting.export import export
    from modiste.fetching.fetch import fetch
    from modiste.fetching.listing import Listing
    from modiste.inference.predictor import Predictor
    from modiste.labels import LabelSet
    from modiste.prediction import Prediction
    from modiste.runs.load import load
    from modiste.training.loop import resume, train

__all__ = [
    "LabelSet",
    "Listing",
    "Manifest",
    "ModisteError",
    "Prediction",
    "Predictor",
    "Recipe",
    "blend",
    "check",
    "compare",
    "evaluate",
    "export",
    "fetch",
    "load",
    "resume",
    "split",
    "train",
    "tune",
]

_HOME = {
    "LabelSet": "labels",
    "Listing": "fetching.listing",
    "Manifest": "data.manifest",
    "ModisteError": "errors",
    "Prediction": "prediction",
    "Predictor": "inference.predictor",
    "Recipe": "config",
    "blend": "experiments.ensemble",
    "check": "audit.check",
    "compare": "experiments.comparison",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.export",
    "fetch": "fetching.fetch",
    "load": "runs.load",
    "resume": "training.loop",
    "split": "audit.split",
    "train": "training.loop",
    "tune": "evaluation.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'modiste' has no attribute '{name}'")
    try:
        return getattr(import_module(f"modiste.{_HOME[name]}"), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "modiste").partition(".")[0] == "modiste":
            raise
        return _stand_in(name, str(missing.name))


def _stand_in(name: str, package: str) -> Callable[..., Any]:
    """A function that says what it lacks, so that `help(modiste)` and tools that look at every name don't end here."""
    from modiste.errors import UsageError

    def stand_in(*_: Any, **__: Any) -> Any:
        fix = "pip install 'modiste[train]'"
        raise UsageError.expected(f"the packages that modiste.{name} needs", f"no {package}", fix)

    stand_in.__name__ = stand_in.__qualname__ = name
    stand_in.__doc__ = f"Needs {package}, of the extra `train`: pip install 'modiste[train]'."
    return stand_in


def __dir__() -> list[str]:
    return sorted(__all__)
