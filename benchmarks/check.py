"""`modiste check` and `modiste split` on real photos and lists: what they find, how quickly, how evenly they split.

    python benchmarks/check.py FOLDER [PART...]

prints Markdown tables. PART is one or more of

    found   near duplicates, leaks and label conflicts of the clothing photos
    planted 50,000 photos, of which 44,602 are edits of the others: recall of each kind of edit, pairs that are
            none, time and memory. Makes 2 GB in FOLDER/planted, once, in about ten minutes
    split   five folds of Clothing Co-Parsing and of the challenge's list beside random ones and beside
            iterative-stratification (PyPI), which is no dependency: `pip install --no-deps --target DIR
            iterative-stratification` and PYTHONPATH=DIR; without it its row is left out

Needs MODISTE_DATA.
"""

import csv
import io
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from modiste.audit.findings import audit
from modiste.audit.near_duplicates import NearDuplicates, find_near_duplicates
from modiste.audit.split_balance import label_spread, measure_balance
from modiste.audit.thumbnails import Thumbnails, make_thumbnails
from modiste.config import DataConfig
from modiste.data import images
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
CLOTHING = DATA / "data" / "clothing" / "labels.csv"
WORKERS = os.cpu_count() or 1
PHOTOS = 50_000


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def cut(picture: Image.Image, share: float, draw: np.random.Generator) -> bytes:
    """Lacks a share of its width and of its height, dealt to both sides by chance."""
    width, height = round(picture.width * (1 - share)), round(picture.height * (1 - share))
    x, y = draw.integers(picture.width - width + 1), draw.integers(picture.height - height + 1)
    return jpeg(picture.crop((x, y, x + width, y + height)))


def cut_side(picture: Image.Image, share: float, draw: np.random.Generator) -> bytes:
    """Lacks a share of one side."""
    x, y = (round(picture.width * share), 0) if draw.random() < 0.5 else (0, round(picture.height * share))
    box = (x, y, picture.width, picture.height)
    return jpeg(picture.crop(box if draw.random() < 0.5 else (0, 0, picture.width - x, picture.height - y)))


def brighter(picture: Image.Image, share: float) -> bytes:
    return jpeg(ImageEnhance.Brightness(picture).enhance(share))


EDITS: dict[str, Callable[[Image.Image, np.random.Generator], bytes]] = {
    "resized to 50 %": lambda p, _: jpeg(p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC)),
    "JPEG quality 40": lambda p, _: jpeg(p, 40),
    "cropped by 5 %": lambda p, draw: cut(p, 0.05, draw),
    "cropped by 8 %": lambda p, draw: cut(p, 0.08, draw),
    "cropped by 8 % on one side": lambda p, draw: cut_side(p, 0.08, draw),
    "brightness x 0.8 or 1.2": lambda p, draw: brighter(p, draw.choice([0.8, 1.2])),
    "colour x 0.7": lambda p, _: jpeg(ImageEnhance.Color(p).enhance(0.7)),
    "mirrored": lambda p, _: jpeg(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "PNG of the same pixels": lambda p, _: png(p),
}


def plant(job: tuple[int, Path, Path, int]) -> list[tuple[str, int, str]]:
    """Write the first edits of one photo -> (path, number of the original, kind)."""
    k, path, folder, count = job
    picture, draw = Image.fromarray(images.read_photo(path)), np.random.default_rng(k)
    rows = [(str(path), k, "original")]
    for n, (kind, edit) in enumerate(EDITS.items()):
        if n < count:
            name = folder / f"{k}-{n}{'.png' if edit is EDITS['PNG of the same pixels'] else '.jpg'}"
            name.write_bytes(edit(picture, draw))
            rows.append((str(name), k, kind))
    return rows


def planted_rows(folder: Path) -> list[tuple[str, int, str]]:
    """The 50,000 photos, made unless they are there."""
    table = folder / "planted.csv"
    if not table.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with CLOTHING.open(newline="") as file:
            paths = [CLOTHING.parent / row["image"] for row in csv.DictReader(file)]
        whole = PHOTOS - len(paths) * len(EDITS)  # photos that get all edits, also the last
        jobs = [(k, path, folder, len(EDITS) - (k >= whole)) for k, path in enumerate(paths)]
        with ProcessPoolExecutor(WORKERS) as pool:
            made = pool.map(plant, jobs, chunksize=20)
            rows = [row for photo in made for row in photo]
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("image", "original", "kind"), *rows])
    with table.open(newline="") as file:
        return [(row["image"], int(row["original"]), row["kind"]) for row in csv.DictReader(file)]


