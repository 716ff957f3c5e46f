"""Converged heads on frozen features: softmax groups against sigmoids, one layer against several, and scikit-learn.

    python benchmarks/heads.py runs

fits the last layer of a frozen MobileNetV2 on clothing photos: the published split of ten types, and all garment types,
alone and with "kids", on three splits each by contributor. Each run is tuned for a precision of 0.9 on validation
photos and scored on test photos: mAP, accuracy of the group, and how much is said of it how rightly. Then the same
features and targets go to scikit-learn's LogisticRegression, label by label. Needs MODISTE_DATA (photos and weights).
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from modiste.cli.progress import TerminalMonitor
from modiste.config import LossConfig, Recipe
from modiste.data.manifest import Manifest
from modiste.evaluation.evaluate import evaluate
from modiste.evaluation.tune import tune
from modiste.labels import LabelSet
from modiste.training.fit_head import HeadProblem
from modiste.training.loop import resume, train
from modiste.training.losses import make_loss

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PHOTOS = 'data.image_column="image"'
SETS = {
    "ten types": (1, ('data.label_columns=["small_label"]', 'data.split_column="small_split"', PHOTOS)),
    "garment": (3, ('data.label_columns=["garment"]', 'data.group_column="contributor"', PHOTOS)),
    "garment, kids": (3, ('data.label_columns=["garment", "kids"]', 'data.group_column="contributor"', PHOTOS)),
}
HEADS = {
    f"{features}, {groups}": (features, groups) for features in ("last", "layers") for groups in ("sigmoid", "softmax")
}
COMMON = (
    f'model.weights="{DATA / "weights/mobilenetv2_100.safetensors"}"',
    "augment.mixup=0",
    "loss.label_smoothing=0",
    'decide.policy="precision:0.9"',
    'decide.calibration="auto"',
    "image.size=224",
    'evaluate.views="flip"',
)


def recipe(settings: tuple[str, ...], features: str, groups: str, seed: int) -> Recipe:
    """Of one run: `clothing`, with a converged head alone."""
    whole = Recipe.read("clothing").replace([*COMMON, f'model.features="{features}"', f'loss.groups="{groups}"'])
    head = {"name": "head", "epochs": "converged", "unlock": "none"}
    data = {
        key: None if key in {"split_column", "group_column"} else value
        for key, value in whole.data.model_dump().items()
    }
    return Recipe.from_dict({**whole.model_dump(), "data": data, "stages": [head]}).replace([*settings, f"seed={seed}"])


def run(folder: Path, own: Recipe) -> dict[str, float]:
    """Fit, tune and score one run, or open it."""
    if (folder / "format.json").exists():
        resume(folder, monitor=TerminalMonitor())
    else:
        train(own, Manifest.read(DATA / "data/clothing/labels.csv", own.data), folder, monitor=TerminalMonitor())
    tune(folder)
    scores = evaluate(folder, "test").scores
    (group,) = scores.groups.values()
    return {"test mAP": scores.map, "accuracy": group.accuracy, "said of 1": group.coverage, "rightly": group.precision}


def table(folder: Path) -> Iterator[str]:
    """A row a data set and head: mean over splits, and the deviation of mAP."""
    yield "| labels | splits | features, groups | test mAP | ± | accuracy | said, for precision 0.9 | of that right |"
    yield "|---|---|---|---|---|---|---|---|"
    for labels, (seeds, settings) in SETS.items():
        for head, (features, groups) in HEADS.items():
            name = f"{labels} {head}".replace(", ", "-").replace(" ", "-")
            rows = [run(folder / f"{name}-{seed}", recipe(settings, features, groups, seed)) for seed in range(seeds)]
            mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            spread = f"{np.std([row['test mAP'] for row in rows], ddof=1):.3f}" if seeds > 1 else ""
            values = " | ".join(f"{mean[key]:.3f}" for key in ("accuracy", "said of 1", "rightly"))
            yield f"| {labels} | {seeds} | {head} | {mean['test mAP']:.3f} | {spread} | {values} |"


def peer(photos: int = 6000, features: int = 1768, labels: int = 20) -> Iterator[str]:
    """The same sigmoids by scikit-learn, label by label, on features as large as those of several layers."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(photos, 200)) @ rng.normal(size=(200, features)) / 14  # hang together, as features do
    rows = np.maximum(hidden + 0.3 * rng.normal(size=hidden.shape), 0).astype(np.float32)
    targets = (rows @ rng.normal(size=(features, labels)) / 40 + rng.normal(size=(photos, labels)) > 1).astype(
        np.float32
    )
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    yield "| L2 | modiste, s | scikit-learn, s | ratio | loss of modiste | of scikit-learn |"
    yield "|---|---|---|---|---|---|"
    for l2 in (0.1, 0.01, 0.001):
        began = time.perf_counter()
        loss = make_loss(
            LossConfig(groups="sigmoid"), LabelSet.free("free", tuple(map(str, range(labels)))), targets.mean(axis=0)
        )
        head = HeadProblem(rows, targets, loss).fit(l2)
        ours, began = time.perf_counter() - began, time.perf_counter()
        total = 0.0
        for k in range(labels):
            one = LogisticRegression(C=1 / (l2 * photos), max_iter=10_000, tol=1e-6).fit(standard, targets[:, k])
            logits = one.decision_function(standard)
            total += (np.logaddexp(0, logits) - targets[:, k] * logits).mean() + l2 / 2 * float((one.coef_**2).sum())
        theirs = time.perf_counter() - began
        yield f"| {l2} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} | {head.objective:.7f} | {total:.7f} |"


def main() -> None:
    """Print both tables."""
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}\n")
    for line in chain(table(Path(sys.argv[1])), [""], peer()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
