"""The network: normalisation -> backbone -> global average pooling -> dropout -> one linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modiste.config import ModelConfig
from modiste.errors import RecipeError, WeightsError
from modiste.inference.predictor import Forward
from modiste.models.activation import Activation
from modiste.models.backbones import coarse_groups, create_backbone, published
from modiste.models.layers import LayerMeans, feature_count, has_channels_last, see, shrunk, timm_network
from modiste.prediction import NetworkOutput

Unlock = Literal["none", "all"] | int
Statistics = Literal["updated", "locked"]


class Tagger(nn.Module):
    """Photos to logits, one per label (paper, section on the model: GAP, dropout 0.5, 13 outputs).

    `activation` makes probabilities of them.

    Pixels come as they are; the backbone's own normalisation is part of the network, so that an
    exported file has it too.
    """

    mean: Tensor  # (3, 1, 1) float32, RGB in [0, 255]
    std: Tensor

    def __init__(self, config: ModelConfig, labels: int, groups: Sequence[range] = ()) -> None:
        super().__init__()
        self.activation = Activation(groups)
        backbone = create_backbone(config.backbone, config.weights)
        self.backbone = LayerMeans(backbone) if config.features == "layers" else backbone
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(feature_count(self.backbone), labels)
        nn.init.xavier_uniform_(self.head.weight)  # as Keras initialises the paper's last layer
        nn.init.zeros_(self.head.bias)
        pretrained = published(self.backbone)
        for name in ("mean", "std"):
            values = torch.tensor(pretrained[name], dtype=torch.float32) * 255  # timm's are for [0, 1]
            self.register_buffer(name, values.view(3, 1, 1))
        for parameter in self.parameters():
            if parameter.ndim == 4:  # what convolutions like best
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.unlock("all")

    @classmethod
    def from_state(cls, config: ModelConfig, state: dict[str, Tensor], groups: Sequence[range] = ()) -> Self:
        """The network that a run folder's `model.safetensors` holds; `groups` as of Activation.

        Raises:
            WeightsError: it is another network than `config` describes.
        """
        model = cls(config.model_copy(update={"weights": "none"}), len(state["head.bias"]), groups)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise WeightsError.expected(
                f"model.safetensors to fit the backbone {config.backbone} of recipe.toml",
                "other tensors",
                "the recipe.toml that it was trained with",
            ) from error
        return model

    def forward(self, photos: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 or float RGB in [0, 255] -> (n, labels) logits."""
        features = self.backbone(normalise(photos, self.mean, self.std))
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def unlock(self, what: Unlock, statistics: Statistics = "updated") -> None:
        """Choose what trains: nothing of the backbone, its last `what` coarse groups, or all of it.

        The head always trains. A batch-norm whose parameters are locked keeps its statistics too;
        `statistics="locked"` keeps those of the unlocked ones as well.

        Raises:
            RecipeError: the backbone has fewer groups than asked for.
        """
        unlocked = self.unlocked(what)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name in unlocked
        self._frozen = not unlocked
        self._locked_norms = [
            module
            for module in self.backbone.modules()
            if isinstance(module, _BatchNorm) and (statistics == "locked" or _is_locked(module, what))
        ]
        self.train(self.training)

    def unlocked(self, what: Unlock) -> set[str]:
        """Names of the backbone's parameters that train where `what` is unlocked.

        Raises:
            RecipeError: the backbone has fewer groups than asked for.
        """
        groups = coarse_groups(self.backbone)
        if isinstance(what, int) and what > len(groups):
            raise RecipeError.expected(
                f"stage.unlock to be at most the backbone's {len(groups)} groups", what, "a smaller number or 'all'"
            )
        count = what if isinstance(what, int) else {"none": 0, "all": len(groups)}[what]
        return {name for group in groups[len(groups) - count :] for name in group}

    def train(self, mode: bool = True) -> Self:
        """Switch mode; what is locked stays in eval mode."""
        super().train(mode)
        if mode and self._frozen:
            self.backbone.eval()
        for module in self._locked_norms:
            module.eval()
        return self

    _frozen = False
    _locked_norms: list[nn.Module] = []  # noqa: RUF012  replaced as a whole by unlock()


def normalise(photos: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(n, 3, size, size) uint8 or float RGB in [0, 255] -> what the backbone takes, in the dtype of `mean`."""
    return ((photos.to(mean.dtype) - mean) / std).contiguous(memory_format=torch.channels_last)


def groups_unlocked(unlock: Unlock) -> float:
    """How many of the last groups are unlocked, to compare locks by; infinite where all are."""
    return unlock if isinstance(unlock, int) else {"none": 0, "all": math.inf}[unlock]


def _is_locked(module: nn.Module, what: Unlock) -> bool:
    parameters = list(module.parameters())
    return what != "all" and not any(parameter.requires_grad for parameter in parameters)


class Network(nn.Module):
    """All outputs of a trained network, as Predictor and exported files give it."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, photos: Tensor, maps: bool = True) -> tuple[Tensor, ...]:
        """(n, size, size, 3) uint8 RGB -> probs, features and, if wanted, any maps; as in NetworkOutput."""
        model = self.model
        pixels = normalise(photos.permute(0, 3, 1, 2), model.mean, model.std)
        features, grid, earlier = see(model.backbone, pixels, model.head.weight if maps else None)
        said = model.activation(model.head(features)), features.float()
        if not maps or not isinstance(grid, Tensor) or grid.ndim != 4:  # tokens of a transformer, or of several
            return said
        # The head on each place alone. Where a backbone ends in global average pooling, and so is linear from here
        # on, that is the weights of the label times the feature map.
        network = timm_network(model.backbone)
        last = has_channels_last(network)
        places = grid if last else grid.permute(0, 2, 3, 1)
        rows, columns, depth = places.shape[1:]
        each = places.reshape(-1, 1, 1, depth) if last else places.reshape(-1, depth, 1, 1)
        said_of_each = network.forward_head(each)
        evidence = nn.functional.linear(said_of_each, model.head.weight[:, -said_of_each.shape[1] :])
        maps_of_last = evidence.reshape(-1, rows, columns, evidence.shape[1]).permute(0, 3, 1, 2)
        return *said, sum((shrunk(one, (rows, columns)) for one in earlier), maps_of_last).float()


def forward_function(model: Tagger) -> Forward:
    """The network as a Predictor takes it."""
    network = Network(model)

    def forward(photos: np.ndarray, *, maps: bool) -> NetworkOutput:
        with torch.inference_mode():
            said = network(torch.from_numpy(photos).to(model.mean.device), maps)
            probs, features, *places = (each.cpu().numpy() for each in said)
        return NetworkOutput(probs, features, places[0] if places else None)

    return forward