def table(head: list[str], rows: list[list]) -> None:
    print("\n" + "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]))


def look(paths: list[Path], kept: Path) -> tuple[Thumbnails, NearDuplicates]:
    prints = make_thumbnails(paths, kept, workers=WORKERS)
    return prints, find_near_duplicates(prints, paths, kept, workers=WORKERS)


def found(folder: Path) -> None:
    """What is wrong with the clothing photos."""
    rows = []
    for split, labels in ((None, "garment"), ("small_split", "small_label")):
        config = DataConfig(split_column=split, label_columns=(labels,), group_column="contributor")
        photos = Manifest.read(CLOTHING, config, strict=False)
        paths = photos.photos()
        begin = time.perf_counter()
        findings = audit(photos, *look(paths, folder / f"clothing-{labels}"))
        seconds = time.perf_counter() - begin
        clusters = findings.clusters
        torn = len(findings.straddling_groups)
        across, differ = sum(c.straddles for c in clusters), sum(bool(c.conflicts) for c in clusters)
        rare = sum(facts.rare for facts in findings.labels)
        rows.append([labels, split or "none", len(photos), len(clusters), across, differ, torn, rare, f"{seconds:.1f}"])
    head = ["labels", "split", "photos", "clusters of near duplicates", "across splits", "labels differ"]
    table([*head, "contributors in several splits", "labels too rare", "seconds"], rows)


def run_check(manifest: Path, report: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of the command, in a process of its own."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "modiste", "check", str(manifest), "-o", str(report), "--labels", "kind", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def planted(folder: Path) -> None:
    """Recall of planted edits, pairs that are none, time and memory."""
    rows = planted_rows(folder / "planted")
    report = folder / "planted-check"
    for kept in report.glob("*"):
        kept.unlink()
    first, memory = run_check(folder / "planted" / "planted.csv", report)
    again, _ = run_check(folder / "planted" / "planted.csv", report)
    paths, original = [Path(path) for path, _, _ in rows], np.array([k for _, k, _ in rows])
    kind = np.array([name for _, _, name in rows])
    prints = make_thumbnails(paths, report, workers=WORKERS)
    begin = time.perf_counter()
    alike = find_near_duplicates(prints, paths, report, workers=WORKERS)
    search = time.perf_counter() - begin
    table(
        ["photos", "first check, s", "of it search, s", "second check, s", "peak memory, GB", "crowded photos"],
        [[len(rows), f"{first:.0f}", f"{search:.1f}", f"{again:.0f}", f"{memory:.2f}", alike.crowded]],
    )
    first_of = {k: at for at, k in reversed(list(enumerate(original.tolist())))}
    sources = np.array([first_of[k] for k in original.tolist()])
    lines = []
    for name in EDITS:
        those = np.flatnonzero(kind == name)
        clusters = alike.any if name == "mirrored" else alike.near
        together = (clusters[those] == clusters[sources[those]]).mean()
        some = np.concatenate([np.flatnonzero(kind == "original"), those])
        lone = find_near_duplicates(select(prints, some), [paths[k] for k in some], report, workers=WORKERS)
        clusters = lone.any if name == "mirrored" else lone.near
        place = {k: at for at, k in enumerate(some.tolist())}
        alone = np.mean([clusters[place[k]] == clusters[place[sources[k]]] for k in those.tolist()])
        same = (alike.exact[those] == alike.exact[sources[those]]).mean()
        lines.append([name, len(those), f"{alone:.4f}", f"{together:.4f}", f"{same:.4f}"])
    table(["edit", "photos", "found, edits of this kind alone", "found, all edits", "told as the same pixels"], lines)
    wrong_pairs(original, kind, alike, report, paths)


def select(prints: Thumbnails, some: np.ndarray) -> Thumbnails:
    return Thumbnails(prints.there[some], prints.sizes[some], prints.spreads[some], prints.pixels[some], {})


def wrong_pairs(original: np.ndarray, kind: np.ndarray, alike: NearDuplicates, report: Path, paths: list[Path]) -> None:
    """Originals that were linked, by any of their edits, less those that are near duplicates themselves."""
    some = np.flatnonzero(kind == "original")
    known = look([paths[k] for k in some], report)[1].any  # numbered by position among the originals
    one, other = original[alike.pairs].T
    linked = np.unique(np.sort(np.column_stack([one, other])[one != other], axis=1), axis=0)
    wrong = int((known[linked[:, 0]] != known[linked[:, 1]]).sum())
    total = len(some) * (len(some) - 1) // 2
    table(
        ["pairs of originals", "linked", "of them near duplicates themselves", "wrong", "rate"],
        [[total, len(linked), len(linked) - wrong, wrong, f"{wrong / total:.1e}"]],
    )


def split(folder: Path) -> None:
    """Five folds, ours beside others."""
    ccp = Manifest.read(DATA / "data" / "ccp" / "labels.csv")
    jd = Manifest.read(DATA / "data" / "jd2018" / "train-k-fold.txt")
    for name, photos, stratify in (("Clothing Co-Parsing", ccp, ("annotation",)), ("the challenge's list", jd, ())):
        rows = []
        begin = time.perf_counter()
        ours = photos.without("fold").with_folds(5, 0, stratify)
        seconds = time.perf_counter() - begin
        found = measure_balance(ours, ours.parts, 0)
        rows.append(["modiste", f"{found.largest:.5f}", f"{found.mean:.5f}", f"{seconds:.2f}"])
        rows.append(["random, mean of 20", f"{found.random_largest:.5f}", f"{found.random_mean:.5f}", ""])
        if "fold" in photos.frame.columns:
            spread = label_spread(photos.targets, photos.frame["fold"].to_numpy())
            rows.append(["official", *(f"{value:.5f}" for value in spread), ""])
        rows += peer(photos)
        print(
            f"\n{name}: {len(photos)} photos, {len(photos.label_set)} labels, {len(set(group_numbers(photos)))} groups"
        )
        table(["five folds by", "largest difference of a label's frequency", "mean over labels", "seconds"], rows)


def peer(photos: Manifest) -> list[list[str]]:
    try:
        from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
    except ImportError:
        return []
    begin = time.perf_counter()
    folds = np.zeros(len(photos), int)
    dealt = MultilabelStratifiedKFold(5, shuffle=True, random_state=0).split(photos.targets, photos.targets == 1)
    for fold, (_, inside) in enumerate(dealt):
        folds[inside] = fold
    seconds = time.perf_counter() - begin
    spread = label_spread(photos.targets, folds)
    return [["iterative-stratification", *(f"{value:.5f}" for value in spread), f"{seconds:.2f}"]]


def main() -> None:
    parts = {"found": found, "planted": planted, "split": split}
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}")
    for name in sys.argv[2:] or parts:
        print(f"\n## {name}")
        parts[name](Path(sys.argv[1]))


if __name__ == "__main__":
    main()
