"""The paper's recipe as a plain PyTorch loop with timm and torchvision: seconds an epoch of both stages, as JSON.

    .venv/bin/python benchmarks/peers/torch_recipe.py --photos LIST.csv [--network legacy_xception]

Needs nothing beyond modiste's own environment. Of modiste it uses what lets torchvision be imported there, and the
names of a network's last coarse group; nothing that makes it faster.

LIST.csv has a header, then a row a photo: path (from the list's folder, or absolute) and L columns of 0 and 1.

As a good engineer writes it: a DataLoader with two processes that stay, Pillow and transforms.v2, channels_last, locked
parameters without gradients, locked batch-norms in eval mode. Weights are random, speed doesn't depend on them. Stage 1
trains the last layer alone, Adam 1e-4; stage 2 also timm's last coarse group (of Inception-ResNet-v2 the last
Inception-ResNet-C block and the last convolution), Adam 1e-5. Each stage has `--warm` epochs, then `--epochs` timed
ones.

On standard error: what was trained. It fails where a locked value changed or an unlocked one didn't.
"""

import argparse
import csv
import json
import math
import multiprocessing
import os
import platform
import resource
import sys
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modiste.models import torchvision_compat  # noqa: F401  before timm and torchvision

# isort: split
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.utils import save_image

from modiste.models.backbones import coarse_groups

# Parameters of the last part.
NETWORKS = {"inception_resnet_v2": 5_233_376, "inception_v4": 4_553_088, "legacy_xception": 4_748_800}
SIZE, FLIP, TRANSLATE, ROTATE, DROPOUT = 299, 0.5, 0.1, 15, 0.5
BORDER = 72  # pixels that a corner moves at most, when turned by 15 degrees and shifted by a tenth of both sides
STAGES = {"stage1": (False, 1e-4), "stage2": (True, 1e-5)}  # whether the last part is unlocked; Adam's learning rate


class Photos(Dataset):
    def __init__(self, paths: list[Path], targets: Tensor, transform: Any) -> None:
        self.paths, self.targets, self.transform = paths, targets, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), self.targets[index]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="list of photos: path, then 0/1 columns.")
    parser.add_argument("--network", choices=NETWORKS, default="inception_resnet_v2")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--warm", type=int, default=1, help="epochs of each stage before the timed ones.")
    parser.add_argument("--epochs", type=int, default=1, help="timed epochs of each stage.")
    parser.add_argument("--backend", choices=["eager", "compile"], default="eager", help="compile: torch.compile.")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode and augment.")
    parser.add_argument("--grid", type=Path, help="write a PNG of sixteen augmented photos here and end.")
    return parser.parse_args()


def read_list(path: Path) -> tuple[list[Path], Tensor]:
    """Paths of the photos; targets (n, labels) float32."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    targets = torch.tensor([[float(cell) for cell in row[1:]] for row in rows])
    if not rows or not set(targets.unique().tolist()) <= {0, 1}:
        raise SystemExit(f"Expected {path} to hold a header and rows of path and 0/1, but got something else.")
    return [path.parent / row[0] for row in rows], targets


def augmentation(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """RandomAffine has no mirrored border, so photos get one before and lose it again."""
    share = TRANSLATE * SIZE / (SIZE + 2 * BORDER)
    return v2.Compose(
        [
            v2.Resize((SIZE, SIZE)),
            v2.RandomHorizontalFlip(FLIP),
            v2.Pad(BORDER, padding_mode="reflect"),
            v2.RandomAffine(ROTATE, translate=(share, share), interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(SIZE),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )


def settle(model: nn.Module, photos: Tensor) -> None:
    """Give each batch-norm the statistics of these photos, so that activations are as large as in trained networks."""
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.train()
    for norm, _ in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(photos)
    for norm, momentum in norms:
        norm.momentum = momentum


def lock(model: nn.Module, unlocked: bool) -> None:
    """Lock all but the classifier and, where `unlocked`, timm's last coarse group."""
    classifier: Any = model.get_classifier()  # type: ignore[operator]
    own = {id(parameter) for parameter in classifier.parameters()}
    head = {name for name, parameter in model.named_parameters() if id(parameter) in own}
    groups = [group for group in coarse_groups(model) if not head & set(group)]  # timm counts the classifier as one
    trained = head | set(groups[-1] if unlocked else ())
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in trained
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()


