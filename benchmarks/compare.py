"""`modiste compare` on real photos: three light backbones, two optimisers, three seeds.

    python benchmarks/compare.py FOLDER

Only MobileNetV2's ImageNet weights are at hand; the other two backbones learn from nothing on Clothing Co-Parsing
first (8 epochs at 128 px), which is far less. Then all three are compared on clothing-dataset-small at 128 px, by the
paper's two stages. Run again, it goes on where it stopped. Needs MODISTE_DATA (photos and weights).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
MODISTE = [sys.executable, "-m", "modiste"]
LEARNERS = ("mobilenetv3_small_100", "resnet10t")
KNOWN = "mobilenetv2_100"


def learn(folder: Path, backbone: str) -> None:
    """A backbone's weights after training on street photos from random ones."""
    run, weights = folder / f"ccp-{backbone}", folder / "weights" / f"{backbone}.safetensors"
    if weights.exists():
        return
    settings = ["stages.0.epochs=1", "stages.1.epochs=7", "stages.1.lr=3e-3", "image.size=128"]
    settings += [f"stages.{k}.size=128" for k in range(2)] + ["stages.0.unlock=all"]
    command = [*MODISTE, "train", str(DATA / "data/ccp/labels.csv"), "-o", str(run), "--recipe", "ccp"]
    command += ["--backbone", backbone, "--weights", "none", "--labels", labels()]
    if run.exists():
        command = [*MODISTE, "train", "--resume", str(run)]
    else:
        command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run(command, check=True)
    weights.parent.mkdir(exist_ok=True)
    state = load_file(run / "model.safetensors")
    save_file({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}, weights)


def labels() -> str:
    """Tags with at least 50 positives among the street photos."""
    header, *rows = (DATA / "data/ccp/labels.csv").read_text().splitlines()
    columns = list(zip(*(row.split(",")[2:] for row in rows), strict=True))
    return ",".join(
        name for name, column in zip(header.split(",")[2:], columns, strict=True) if column.count("1") >= 50
    )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for backbone in LEARNERS:
        learn(folder, backbone)
    shutil.copy(DATA / f"weights/{KNOWN}.safetensors", folder / "weights")
    out = folder / "clothing"
    if out.exists():
        subprocess.run([*MODISTE, "compare", "--resume", str(out)], check=True)
        return
    settings = ["image.size=128", "train.batch_size=32", "train.workers=1", "model.dropout=0.2", "evaluate.views=flip"]
    settings += [f"stages.{k}.epochs=5" for k in range(2)] + [
        "stages.0.lr=3e-3",
        "stages.1.lr=1e-3",
        "stages.1.unlock=1",
    ]
    settings += [f"stages.{k}.schedule=one-cycle" for k in range(2)] + [f"stages.{k}.size=128" for k in range(2)]
    command = [*MODISTE, "compare", str(DATA / "data/clothing/labels.csv"), "-o", str(out), "--recipe", "ccp"]
    command += ["--labels", "small_label", "--split-column", "small_split", "--image-column", "image"]
    command += ["--backbones", ",".join((KNOWN, *LEARNERS)), "--optimizers", "adam,sgd", "--seeds", "3"]
    command += ["--weights", str(folder / "weights"), "--set", "loss.name=bce", "--set", "data.stratify_columns=[]"]
    subprocess.run([*command, *(word for setting in settings for word in ("--set", setting))], check=True)


if __name__ == "__main__":
    main()
