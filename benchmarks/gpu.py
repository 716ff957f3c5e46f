"""The paper's whole table on a GPU: photos a second in both precisions, and 3 networks x 2 optimisers x 3 seeds.

    python benchmarks/gpu.py FOLDER [--photos 54908] [--workers 14] [--table]

Makes as many photos as the challenge has by cropping and mirroring real ones, then measures for Inception-ResNet-v2 at
299 px what the locked part, and training from pixels, do a second with fp32 and with bf16; how many squares worker
processes decode and augment a second, which says how long the GPU waits; and peak memory. `--table` then runs the
whole comparison, 20 epochs each. Needs a GPU and MODISTE_DATA (photos); weights are random: speed doesn't depend on
them.
"""

import argparse
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from recipe import make_weights

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.models.tagger import Tagger
from modiste.training.dataset import TrainingPhotos, make_loader

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
BATCH, STEPS = 96, 30


def make_photos(folder: Path, count: int) -> Path:
    """photos.csv of `count` photos: the real ones, cropped and mirrored at random."""
    table = folder / "photos.csv"
    if table.exists():
        return table
    whole = Manifest.read(DATA / "data/clothing/labels.csv", Recipe.read("clothing").data)
    known = np.flatnonzero((whole.targets == 1).any(axis=1))
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    lines = ["image,small_label"]
    for k in range(count):
        row = int(known[k % len(known)])
        photo = Image.open(whole.photo(row)).convert("RGB")
        left, top, right, bottom = rng.uniform(0, 0.1, 4) * np.array([*photo.size, *photo.size])
        photo = photo.crop((int(left), int(top), photo.width - int(right), photo.height - int(bottom)))
        if rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        photo.save(folder / f"photos/{k:06}.jpg", quality=90)
        lines.append(f"photos/{k:06}.jpg,{whole.label_set.ids[int(whole.targets[row].argmax())]}")
    table.write_text("\n".join(lines) + "\n")
    return table


def steps_a_second(model: Tagger, precision: torch.dtype | None, unlock: object) -> tuple[float, float]:
    """Photos a second of training steps (unlock None: of the locked part alone), and peak GB."""
    photos = torch.randint(0, 256, (BATCH, 3, 299, 299), dtype=torch.uint8, device="cuda")
    targets = torch.rand(BATCH, 10, device="cuda").round()
    model.unlock("none" if unlock is None else unlock)
    model.train(unlock is not None)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    torch.cuda.reset_peak_memory_stats()
    for step in range(STEPS + 10):
        if step == 10:
            torch.cuda.synchronize()
            began = time.monotonic()
        with (
            torch.set_grad_enabled(unlock is not None),
            torch.autocast("cuda", precision, enabled=precision is not None),
        ):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(photos), targets)
        if unlock is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.cuda.synchronize()
    return BATCH * STEPS / (time.monotonic() - began), torch.cuda.max_memory_allocated() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=54_908)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("Expected a GPU, but got none. Try benchmarks/growth.py, which reckons its time on paper.")
    table = make_photos(given.folder, given.photos)
    recipe = Recipe.read("jd2018").model_dump(exclude_none=True)
    recipe["data"] = {"label_columns": ["small_label"], "image_column": "image"}
    recipe["train"] = {"batch_size": BATCH, "workers": given.workers, "precision": "bf16-mixed"}
    recipe["evaluate"] = {"views": "one"}
    settings = Recipe.from_dict(recipe)
    (given.folder / "paper.toml").write_text(settings.to_toml())
    manifest = Manifest.read(table, settings.data)
    print(f"{date.today()}, {torch.cuda.get_device_name()}, {os.cpu_count()} cores, {len(manifest):,} photos\n")
    photos = TrainingPhotos(manifest, settings, 299)
    batches = [np.arange(k * BATCH, (k + 1) * BATCH) % len(photos) for k in range(max(60, given.workers * 4))]
    began = time.monotonic()
    done = sum(1 for _ in make_loader(photos, 0, batches, given.workers))
    fed = done * BATCH / (time.monotonic() - began)
    print(f"decoded and augmented by {given.workers} processes: {fed:,.0f} photos/s\n")
    model = Tagger(settings.model.model_copy(update={"weights": "none"}), 10).cuda()
    print(
        "| Inception-ResNet-v2, 299 px | precision | photos/s | peak GB | the GPU waits, of its time |\n"
        "|---|---|---|---|---|"
    )
    for name, unlock in (("locked part", None), ("training, all unlocked", "all"), ("training, last group", 1)):
        for words, precision in (("fp32", None), ("bf16", torch.bfloat16)):
            rate, peak = steps_a_second(model, precision, unlock)
            print(f"| {name} | {words} | {rate:,.0f} | {peak:.1f} | {max(0.0, 1 - fed / rate):.0%} |", flush=True)
    if given.table:
        del model
        make_weights(given.folder)
        began = time.monotonic()
        command = ["compare", str(table), "-o", str(given.folder / "table"), "--optimizers", "adam,sgd", "--seeds", "3"]
        command += ["--backbones", "inception_resnet_v2,inception_v4,legacy_xception"]
        command += ["--recipe", str(given.folder / "paper.toml"), "--weights", str(given.folder / "weights")]
        subprocess.run([sys.executable, "-m", "modiste", *command], check=True)
        print(f"\n3 networks x 2 optimisers x 3 seeds, everything: {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
