"""What all tests share: drawn photos, one small trained run, and the command line in this process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: tests run side by side, and start others

import copy
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from filelock import FileLock
from hypothesis import settings

from modiste.cli import app
from modiste.demo.drawing import draw_dataset

TINY = """
name = "tiny"
seed = 3
[data]
min_positives = 1
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the packages of training, tests that want a trained run are left out."""
    if find_spec("torch") is None:
        wanting = [item for item in items if "trained" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=wanting)
        items[:] = [item for item in items if item not in wanting]


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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make something once for all processes of pytest-xdist -> its folder, which nobody may change."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = root / f"once-{name}", root / f"once-{name}.whole"
        with FileLock(root / f"once-{name}.lock"):
            if not whole.exists():
                make(folder)
                whole.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def drawn(made_once: Callable[..., Path]) -> Path:
    """labels.csv of 240 drawn garments, 48 px."""
    return made_once("drawn", lambda folder: draw_dataset(folder, 240, 48, 0)) / "labels.csv"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in seconds: two stages, 32 px, the smallest backbone."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def train_once(
    made_once: Callable[..., Path], drawn: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Train the tiny recipe with changes on the drawn garments, once for all processes -> a copy of one's own."""

    def trained(name: str, *changes: str) -> Path:
        from modiste.config import Recipe
        from modiste.data.manifest import Manifest
        from modiste.training.loop import train

        recipe = Recipe.read(tiny).replace(list(changes))
        folder = made_once(name, lambda folder: train(recipe, Manifest.read(drawn), folder))
        return shutil.copytree(folder, tmp_path_factory.mktemp("runs") / name)

    return trained


@pytest.fixture(scope="session")
def trained(train_once: Callable[..., Path]) -> Path:
    """A finished run on the drawn garments."""
    return train_once("tiny")


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Tracing takes longer than all else of an export: the same network with the same weights is traced once."""
    from modiste.exporting import export

    graphs: dict[object, Any] = {}
    trace = export.to_onnx

    def traced(network: Any, photos: Any, outputs: list[str]) -> Any:
        weights = sha256(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values()))
        key = (repr(network), weights.digest(), photos.shape, *outputs)
        if key not in graphs:
            graphs[key] = trace(network, photos, outputs)
        return copy.deepcopy(graphs[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "to_onnx", traced)
        yield


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
