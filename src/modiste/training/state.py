"""What a training needs while it runs: devices, parts, network, position; and its checkpoint."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modiste.models import torchvision_compat  # noqa: F401  before lightning_fabric

# isort: split
from lightning_fabric import Fabric

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.decisions.policies import Policy
from modiste.errors import ManifestError, ModisteError, TrainingError, UsageError
from modiste.files import only_process
from modiste.labels import UNKNOWN
from modiste.models.backbones import check_backbone
from modiste.models.layers import LayerMeans
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger, Unlock
from modiste.pages.plots import plot_history
from modiste.runs.run import Run
from modiste.storage.cache import InUse
from modiste.training.feature_cache import Boundary
from modiste.training.losses import Loss, make_loss
from modiste.training.memory import keep_freed_memory
from modiste.training.monitor import EpochRow, Monitor


@dataclass
class Position:
    """How far training has come: the next step is `step` of `epoch` of `stage`, each from 0."""

    stage: int = 0
    epoch: int = 0  # within the stage
    step: int = 0  # within the epoch
    loss: float = 0.0  # sum over the known targets of this epoch's steps so far
    known: float = 0.0  # how many those are
    seconds: float = 0.0  # spent in this epoch so far
    best: float = -1.0  # best validation mAP so far
    history: list[EpochRow] = field(default_factory=list)


@dataclass
class TrainingState:
    """Everything that one training needs while it runs."""

    fabric: Fabric
    run: Run
    parts: dict[str, Manifest]  # "train" and "val"
    model: Tagger
    average: Tagger | None
    loss: Loss
    monitor: Monitor
    at: Position
    optimizer_state: dict[str, Any] | None = None
    best_weights: dict[str, torch.Tensor] | None = None  # those of the best epoch, where not written yet
    boundaries: dict[tuple[Unlock, tuple[int, ...]], list[Boundary]] = field(default_factory=dict)  # by lock and sizes
    told: int = 0  # epochs in the history on disk
    photo_keys: dict[str, np.ndarray] = field(default_factory=dict)  # of each part, from cache.content_keys
    in_use: InUse = field(default_factory=InUse)  # what this stage reads from the cache
    saved: float = field(default_factory=time.monotonic)

    @cached_property
    def cutter(self) -> NetworkSplitter:
        """Cuts the network where its locks end."""
        return NetworkSplitter(self.model, self.recipe.image.size)

    @property
    def recipe(self) -> Recipe:
        """Settings of the run."""
        return self.run.recipe

    @property
    def best_model(self) -> Tagger:
        """The weights that are validated and kept: the moving average where the recipe has one."""
        return self.average or self.model


def make_fabric(recipe: Recipe, devices: int | None = None, accelerator: str = "auto") -> Fabric:
    """Devices, precision and processes; `torchrun` is recognised by its environment variables.

    Args:
        recipe: its `train.precision`.
        devices: processes on this machine; None takes torchrun's, else all GPUs, else one.
        accelerator: "auto", "cpu", "cuda" or "mps".

    Raises:
        UsageError: the machine has no such devices.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", devices or 0))
    everywhere = int(os.environ.get("WORLD_SIZE", here))
    strategy = "ddp" if everywhere > 1 else "auto"
    processes = here or ("auto" if torch.cuda.is_available() and accelerator != "cpu" else 1)
    nodes = everywhere // here if here else 1
    try:
        return Fabric(
            accelerator=accelerator,
            strategy=strategy,
            devices=processes,
            num_nodes=nodes,
            precision=recipe.train.precision,
        )
    except (RuntimeError, ValueError) as error:  # Fabric's errors for a device that isn't there
        raise UsageError.expected("devices that this machine has", f"'{error}'", "--accelerator auto") from error


def make_state(
    fabric: Fabric, run: Run, parts: dict[str, Manifest], model: Tagger, monitor: Monitor | None
) -> TrainingState:
    """A training at its beginning."""
    keep_freed_memory()
    model = model.to(fabric.device)
    average = copy.deepcopy(model) if run.recipe.train.average > 0 else None
    loss = make_loss(run.recipe.loss, run.label_set, parts["train"].prevalence)
    monitor = monitor if monitor is not None and fabric.is_global_zero else Monitor()
    return TrainingState(fabric, run, parts, model, average, loss, monitor, Position())


