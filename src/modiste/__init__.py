"""modiste: teach a network the attributes of a clothing catalogue and tag every photo with them.

    import modiste

    prediction = modiste.load("coat.onnx").predict("street.jpg")
    print(prediction.labels, prediction.probs)

Names are imported when first used, so that `import modiste` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.data.manifest import Manifest
    from modiste.errors import ModisteError
    from modiste.evaluation.evaluate import evaluate
    from modiste.evaluation.tune import tune
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
    "evaluate",
    "export",
    "fetch",
    "load",
    "resume",
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
    "evaluate": "evaluation.evaluate",
    "export": "exporting.export",
    "fetch": "fetching.fetch",
    "load": "runs.load",
    "resume": "training.loop",
    "train": "training.loop",
    "tune": "evaluation.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'modiste' has no attribute '{name}'")
    return getattr(import_module(f"modiste.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
