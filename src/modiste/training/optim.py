"""Optimisers and learning-rate schedules, made from a stage.

Adam follows the paper's equations 4-8 in PyTorch's form: with gradient g at step t,
m = mu m + (1 - mu) g; n = nu n + (1 - nu) g^2; m' = m / (1 - mu^t); n' = n / (1 - nu^t);
theta = theta - lr m' / (sqrt(n') + epsilon), mu = 0.9, nu = 0.999, epsilon = 1e-8. Epsilon stands
outside the root and after the bias correction; inside the root, sqrt(n' + epsilon), the same 1e-8
would damp every gradient below 1e-4, so the place matters. See docs/reference/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from modiste.config import Stage

WARMUP_START = 1 / 25  # of the stage's lr, where one-cycle begins (Smith and Topin 2018; PyTorch's default)
CYCLE_END = 1 / 25 / 1e4  # of the stage's lr, where one-cycle ends (PyTorch's default)


def make_optimizer(stage: Stage, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The stage's optimiser over those of `parameters` that are unlocked.

    Weight decay spares vectors and scalars (biases, normalisation), as timm does.
    """
    unlocked = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in unlocked if p.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in unlocked if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=stage.momentum)
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.lr, betas=(0.9, 0.999))


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of the stage's `steps`; a pure function, so nothing to resume."""
    if stage.schedule == "constant":
        return stage.lr
    if stage.schedule == "cosine":
        return _cosine(stage.lr, 0.0, step / steps)
    rise = max(stage.warmup * steps - 1, 1e-9)
    if step <= rise:
        return _cosine(stage.lr * WARMUP_START, stage.lr, step / rise)
    return _cosine(stage.lr, stage.lr * CYCLE_END, (step - rise) / max(steps - 1 - rise, 1e-9))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
