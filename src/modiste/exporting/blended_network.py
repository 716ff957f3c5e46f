"""A blend as one network, so that one graph computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modiste.decisions.blend import Blend
from modiste.decisions.stacking import NEAREST
from modiste.models.tagger import Network


class BlendedNetwork(nn.Module):
    """Networks that see the same photos, and what a Blend makes of them."""

    weights: Tensor
    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, members: Sequence[Network], blend: Blend) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.method = blend.method
        for name in ("weights", "coefficients", "intercepts"):
            values = getattr(blend, name)
            self.register_buffer(name, None if values is None else torch.tensor(values))

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(n, size, size, 3) uint8 RGB -> probs, features of all members, and the mean of their maps."""
        outputs = [member(photos) for member in self.members]
        probs = torch.stack([each[0] for each in outputs]).double()
        if self.method == "stack":
            clipped = probs.clamp(NEAREST, 1 - NEAREST)
            logits = (clipped / (1 - clipped)).log().transpose(0, 1).flatten(1)
            blended = (logits @ self.coefficients.T + self.intercepts).sigmoid()
        else:
            blended = (probs * self.weights[:, None, None]).sum(dim=0).clamp(0, 1)
        features = torch.cat([each[1] for each in outputs], dim=1)
        maps = [each[2] for each in outputs if len(each) > 2]
        alike = len(maps) == len(outputs) and len({each.shape[1:] for each in maps}) == 1
        return blended.float(), features, *([torch.stack(maps).mean(dim=0)] if alike else [])
