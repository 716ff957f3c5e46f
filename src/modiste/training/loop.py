"""Training: for each stage, for each epoch, for each global batch.

A stage is a value (`config.Stage`); the paper's two stages are two of them. Every step draws its
photos, augmentation and dropout from (seed, epoch, step), and the learning rate is a function of the
step, so a checkpoint is just weights, optimiser and position: a killed run ends with the same numbers.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from modiste.models import torchvision_compat  # noqa: F401  before lightning_fabric

# isort: split
from lightning_fabric import Fabric

from modiste.config import Recipe, Stage
from modiste.data.manifest import Manifest
from modiste.data.rare_labels import frequent_labels
from modiste.errors import PhotoError, RunError, TrainingError
from modiste.files import StrPath, remove_unfinished
from modiste.metrics.scores import mean_average_precision, mean_log_loss
from modiste.models.activation import softmax_groups
from modiste.models.tagger import Tagger
from modiste.runs.run import Run
from modiste.training.batches import BatchSource, PhotoProbs, make_source
from modiste.training.dataset import global_batches, steps_an_epoch
from modiste.training.head_stage import fit_stage
from modiste.training.monitor import EpochRow, Monitor
from modiste.training.optim import learning_rate, make_optimizer, set_learning_rate
from modiste.training.state import (
    Position,
    TrainingState,
    alone,
    check_batch,
    check_network,
    make_fabric,
    make_state,
    raise_together,
    save_checkpoint,
    trainable_parts,
)


def train(
    recipe: Recipe, manifest: Manifest, folder: StrPath, *, fabric: Fabric | None = None, monitor: Monitor | None = None
) -> Run:
    """Train a new run.

    Args:
        recipe: all settings.
        manifest: photos with targets; its splits are kept, missing ones are made.
        folder: the run folder to make.
        fabric: devices and precision; None takes what the machine has.
        monitor: called at each step and epoch; on the first process only.

    Raises:
        ManifestError: an empty split, no label with enough training photos, or photos that are missing.
        PhotoError: a photo can't be read.
        RunError: the folder exists.
        TrainingError: the loss is not finite.
        WeightsError: the pretrained weights are missing or don't fit.
    """
    folder = Path(folder)
    fabric = fabric or make_fabric(recipe)
    fabric.launch()
    check_batch(recipe, fabric)
    data = recipe.data
    if data.fold is not None:
        manifest = manifest.with_fold(data.fold)
    manifest = manifest.with_split(data.val_fraction, data.test_fraction, recipe.seed, data.stratify_columns)
    kept = frequent_labels(manifest, data.min_positives)
    manifest = kept.manifest
    parts = trainable_parts(manifest)
    if monitor is not None and fabric.is_global_zero:
        for note in kept.notes():
            monitor.note(note)
    torch.manual_seed(recipe.seed)
    model = Tagger(recipe.model, len(manifest.label_set), softmax_groups(recipe.loss, manifest.label_set))
    check_network(model, recipe)  # now, not after stage 1
    run = Run.create(folder, recipe, manifest) if fabric.is_global_zero else None
    fabric.barrier()
    run = run or Run.read(folder)
    with alone(fabric, folder):
        return _run(make_state(fabric, run, parts, model, monitor))


def resume(folder: StrPath, *, fabric: Fabric | None = None, monitor: Monitor | None = None) -> Run:
    """Resume a run that was killed; a finished run is left as it is.

    Raises:
        RunError: the folder is no run folder, or another process trains in it.
        ModisteError: as `train`.
    """
    folder = Path(folder)
    run = Run.read(folder)
    fabric = fabric or make_fabric(run.recipe)
    fabric.launch()
    check_batch(run.recipe, fabric)
    with alone(fabric, folder):
        return run if _finished(run) else _run(_continued(fabric, run, monitor))


def _finished(run: Run) -> bool:
    whole = run.epochs() >= run.recipe.epochs
    return whole and not run.unfinished() and (run.folder / "model.safetensors").is_file()


def _continued(fabric: Fabric, run: Run, monitor: Monitor | None) -> TrainingState:
    """The state of a killed run, where it stopped."""
    checkpoint = run.read_checkpoint()
    if fabric.is_global_zero:
        remove_unfinished(run.folder)
    torch.manual_seed(run.recipe.seed)
    weights = {} if checkpoint is None else {"weights": "none"}
    groups = softmax_groups(run.recipe.loss, run.label_set)
    model = Tagger(run.recipe.model.model_copy(update=weights), len(run.label_set), groups)
    state = make_state(fabric, run, trainable_parts(run.manifest()), model, monitor)
    if checkpoint is not None:
        state.at = Position(**checkpoint["position"])
        state.model.load_state_dict(checkpoint["model"])
        if state.average is not None:
            state.average.load_state_dict(checkpoint["average"])
        state.optimizer_state = checkpoint["optimizer"]
        fabric.strategy.precision.load_state_dict(checkpoint["precision"])
        most = run.recipe.epochs
        if len(state.at.history) > most:
            raise RunError.expected(f"{run.folder} to have {most} epochs at most", len(state.at.history), "a new run")
    return state


def _run(state: TrainingState) -> Run:
    steps = steps_an_epoch(len(state.parts["train"]), state.recipe.train.batch_size)
    done = len(state.at.history)
    epochs = state.recipe.epochs
    state.monitor.start(epochs, epochs * steps, done * steps + state.at.step)
    try:
        while state.at.stage < len(state.recipe.stages):
            _run_stage(state, state.recipe.stages[state.at.stage])
    finally:
        state.monitor.end()
    if state.fabric.is_global_zero:
        state.run.remove_checkpoint()
    state.fabric.barrier()
    return state.run


def _run_stage(state: TrainingState, stage: Stage) -> None:
    state.model.unlock(stage.unlock, stage.batch_statistics)
    if stage.epochs == "converged":
        _fit_stage(state, stage)
    else:
        _train_stage(state, stage)
    state.at = replace(state.at, stage=state.at.stage + 1, epoch=0)
    save_checkpoint(state, None)


def _fit_stage(state: TrainingState, stage: Stage) -> None:
    """Fit the last layer; a kill starts it anew."""
    fit = fit_stage(state, state.at.stage)
    state.at = replace(state.at, loss=fit.head.loss, known=1.0, seconds=fit.seconds)
    _validate(state, stage, fit.probs, None, fit.pictures)
    state.at = replace(state.at, loss=0.0, known=0.0, seconds=0.0)


def _train_stage(state: TrainingState, stage: Stage) -> None:
    source = make_source(state, state.at.stage)
    optimizer = make_optimizer(stage, state.model.parameters())
    network, optimizer = state.fabric.setup(source.network, optimizer)
    if state.optimizer_state is not None:  # after setup, which may change the parameters' dtype
        optimizer.load_state_dict(state.optimizer_state)
        state.optimizer_state = None
    while state.at.epoch < stage.rounds:
        lr = _run_epoch(state, stage, source, network, optimizer)
        photos = state.at.step * min(state.recipe.train.batch_size, len(state.parts["train"]))
        _validate(state, stage, source.probs, lr, photos)
        state.at = replace(state.at, epoch=state.at.epoch + 1, step=0, loss=0.0, known=0.0, seconds=0.0)
        if state.at.epoch < stage.rounds and time.monotonic() - state.saved > state.recipe.train.checkpoint_seconds / 2:
            save_checkpoint(state, optimizer)  # half the time: the end of an epoch is the best moment


def _run_epoch(
    state: TrainingState, stage: Stage, source: BatchSource, network: nn.Module, optimizer: torch.optim.Optimizer
) -> float:
    recipe, at, fabric = state.recipe, state.at, state.fabric
    epoch = len(at.history)  # of the whole run
    batches = global_batches(len(state.parts["train"]), recipe.train.batch_size, recipe.seed, epoch)
    mine = [batch[fabric.global_rank :: fabric.world_size] for batch in batches[at.step :]]
    earlier, began = at.seconds, time.monotonic()
    state.model.train()
    for batch in source.batches(epoch, mine):
        raise_together(fabric, batch if isinstance(batch, PhotoError) else None)
        assert not isinstance(batch, PhotoError)
        lr = learning_rate(stage, at.epoch * len(batches) + at.step, stage.rounds * len(batches))
        set_learning_rate(optimizer, lr)
        _seed_step(recipe.seed, epoch * len(batches) + at.step, fabric.global_rank)
        *inputs, targets = (tensor.to(fabric.device, non_blocking=True) for tensor in batch)
        loss, known = state.loss(network(*inputs), targets)
        total_loss, total = fabric.all_reduce(torch.stack([loss.detach().float(), known.float()]), reduce_op="sum")
        mean = float(total_loss / total.clamp(min=1))
        _check_loss(mean, stage, at)
        optimizer.zero_grad()
        fabric.backward(loss * fabric.world_size / total.clamp(min=1).to(loss.dtype))  # DDP takes the mean of ranks
        optimizer.step()
        _follow(state, epoch * len(batches) + at.step)
        state.in_use.touch()
        at.step += 1
        at.loss, at.known = at.loss + float(total_loss), at.known + float(total)
        at.seconds = earlier + time.monotonic() - began
        state.monitor.step(epoch * len(batches) + at.step, stage.name, mean, lr, len(batches[at.step - 1]))
        if at.step < len(batches) and time.monotonic() - state.saved > recipe.train.checkpoint_seconds:
            save_checkpoint(state, optimizer)
    return lr


def _follow(state: TrainingState, step: int) -> None:
    """Move the average towards the model: decay rises to the recipe's, as in tf.train.ExponentialMovingAverage."""
    if state.average is None:
        return
    share = 1 - min(state.recipe.train.average, (1 + step) / (10 + step))
    for kept, now in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now.to(kept.dtype), share)
        else:
            kept.copy_(now)


