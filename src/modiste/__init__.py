"""modiste: teach a network the attributes of a clothing catalogue and tag every photo with them.

    import modiste

    prediction = modiste.load("coat.onnx").predict("street.jpg")
    print(prediction.labels, prediction.scores)

Names are imported when first used, so that `import modiste` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.ensembles import blend
    from modiste.errors import ModisteError
    from modiste.evaluation import evaluate
    from modiste.exporting import export
    from modiste.fetching import fetch
    from modiste.labels import LabelSet
    from modiste.listing import Listing
    from modiste.loading import load
    from modiste.manifest import Manifest
    from modiste.predict import Predictor
    from modiste.prediction import Prediction
    from modiste.training import resume, train
    from modiste.tuning import tune

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
    "Listing": "listing",
    "Manifest": "manifest",
    "ModisteError": "errors",
    "Prediction": "prediction",
    "Predictor": "predict",
    "Recipe": "config",
    "blend": "ensembles",
    "evaluate": "evaluation",
    "export": "exporting",
    "fetch": "fetching",
    "load": "loading",
    "resume": "training",
    "train": "training",
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'modiste' has no attribute '{name}'")
    return getattr(import_module(f"modiste.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
