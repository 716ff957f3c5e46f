"""Losses on logits; an unknown target (nan) takes no part.

The paper's equations 2-3 give binary cross-entropy of the sigmoid y of a logit x and a target t,
rewritten so that it never overflows: max(x, 0) - x * t + log(1 + exp(-|x|)). PyTorch's own
`binary_cross_entropy_with_logits` computes the same; tests compare it with these equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from modiste.config import LossConfig
from modiste.labels import LabelSet

MOST_POSITIVE_WEIGHT = 100.0  # a label with a handful of positives must not drown the others

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_loss(config: LossConfig, label_set: LabelSet, prevalence: np.ndarray) -> Loss:
    """The loss as a function of logits and targets.

    Args:
        config: which loss, weights and smoothing.
        label_set: whose exclusive groups share the smoothed probability.
        prevalence: (labels,) share of positives among the known training targets, nan if none is known.

    Returns:
        A function (logits (n, labels), targets (n, labels) float, nan = unknown) -> (sum of the losses
        of all known targets, how many are known), both scalars. The mean is left to the caller, because
        with several devices the count is that of the global batch.
    """
    smooth = torch.from_numpy(_smooth_value(label_set))
    weight = _positive_weight(prevalence) if config.positive_weight == "balanced" else None
    pointwise = _asymmetric(config) if config.name == "asymmetric" else _cross_entropy(weight)

    def loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        known = ~targets.isnan()
        soft = targets.nan_to_num().lerp(smooth.to(targets), config.label_smoothing)
        return (pointwise(logits, soft) * known).sum(), known.sum()

    return loss


def _smooth_value(label_set: LabelSet) -> np.ndarray:
    value = np.full(len(label_set), 0.5, dtype=np.float32)
    for where in label_set.exclusive.values():
        value[where] = 1 / len(where)
    return value


def _positive_weight(prevalence: np.ndarray) -> Tensor:
    share = np.nan_to_num(prevalence, nan=0.5)
    weight = (1 - share) / np.maximum(share, 1 / MOST_POSITIVE_WEIGHT / 10)
    return torch.from_numpy(np.minimum(weight, MOST_POSITIVE_WEIGHT).astype(np.float32))


def _cross_entropy(positive_weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    def pointwise(logits: Tensor, targets: Tensor) -> Tensor:
        weight = None if positive_weight is None else positive_weight.to(logits)
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")

    return pointwise


def _asymmetric(config: LossConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Ridnik et al. 2021, "Asymmetric Loss for Multi-Label Classification", eq. 5-7."""

    def pointwise(logits: Tensor, targets: Tensor) -> Tensor:
        prob = logits.sigmoid()
        shifted = (prob - config.margin).clamp(min=0)
        positive = -((1 - prob) ** config.gamma_positive) * functional.logsigmoid(logits)
        # log(1 - shifted) is log(sigmoid(-logit)) when there is no shift, which never overflows.
        log_rest = torch.log1p(-shifted) if config.margin > 0 else functional.logsigmoid(-logits)
        negative = -(shifted**config.gamma_negative) * log_rest
        return targets * positive + (1 - targets) * negative

    return pointwise
