"""Makes the bundled model from the CC0 clothing photos, and measures it.

    python benchmarks/garments.py FOLDER [--export src/modiste/garments.onnx] [--strangers PHOTOS]

Seventeen garment types and "kids", each a label of its own, so that a photo of something else gets none. The test part
is clothing-dataset-small's, and an eighth of the photos outside that benchmark; photos that look like a test photo
are not trained on. A tenth of what is trained on shows no garment: plain, noisy and drawn pictures, and training photos
shuffled or so close that no shape is left (outlier exposure: Hendrycks et al. 2019). Run again, it goes on where it
stopped. Needs MODISTE_DATA (photos and weights).
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from nothing import draw_nothing

from modiste.audit.near_duplicates import find_near_duplicates
from modiste.audit.thumbnails import make_thumbnails
from modiste.evaluation.evaluate import evaluate
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.calibration_error import mean_calibration_error
from modiste.runs.load import load
from modiste.runs.run import Run

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PHOTOS = DATA / "data/clothing"
NAMES = {  # id: English, Chinese
    "t-shirt": ("T-shirt", "T恤"),
    "longsleeve": ("long-sleeved top", "长袖上衣"),
    "pants": ("trousers", "长裤"),
    "shoes": ("shoes", "鞋"),
    "shirt": ("shirt", "衬衫"),
    "dress": ("dress", "连衣裙"),
    "outwear": ("coat or jacket", "外套"),
    "shorts": ("shorts", "短裤"),
    "hat": ("hat", "帽子"),
    "skirt": ("skirt", "半身裙"),
    "polo": ("polo shirt", "Polo衫"),
    "undershirt": ("undershirt", "背心"),
    "blazer": ("blazer", "西装外套"),
    "hoodie": ("hoodie", "连帽衫"),
    "body": ("bodysuit", "连体衣"),
    "top": ("strappy or cropped top", "吊带上衣"),
    "blouse": ("blouse", "女式衬衫"),
    "kids": ("for children", "童装"),
}
GARMENTS = [name for name in NAMES if name != "kids"]
SMALL = GARMENTS[:10]  # the classes of clothing-dataset-small


def make_manifest(folder: Path) -> Path:
    """garments.csv and labels.json. "Other" is no garment; where the annotator was not sure, garments are unknown."""
    frame = pl.read_csv(PHOTOS / "labels.csv", infer_schema_length=0).fill_null("")
    paths = [PHOTOS / name for name in frame["image"]]
    alike = find_near_duplicates(
        make_thumbnails(paths, folder / "prints", workers=2), paths, folder / "prints", workers=2
    )
    rng = np.random.default_rng(0)
    splits = np.array([small or None for small in frame["small_split"]], dtype=object)
    kinds = (frame["garment"] + frame["kids"]).to_numpy()
    for kind in np.unique(kinds):  # outside the benchmark: an eighth to test, an eighth to validate
        free = rng.permutation(np.flatnonzero((kinds == kind) & (splits == None)))  # noqa: E711  elementwise
        eighth = round(len(free) / 8)
        splits[free[:eighth]], splits[free[eighth : 2 * eighth]], splits[free[2 * eighth :]] = "test", "val", "train"
    tested = set(alike.any[splits == "test"].tolist())
    dropped = (splits != "test") & np.isin(alike.any, list(tested))
    manifest = folder / "garments.csv"
    with manifest.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["image", "split", "contributor", "small", *NAMES])
        for row, split, left_out, path in zip(frame.iter_rows(named=True), splits, dropped, paths, strict=True):
            if left_out:
                continue
            garment = row["garment"].lower()
            flags = ["" if not garment else int(garment == name) for name in GARMENTS]
            small = int(bool(row["small_split"]))
            out.writerow([path.absolute(), split, row["contributor"], small, *flags, int(row["kids"] == "True")])
        trained = [
            path
            for path, split, left_out in zip(paths, splits, dropped, strict=True)
            if split == "train" and not left_out
        ]
        for path in draw_nothing(folder / "nothing", trained, len(trained) // 10):
            out.writerow([path.absolute(), "train", "", 0, *[0] * len(NAMES)])
    labels = [Label(id_, {"en": english, "zh": chinese}) for id_, (english, chinese) in NAMES.items()]
    LabelSet("garments", (Group("garment", tuple(labels[:-1])), Group("audience", tuple(labels[-1:])))).write(
        folder / "labels.json"
    )
    print(f"{dropped.sum()} photos that look like test photos are left out", file=sys.stderr)
    return manifest


def modiste(*arguments: object) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "modiste", *map(str, arguments)], check=True)


def train(folder: Path, manifest: Path) -> Path:
    """A finished run."""
    run = folder / "run"
    if run.exists():
        modiste("train", "--resume", run)
    else:
        settings = ["--recipe", "garments", "--label-set", folder / "labels.json", "--labels", ",".join(NAMES)]
        settings += ["--weights", DATA / "weights/mobilenetv2_100.safetensors"]
        modiste("train", manifest, "-o", run, *settings)
    return run


def small_accuracy(run: Path, manifest: Path, folder: Path) -> None:
    """Accuracy among the ten classes, on the published test part and on what is left of it without look-alikes."""
    frame = pl.read_csv(manifest, schema_overrides={"contributor": pl.String}).with_columns(
        pl.col("contributor").fill_null("")
    )
    paths = [Path(name) for name in frame["image"]]
    test = ((frame["split"] == "test") & (frame["small"] == 1)).to_numpy()
    seen = frame.filter(pl.col("split") != "test")
    strangers = ~frame["contributor"].is_in(seen["contributor"].unique().implode()).to_numpy()
    alike = find_near_duplicates(
        make_thumbnails(paths, folder / "prints", workers=2), paths, folder / "prints", workers=2
    )
    twins = np.isin(alike.any, np.unique(alike.any[~(frame["split"] == "test").to_numpy()]))
    tags = load(run)
    rows = np.flatnonzero(test)
    probs = np.array([said.prob_array for said in tags.stream([paths[k] for k in rows])])
    columns = [tags.label_set.index(name) for name in SMALL]
    right = probs[:, columns].argmax(axis=1) == frame[rows].select(SMALL).to_numpy().argmax(axis=1)
    print("| photos of clothing-dataset-small's test part | photos | accuracy among the ten | standard error |")
    print("|---|---|---|---|")
    for title, which in (
        ("all", np.full(len(rows), True)),
        ("without near duplicates of other photos here", ~twins[rows]),
        ("of people who gave no other photo here", strangers[rows]),
    ):
        count = which.sum()
        share = right[which].mean() if count else np.nan
        print(f"| {title} | {count} | {share:.4f} | {np.sqrt(share * (1 - share) / max(count, 1)):.4f} |")


def named(run: Path, photos: list[Path]) -> int:
    """How many photos get a garment's label."""
    return sum(bool(set(said.labels) & set(GARMENTS)) for said in load(run).stream(photos))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--strangers", type=Path, help="folder of photos without any garment")
    given = parser.parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "garments.csv"
    if not manifest.exists():
        make_manifest(folder)
    run = train(folder, manifest)
    found = evaluate(run, "test")
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, views {found.views}\n")
    small_accuracy(run, manifest, folder)
    low, high = found.intervals["map"]
    errors = [mean_calibration_error(found.part.targets, probs) for probs in (found.raw, found.probs)]
    minutes = pl.read_csv(run / "history.csv")["seconds"].sum() / 60
    print(f"\n{len(found.part)} test photos: mAP {found.scores.map:.4f} ({low:.3f} to {high:.3f}), micro precision")
    print(f"{found.scores.micro.precision:.3f} and recall {found.scores.micro.recall:.3f} at its thresholds;")
    print(f"calibration error {errors[1]:.4f} (uncalibrated {errors[0]:.4f}); {minutes:.0f} minutes of training")
    other = pl.read_csv(PHOTOS / "labels.csv", infer_schema_length=0).filter(pl.col("garment") == "Other")["image"]
    part = Run.read(run).manifest().part("test")
    others = [path for path in part.photos() if f"images/{path.name}" in set(other)]
    print(f"of {len(others)} test photos of other garments, {named(run, others)} get a garment's label")
    if given.strangers:
        photos = [path for path in sorted(given.strangers.rglob("*")) if path.suffix.lower() in (".jpg", ".png")]
        print(f"of {len(photos)} pictures without a garment, {named(run, photos)} do")
    if given.export:
        modiste("export", run, "-o", given.export, "--card", Path(__file__).parent / "garments.md")
        print(json.dumps({"bytes": given.export.stat().st_size}))


if __name__ == "__main__":
    main()