def save_checkpoint(state: TrainingState, optimizer: torch.optim.Optimizer | None) -> None:
    """Write the best weights, the history and a checkpoint of all that the next step needs.

    A kill between the files costs nothing: the checkpoint comes last, and what follows from it writes the same again.
    `optimizer` is None between stages.
    """
    state.saved = time.monotonic()
    if not state.fabric.is_global_zero:
        return
    if state.best_weights is not None:
        state.run.write_weights(state.best_weights)
        state.best_weights = None
    if len(state.at.history) > state.told:
        state.told = len(state.at.history)
        state.run.write_history(state.at.history)
        plot_history(state.at.history, state.run.folder / "curves.png")
    state.run.write_checkpoint(
        {
            "position": asdict(state.at),
            "model": state.model.state_dict(),
            "average": None if state.average is None else state.average.state_dict(),
            "precision": state.fabric.strategy.precision.state_dict(),  # the loss scale of 16-mixed
            "optimizer": None if optimizer is None else optimizer.state_dict(),
        }
    )


def check_batch(recipe: Recipe, fabric: Fabric) -> None:
    """Refuse a global batch that the devices can't share evenly.

    Raises:
        TrainingError: it leaves photos over.
    """
    if recipe.train.batch_size % fabric.world_size:
        raise TrainingError.expected(
            f"the global batch of {recipe.train.batch_size} to divide among {fabric.world_size} devices",
            f"{recipe.train.batch_size % fabric.world_size} left over",
            f"--set train.batch_size={recipe.train.batch_size // fabric.world_size * fabric.world_size}",
        )


def raise_together(fabric: Fabric, error: ModisteError | None) -> None:
    """Raise on every process what one of them met, so that none waits for the others for ever.

    Raises:
        ModisteError: some process met one; of its class.
    """
    if fabric.world_size > 1:
        met = fabric.all_reduce(torch.tensor(float(error is not None), device=fabric.device), reduce_op="sum")
        if met:
            errors: list[tuple[type[ModisteError], str] | None] = [None] * fabric.world_size
            torch.distributed.all_gather_object(errors, None if error is None else (type(error), str(error)))
            kind, sentence = next(one for one in errors if one is not None)
            error = kind(sentence)
    if error is not None:
        raise error


def everywhere(fabric: Fabric, fact: bool) -> bool:
    """Whether something holds on every process."""
    if fabric.world_size == 1:
        return fact
    return not fabric.all_reduce(torch.tensor(float(not fact), device=fabric.device), reduce_op="sum")


@contextmanager
def alone(fabric: Fabric, folder: Path) -> Iterator[None]:
    """Keep every other training out of a run folder while the block runs.

    Raises:
        RunError: another process, not of this training, trains in it.
        StorageError: the folder can't be written.
    """
    error = None
    with ExitStack() as held:
        if fabric.is_global_zero:
            try:
                held.enter_context(only_process(folder / "train.lock", f"{folder} to be trained", "waiting for it"))
            except ModisteError as met:
                error = met
        raise_together(fabric, error)
        yield


def check_recipe(recipe: Recipe) -> None:
    """Refuse what training would refuse for its recipe alone, before anything is written.

    Raises:
        RecipeError: timm has no such backbone, or it lacks what features or a stage ask for.
        UsageError: no such policy.
        WeightsError: the file of weights is missing.
    """
    check_backbone(recipe.model.backbone, recipe.model.weights)
    Policy.parse(recipe.decide.policy)
    check_network(Tagger(recipe.model.model_copy(update={"weights": "none"}), 1), recipe)


def check_network(model: Tagger, recipe: Recipe) -> None:
    """Refuse features and stages that the network of a recipe can't have.

    Raises:
        RecipeError: it gives no features of its layers, or has fewer groups than a stage unlocks.
    """
    if isinstance(model.backbone, LayerMeans):
        model.backbone.check()
    for stage in recipe.stages:
        model.unlock(stage.unlock)


def trainable_parts(manifest: Manifest) -> dict[str, Manifest]:
    """The photos of "train" and "val".

    Raises:
        ManifestError: a part is empty or without known labels, or photos are missing.
    """
    parts = {name: manifest.part(name) for name in ("train", "val")}
    for part in parts.values():
        if (part.targets == UNKNOWN).all():
            raise ManifestError.expected(f"known labels in {manifest.source}", "none", "--labels COLUMN")
        missing = [photo for photo in part.photos() if not photo.is_file()]
        if missing:
            raise ManifestError.expected(
                f"the photos of {manifest.source} to exist",
                f"{len(missing)} of {len(part)} missing, first {', '.join(map(str, missing[:3]))}",
                "--root FOLDER that the paths start from",
            )
    return parts
