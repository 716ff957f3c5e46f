"""Backbones and their pretrained weights: timm's, from the hub or from a local safetensors file."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from modiste.models import torchvision_compat  # noqa: F401  before timm

# isort: split
import timm
from timm.models import group_parameters

from modiste.errors import RecipeError, WeightsError
from modiste.models.layers import LayerMeans, timm_network

PAPER_BACKBONES = ("inception_resnet_v2", "inception_v4", "legacy_xception")


def create_backbone(name: str, weights: str = "none") -> nn.Module:
    """A timm network that ends in global average pooling: (n, 3, height, width) -> (n, features).

    Args:
        name: any of `timm.list_models()`.
        weights: "hub" for timm's published weights, "none" for random ones, or a safetensors file in
            timm's layout for this backbone, with or without its classifier; of a folder its `<name>.safetensors`.

    Raises:
        RecipeError: timm has no such backbone.
        WeightsError: the hub can't be reached, or the file is missing or doesn't fit.
    """
    path = check_backbone(name, weights)
    if weights == "hub":
        return _from_hub(name)
    backbone = timm.create_model(name, pretrained=False, num_classes=0, global_pool="avg")
    if path is not None:
        load_weights(backbone, path)
    return backbone


def check_backbone(name: str, weights: str) -> Path | None:
    """Refuse a backbone that can't be made, before anything else is; the file of its weights, if they are in one.

    Raises:
        RecipeError: timm has no such backbone.
        WeightsError: the file is missing.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=4) or list(PAPER_BACKBONES)
        raise RecipeError.expected("model.backbone to be a timm model", f"'{name}'", "one of " + ", ".join(close))
    if weights in {"hub", "none"}:
        return None
    path = Path(weights)
    path = path / f"{name}.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise WeightsError.expected(
            f"{path} to be a safetensors file", "'No such file'", "the model.safetensors of timm's page on the hub"
        )
    return path


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly: every tensor of the backbone, and nothing but its classifier beside.

    Raises:
        WeightsError: the file can't be read, or names or shapes differ.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError.expected(
            f"{path} to be a safetensors file", f"'{error}'", "the model.safetensors of timm's page on the hub"
        ) from error
    classifier = published(backbone)["classifier"]
    classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    state = {key: value for key, value in state.items() if not key.startswith(tuple(f"{c}." for c in classifiers))}
    wanted = backbone.state_dict()
    # Older checkpoints lack batch-norm's step counter; it has no effect on any output.
    state = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")} | state
    difference = _first_difference(wanted, state)
    if difference:
        name = published(backbone)["architecture"]
        raise WeightsError.expected(
            f"{path} to hold the weights of {name}", difference, f"timm's model.safetensors of {name}"
        )
    backbone.load_state_dict(state, strict=True)


def published(backbone: nn.Module) -> dict[str, Any]:
    """What timm publishes of a backbone: architecture, classifier's name, mean and std of the input in [0, 1]."""
    return dict(timm_network(backbone).pretrained_cfg)


def coarse_groups(backbone: nn.Module) -> list[list[str]]:
    """Names of the backbone's parameters in timm's coarse groups, from input to output; in one where timm has none."""
    if isinstance(backbone, LayerMeans):
        return [[f"network.{name}" for name in group] for group in coarse_groups(backbone.network)]
    timm_backbone: Any = backbone
    try:
        matcher = timm_backbone.group_matcher(coarse=True)
    except (AttributeError, AssertionError):  # raised by a few families that have none
        return [[name for name, _ in backbone.named_parameters()]]
    groups = group_parameters(backbone, matcher)
    return [list(groups[k]) for k in sorted(groups)]


def _from_hub(name: str) -> nn.Module:
    try:
        with _quiet_hub():
            return timm.create_model(name, pretrained=True, num_classes=0, global_pool="avg")
    except (OSError, RuntimeError, ValueError) as error:  # the hub's own errors all derive from these
        reason = f"'{type(error).__name__}: {str(error).splitlines()[0][:160]}'"
        raise WeightsError.expected(
            f"the Hugging Face hub to give the weights of {name}",
            reason,
            f"--weights FILE with model.safetensors from https://huggingface.co/timm (search for {name}) "
            "fetched on a machine with a network, or --weights none",
        ) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub client's retries off the terminal; what matters is in the error that follows."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "httpx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _first_difference(wanted: dict[str, Tensor], got: dict[str, Tensor]) -> str | None:
    missing = [key for key in wanted if key not in got]
    extra = [key for key in got if key not in wanted]
    if missing or extra:
        return f"{len(missing)} missing and {len(extra)} unknown tensors, first '{(missing + extra)[0]}'"
    for key, value in wanted.items():
        if value.shape != got[key].shape:
            return f"'{key}' of shape {list(got[key].shape)} instead of {list(value.shape)}"
    return None
