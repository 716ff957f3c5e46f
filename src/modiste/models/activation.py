"""From logits to probabilities: a sigmoid a label, or a softmax over the values of an exclusive group.

Beside its values such a softmax has "none of these", whose logit is always 0, so that probabilities of a group sum to
less than 1 and a photo may have none of its values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modiste.config import LossConfig
from modiste.labels import LabelSet


def softmax_groups(config: LossConfig, label_set: LabelSet) -> tuple[range, ...]:
    """Positions of the labels of each group that is one softmax; none where all labels are sigmoids."""
    if config.groups == "sigmoid":
        return ()
    return tuple(range(int(where[0]), int(where[-1]) + 1) for where in label_set.exclusive.values())


def with_none(logits: Tensor) -> Tensor:
    """Logits (n, values) of a group, with the 0 of "none of these" behind them: (n, values + 1)."""
    return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)


class Activation(nn.Module):
    """(n, labels) logits -> (n, labels) float32 probabilities.

    Args:
        groups: positions of the labels of each softmax, in their order; other labels are sigmoids.
    """

    def __init__(self, groups: Sequence[range] = ()) -> None:
        super().__init__()
        self.groups = tuple(groups)

    def forward(self, logits: Tensor) -> Tensor:
        """In float32, whatever the precision of the logits."""
        logits = logits.float()
        parts, at = [], 0
        for group in self.groups:
            parts.append(logits[:, at : group.start].sigmoid())
            parts.append(with_none(logits[:, group.start : group.stop]).softmax(dim=1)[:, :-1])
            at = group.stop
        if not parts:
            return logits.sigmoid()
        return torch.cat([*parts, logits[:, at:].sigmoid()], dim=1)
