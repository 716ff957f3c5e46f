import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from modiste.cli import app
from modiste.demo.drawing import draw_dataset

TINY = """
name = "tiny"
seed = 3
[image]
size = 32
[model]
backbone = "test_byobnet"
weights = "none"
[[stages]]
name = "locked"
epochs = 2
lr = 1e-2
unlock = "none"
[[stages]]
name = "unlocked"
epochs = 2
lr = 1e-2
unlock = 2
optimizer = "adamw"
schedule = "one-cycle"
[train]
batch_size = 24
workers = 0
"""

SEED = int(os.environ.get("MODISTE_TEST_SEED", "0"))  # of everything that tests draw

settings.register_profile("modiste", derandomize="MODISTE_TEST_SEED" not in os.environ, print_blob=True, deadline=None)
settings.load_profile("modiste")


def pytest_report_header() -> str:
    """Name the seed, so that a failure can be repeated."""
    return f"seed: MODISTE_TEST_SEED={SEED}; hypothesis: {'random' if 'MODISTE_TEST_SEED' in os.environ else 'fixed'}"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test begins with the same random numbers, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture
def rng() -> np.random.Generator:
    """For what a test draws, such as when it kills."""
    return np.random.default_rng(SEED)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real photos, lists and weights (environment variable MODISTE_DATA), or skip."""
    root = Path(__file__).parents[1]
    folder = (root / os.environ.get("MODISTE_DATA", "../shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}; set MODISTE_DATA to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests, and the commands that they start, keep nothing in the user's cache."""
    os.environ["MODISTE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 240 drawn garments, 48 px."""
    return draw_dataset(tmp_path_factory.mktemp("drawn") / "data", 240, 48, 0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in seconds: two stages, 32 px, the smallest backbone."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny: Path) -> Path:
    """A finished run on the drawn garments."""
    from modiste.config import Recipe
    from modiste.data.manifest import Manifest
    from modiste.training.loop import train

    return train(Recipe.read(tiny), Manifest.read(drawn), tmp_path_factory.mktemp("runs") / "tiny").folder


@pytest.fixture
def photos(drawn: Path) -> list[Path]:
    """Ten drawn photos."""
    return [drawn.parent / name for name in pl.read_csv(drawn)["image"].head(10)]


@pytest.fixture
def modiste(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run one command in this process -> exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modiste", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run
