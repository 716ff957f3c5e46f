import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real photos, lists and weights (environment variable MODISTE_DATA), or skip."""
    root = Path(__file__).parents[1]
    folder = (root / os.environ.get("MODISTE_DATA", "../shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}; set MODISTE_DATA to run this test")
    return folder
