"""Tag a folder of photos the usual way: PyTorch's DataLoader, the eager network, a CSV."""

import csv
import sys
from pathlib import Path

import torch
from PIL import Image

from modiste.models import torchvision_compat  # noqa: F401  before timm

# isort: split
import timm
from torchvision.transforms import v2

name, size, folder, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
prepare = v2.Compose([v2.PILToTensor(), v2.Resize((size, size)), v2.ToDtype(torch.float32, scale=True)])


class Photos(torch.utils.data.Dataset):
    paths = sorted(folder.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> torch.Tensor:
        return prepare(Image.open(self.paths[k]).convert("RGB"))


model = timm.create_model(name, pretrained=False, num_classes=13).eval()
with out.open("w", newline="") as file, torch.inference_mode():
    rows = csv.writer(file)
    for batch in torch.utils.data.DataLoader(Photos(), batch_size=32, num_workers=2):
        rows.writerows(model(batch).sigmoid().tolist())
