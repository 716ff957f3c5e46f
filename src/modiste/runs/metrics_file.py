"""metrics.json: scores of a run or blend folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modiste.errors import RunError


def read_metrics(folder: Path) -> dict[str, Any]:
    """Scores of each split that was evaluated, from `metrics.json` of a run or blend folder.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / "metrics.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise RunError.expected(f"{path} to be a JSON object", f"'{error}'", "removing it") from error
