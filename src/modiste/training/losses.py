"""Losses on logits; an unknown target (nan) takes no part.

The paper's equations 2-3 give binary cross-entropy of the sigmoid y of a logit x and a target t,
rewritten so that it never overflows: max(x, 0) - x * t + log(1 + exp(-|x|)). PyTorch's own
`binary_cross_entropy_with_logits` computes the same; tests compare it with these equations.
An exclusive group may be one softmax instead (`models/activation.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from modiste.config import LossConfig
from modiste.labels import LabelSet
from modiste.models.activation import softmax_groups, with_none

MOST_POSITIVE_WEIGHT = 100.0  # a label with a handful of positives must not drown the others

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_loss(config: LossConfig, label_set: LabelSet, prevalence: np.ndarray) -> Loss:
    """The loss as a function of logits and targets.

    Args:
        config: which loss, weights and smoothing.
        label_set: whose exclusive groups share the smoothed probability, and are a softmax each if asked for.
        prevalence: (labels,) share of positives among the known training targets, nan if none is known.

    Returns:
        A function (logits (n, labels), targets (n, labels) float, nan = unknown) -> (sum of the losses
        of all known targets, how many are known), both scalars; a group that is one softmax counts as one
        target. The mean is left to the caller, because with several devices the count is that of the
        global batch.
    """
    smooth = torch.from_numpy(_smooth_value(label_set))
    weight = _positive_weight(prevalence) if config.positive_weight == "balanced" else None
    pointwise = _asymmetric(config) if config.name == "asymmetric" else _cross_entropy(weight)
    groups = softmax_groups(config, label_set)
    alone = torch.ones(len(label_set), dtype=torch.bool)
    for group in groups:
        alone[group.start : group.stop] = False

    def loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        known = ~targets.isnan() & alone.to(targets.device)
        soft = targets.nan_to_num().lerp(smooth.to(targets), config.label_smoothing)
        total, count = (pointwise(logits, soft) * known).sum(), known.sum()
        for group in groups:
            part = slice(group.start, group.stop)
            each, told = _group_cross_entropy(logits[:, part], targets[:, part], soft[:, part])
            total, count = total + (each * told).sum(), count + told.sum()
        return total, count

    return loss


def _group_cross_entropy(logits: Tensor, targets: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of an exclusive group's softmax over its values and "none of these".

    Where some values are unknown, the photo has one of these or none: minus the logarithm of their probability.

    Args:
        logits: (n, values).
        targets: (n, values), 1, 0, between them where photos are mixed, or nan = unknown.
        soft: the same, smoothed; nan is 0.

    Returns:
        (n,) losses, and (n,) whether anything is known of the photo's group.
    """
    log_probs = with_none(logits).log_softmax(dim=1)
    unknown = targets.isnan()
    said = targets.nan_to_num().sum(dim=1)
    none = (1 - soft.sum(dim=1, keepdim=True)).clamp(min=0)
    whole = -(torch.cat([soft, none], dim=1) * log_probs).sum(dim=1)
    possible = torch.cat([unknown, torch.ones_like(unknown[:, :1])], dim=1)
    partly = -log_probs.masked_fill(~possible, -torch.inf).logsumexp(dim=1)
    # A value that the photo has settles the others; a share of one, of mixed photos, settles nothing.
    settled = ~unknown.any(dim=1) | (said == 1)
    told = settled | (~unknown.all(dim=1) & (said == 0))
    return torch.where(settled, whole, partly), told


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
