"""A run folder: what training leaves and what evaluation, tagging and export start from. No pickle.

recipe.toml         every setting, defaults written out
labels.json         the label set, in the order of the network's outputs
manifest.parquet    photos, targets and split that this run was made of
thresholds.json     probability above which each label is chosen
model.safetensors   weights of the epoch with the best validation mAP
history.csv         a row an epoch
environment.json    versions, machine, command
checkpoint.pt       only while training is unfinished: where to go on
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from modiste.config import DataConfig, Recipe
from modiste.errors import RunError, StorageError
from modiste.labels import LabelSet
from modiste.manifest import Manifest
from modiste.storage import replacing, write_text
from modiste.thresholds import Thresholds

_PACKAGES = ("modiste", "torch", "timm", "lightning-fabric", "numpy", "pillow", "polars")


@dataclass(frozen=True)
class Run:
    """A run folder that exists.

    Raises:
        RunError: from `read`, where the folder is missing or is no run folder.
    """

    folder: Path
    recipe: Recipe
    labels: LabelSet
    thresholds: Thresholds

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, manifest: Manifest) -> Self:
        """Make a new run folder, whole or not at all.

        Raises:
            RunError: the folder exists and isn't empty.
            StorageError: it can't be written.
        """
        folder = folder.absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError.expected(
                f"{folder} to be a new folder", "one that exists", f"--resume {folder}, or another -o"
            )
        temporary = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)  # a killed attempt's
        thresholds = Thresholds.fixed(recipe.evaluate.threshold, len(manifest.labels))
        try:
            write_text(temporary / "recipe.toml", recipe.to_toml())
            manifest.labels.write(temporary / "labels.json")
            manifest.absolute().write(temporary / "manifest.parquet")
            thresholds.write(temporary / "thresholds.json", manifest.labels)
            write_text(temporary / "environment.json", json.dumps(environment(), indent=1) + "\n")
            if folder.is_dir():
                folder.rmdir()
            temporary.rename(folder)
        except OSError as error:
            raise StorageError.expected(f"{folder} to be made", f"'{error.strerror}'", "another -o") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder, recipe, manifest.labels, thresholds)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a run folder."""
        if not (folder / "recipe.toml").is_file():
            got = "a folder without recipe.toml" if folder.is_dir() else "no such folder"
            raise RunError.expected(f"{folder} to be a run folder", got, "the folder that modiste train -o made")
        labels = LabelSet.read(folder / "labels.json")
        thresholds = Thresholds.read(folder / "thresholds.json", labels)
        return cls(folder, Recipe.read(folder / "recipe.toml"), labels, thresholds)

    def manifest(self) -> Manifest:
        """The photos, targets and split of this run."""
        return Manifest.read(self.folder / "manifest.parquet", DataConfig(), self.labels)

    def write_weights(self, state: dict[str, Tensor]) -> None:
        """Write `model.safetensors`, atomically."""
        with replacing(self.folder / "model.safetensors", SafetensorError) as temporary:
            tensors = {key: value.contiguous() for key, value in state.items()}
            save_file(tensors, temporary, {"labels": json.dumps(self.labels.ids, ensure_ascii=False)})

    def read_weights(self) -> dict[str, Tensor]:
        """Read `model.safetensors`.

        Raises:
            RunError: it is missing or broken, or holds the outputs of another label set.
        """
        path = self.folder / "model.safetensors"
        try:
            state = load_file(path)
            with safe_open(path, "pt") as file:
                outputs = json.loads(file.metadata()["labels"])
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            removing = "removing it and then " if path.is_file() else ""
            raise RunError.expected(
                f"{path} to hold the best weights", f"'{error}'", f"{removing}modiste train --resume {self.folder}"
            ) from error
        if tuple(outputs) != self.labels.ids:
            raise RunError.expected(
                f"{path} to be about the labels of labels.json, in their order",
                f"{len(outputs)} labels, {', '.join(outputs[:3])}...",
                "the labels.json that this model was trained with",
            )
        return state

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """Write `history.csv`, a row an epoch, atomically."""
        with replacing(self.folder / "history.csv") as temporary:
            pl.DataFrame(list(history)).write_csv(temporary)

    def epochs(self) -> int:
        """How many epochs `history.csv` tells of."""
        path = self.folder / "history.csv"
        return len(path.read_bytes().splitlines()) - 1 if path.is_file() else 0

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        """Write `checkpoint.pt`, atomically: tensors and plain values only."""
        with replacing(self.folder / "checkpoint.pt", RuntimeError) as temporary:
            torch.save(state, temporary)

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Read `checkpoint.pt`, or None where there is none.

        Raises:
            RunError: it is broken.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            raise RunError.expected(
                f"{path} to be a whole checkpoint", "a broken file", "removing it: --resume then starts over"
            ) from error
        return checkpoint

    def remove_checkpoint(self) -> None:
        """Remove `checkpoint.pt`: the run is finished."""
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, command."""
    cuda = torch.cuda.is_available()
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "devices": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if cuda else ["cpu"],
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
