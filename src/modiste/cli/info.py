"""The command info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modiste.cli.options import Json
from modiste.cli.output import print_json


def info(
    model: Annotated[
        Path | None, typer.Argument(help="Run or blend folder, or exported file. Default: the bundled model, garments.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a model: labels, thresholds, scores, size, speed on this machine, and model card.

    Examples:

        modiste info

        modiste info coat.onnx

        modiste info runs/coat --json
    """
    from modiste.cli.tables import print_model
    from modiste.exporting.info import model_info
    from modiste.runs.load import BUNDLED, bundled_model

    name = str(model or BUNDLED)
    facts = model_info(model or bundled_model())
    if as_json:
        print_json({"model": name, **facts})
    else:
        print_model(name, facts)