def marks(model: nn.Module) -> dict[str, int]:
    """A checksum of each tensor."""
    return {name: zlib.crc32(tensor.contiguous().numpy()) for name, tensor in model.state_dict().items()}


def check(stage: str, model: nn.Module, before: dict[str, int]) -> None:
    """End unless all that trains has changed and nothing else has; batch-norms' statistics train with their weights."""
    after, n = marks(model), {True: 0, False: 0}
    for prefix, module in model.named_modules():
        trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name in (f"{prefix}.{name}" for name, _ in own):
            n[trains] += 1
            if (before[name] != after[name]) != trains:
                state = "unlocked but stayed as it was" if trains else "locked but changed"
                raise SystemExit(f"{stage}: {name} is {state}.")
    print(f"{stage}: {n[True]} unlocked tensors changed, {n[False]} locked ones didn't", file=sys.stderr)


def check_counts(trainable: dict[str, int], want: int) -> None:
    got = trainable["stage2"] - trainable["stage1"]
    if got != want:
        raise SystemExit(f"Expected {want:,} parameters to be unlocked by stage 2, but got {got:,}.")


def cpu_seconds() -> float:
    """Of this process and of those that decode."""
    ticks = 0
    for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time
    return ticks / os.sysconf("SC_CLK_TCK")


def epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    """Mean loss."""
    total = 0.0
    for photos, targets in loader:
        optimizer.zero_grad()
        logits = model(photos.to(memory_format=torch.channels_last))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(photos)
    if not math.isfinite(total):
        raise SystemExit(f"The loss is {total}.")
    return total / len(loader.dataset)  # type: ignore[arg-type]


def main() -> None:
    given = arguments()
    torch.manual_seed(0)
    paths, targets = read_list(given.photos)
    model = timm.create_model(given.network, num_classes=targets.shape[1], drop_rate=DROPOUT)
    model = model.to(memory_format=torch.channels_last)
    mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    data = Photos(paths, targets, augmentation(mean, std))
    stay = given.workers > 0
    loader = DataLoader(data, given.batch, shuffle=True, num_workers=given.workers, persistent_workers=stay)
    if given.grid:
        photos = next(iter(loader))[0][:16]
        save_image(photos * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1), given.grid, nrow=4)
        return
    facts: dict[str, Any] = {
        "tool": "torch",
        "network": given.network,
        "backend": given.backend,
        "photos": len(paths),
        "batch": min(given.batch, len(paths)),
        "epochs": given.epochs,
        "trainable": {},
        "cpu_s": {},
        "loss": {},
    }
    settle(model, torch.stack([data[k % len(data)][0] for k in range(2)]))
    for stage, (unlocked, rate) in STAGES.items():
        lock(model, unlocked)
        before = marks(model)
        wall, cpu, losses = [time.perf_counter()], [0.0], []
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trainable, rate)
        run = torch.compile(model) if given.backend == "compile" else model
        for _ in range(given.warm + given.epochs):
            losses.append(round(epoch(run, loader, optimizer), 4))
            wall.append(time.perf_counter())
            cpu.append(cpu_seconds())
        check(stage, model, before)
        facts[f"{stage}_warmup_s"] = round(wall[given.warm] - wall[0], 2)
        facts[f"{stage}_epoch_s"] = round((wall[-1] - wall[given.warm]) / given.epochs, 3)
        facts["cpu_s"][stage] = round((cpu[-1] - cpu[given.warm]) / given.epochs, 3)
        facts["loss"][stage] = losses
        facts["trainable"][stage] = sum(parameter.numel() for parameter in trainable)
    check_counts(facts["trainable"], NETWORKS[given.network])
    facts["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    packages = ("pillow", "timm", "torch", "torchvision")
    facts["versions"] = {"python": platform.python_version()} | {name: version(name) for name in packages}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