def _validate(state: TrainingState, stage: Stage, probs_of: PhotoProbs, lr: float | None, photos: int) -> None:
    """Add a row to the history, and keep the weights if they are the best; `photos`: that were trained on."""
    at, part = state.at, state.parts["val"]
    if state.fabric.world_size > 1:  # batch statistics are each process's own; the first one's are kept
        for buffer in state.best_model.buffers():
            torch.distributed.broadcast(buffer, 0)
    probs = _probs(state, probs_of)
    map_ = mean_average_precision(part.targets, probs, part.label_set).value
    epoch = len(at.history)
    row: EpochRow = {
        "epoch": epoch + 1,
        "stage": stage.name,
        "lr": lr,
        "loss": at.loss / max(at.known, 1.0),
        "val_loss": mean_log_loss(part.targets, probs),
        "val_map": map_,
        "photos_per_second": photos / max(at.seconds, 1e-9),
        "seconds": at.seconds,
    }
    at.history.append(row)
    if epoch == 0 or map_ > at.best:  # the first, so that there are weights even where mAP is nan
        state.best_weights = {name: tensor.detach().clone() for name, tensor in state.best_model.state_dict().items()}
    at.best = float(np.fmax(at.best, map_))
    state.monitor.epoch(row)


def _probs(state: TrainingState, probs_of: PhotoProbs) -> np.ndarray:
    """Probabilities (n, labels) of the validation photos; each process takes every world_size-th."""
    rank, world = state.fabric.global_rank, state.fabric.world_size
    part = state.parts["val"]
    state.best_model.eval()
    mine = np.full((-(-len(part) // world), len(part.label_set)), np.nan, dtype=np.float32)
    error = None
    for k, (probs, why) in enumerate(probs_of(range(rank, len(part), world))):
        mine[k] = probs
        state.in_use.touch()
        error = error or (why and PhotoError(why)) or None
    raise_together(state.fabric, error)
    gathered: Any = state.fabric.all_gather(torch.from_numpy(mine))
    everyone: np.ndarray = gathered.cpu().numpy().reshape(world, *mine.shape)
    return everyone.transpose(1, 0, 2).reshape(-1, mine.shape[1])[: len(part)]


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout of this step, different on each process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def _check_loss(loss: float, stage: Stage, at: Position) -> None:
    if not np.isfinite(loss):
        raise TrainingError.expected(
            f"the loss to be finite in stage '{stage.name}', epoch {at.epoch + 1}, step {at.step + 1}",
            loss,
            f"a lower lr than {stage.lr:g}, or precision 32-true",
        )
