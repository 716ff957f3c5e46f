"""Multi-label tagging of street photos: the Clothing Co-Parsing data, 56 tags, a grouped, stratified test part.

    python benchmarks/ccp.py runs

The data names no groups, so photos that look nearly the same (difference hash, at most 4 of 64 bits
apart) make one and never straddle splits. Trains `recipes/ccp.toml` with two seeds on one split, scores the test
part and prints tables: scores beside baselines, what tuning, calibration and blending gain, and what
correcting for label shift gains. Needs MODISTE_DATA (photos and weights).
"""

import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from modiste.cli.progress import TerminalMonitor
from modiste.config import DecideConfig, Recipe
from modiste.data import images
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.decisions.blend import Blend
from modiste.decisions.decision import Decision
from modiste.decisions.fit import cross_fit_decision, fit_decision, make_folds
from modiste.decisions.fit_blend import cross_fit_blend, fit_stack, fit_weights
from modiste.decisions.label_shift import estimate_label_shift
from modiste.evaluation.evaluate import evaluate
from modiste.evaluation.report import report_evaluation
from modiste.evaluation.tune import tune
from modiste.metrics.bootstrap import interval, replicate
from modiste.metrics.calibration_error import mean_calibration_error
from modiste.metrics.scores import mean_log_loss, score
from modiste.metrics.sweep import best_fbeta, each_label
from modiste.prediction import Decided
from modiste.runs.predictions import Predictions, predicted
from modiste.runs.run import Run
from modiste.training.loop import resume, train

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
NEAR = 4  # bits of 64


def difference_hash(path: Path) -> np.ndarray:
    """64 bits: whether each of 8 x 8 places is brighter than its left neighbour."""
    grey = Image.fromarray(images.read_photo(path, target=64)).convert("L").resize((9, 8), Image.Resampling.BILINEAR)
    values = np.asarray(grey, dtype=int)
    return (values[:, 1:] > values[:, :-1]).ravel()


def group_near_duplicates(paths: list[Path]) -> np.ndarray:
    """A group number for each photo."""
    hashes = np.stack([difference_hash(path) for path in paths])
    apart = (hashes[:, None] != hashes[None]).sum(axis=2)
    return connected_components(csr_array(apart <= NEAR), directed=False)[1]


def make_table(path: Path) -> None:
    """The labels with groups of near duplicates and one split for all runs."""
    table = pl.read_csv(DATA / "data/ccp/labels.csv")
    never = [tag for tag in table.columns[2:] if table[tag].sum() == 0]  # nothing to learn or to measure
    print(f"tags without any positive, left out: {', '.join(never)}", file=sys.stderr)
    table = table.drop(never)
    groups = group_near_duplicates([DATA / "data/ccp" / file for file in table["file"]])
    print(f"{len(groups)} photos in {len(set(groups.tolist()))} groups", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.insert_column(1, pl.Series("group", [f"g{group}" for group in groups])).write_csv(path)
    config = Recipe.read("ccp").data
    manifest = Manifest.read(path, config).with_split(config.val_fraction, config.test_fraction, 0, ("annotation",))
    table.insert_column(1, manifest.frame["split"]).write_csv(path)


def make_run(folder: Path, seed: int) -> None:
    """Train, or go on."""
    if folder.exists():
        resume(folder, monitor=TerminalMonitor())
        return
    table = folder.with_name("ccp-grouped.csv")
    if not table.exists():
        make_table(table)
    recipe = Recipe.read("ccp").replace(
        [
            f"seed={seed}",
            f'data.root="{DATA / "data/ccp"}"',
            f'model.weights="{DATA / "weights/mobilenetv2_100.safetensors"}"',
        ]
    )
    train(recipe, Manifest.read(table, recipe.data), folder, monitor=TerminalMonitor())


def f2(part: Manifest, said: Decided) -> float:
    return score(part.targets, *said, part.label_set).macro.f2


def row(name: str, part: Manifest, outside: Decided, inside: Decided) -> str:
    """A line of the table of decisions: cross-fitted with its interval, in sample, and the optimism of that."""
    draws = replicate(part.targets, *outside, part.label_set, groups=group_numbers(part))
    honest, flattering = f2(part, outside), f2(part, inside)
    low, high = interval(draws["macro.f2"])
    return f"| {name} | {honest:.3f} | {low:.3f} to {high:.3f} | {flattering:.3f} | {flattering - honest:+.3f} |"


def decisions(said: list[Predictions]) -> None:
    """Macro F2 of each way to decide, cross-fitted on the test part, in-sample beside it."""
    part, labels, raws = said[0].part, said[0].part.label_set, np.stack([one.raw for one in said])
    folds = make_folds(part.targets, group_numbers(part), 5)
    print("\n| decision | macro F2, cross-fitted | 95 % interval | in sample | optimism |\n|---|---|---|---|---|")
    plain = Decision.untuned("fixed:0.5", labels).apply(raws[0], labels)
    print(row("above 0.5 (the paper)", part, plain, plain))
    careless = Decided(raws[0], np.zeros(part.targets.shape, np.int8))
    best = each_label(lambda one: best_fbeta(one, 2).threshold, part.targets, raws[0])
    inside = Decided(raws[0], (raws[0] > np.array(best, np.float32)).astype(np.int8))
    for fold in range(5):
        others = each_label(
            lambda one: best_fbeta(one, 2).threshold, part.targets[folds != fold], raws[0][folds != fold]
        )
        careless.decisions[folds == fold] = raws[0][folds == fold] > np.array(others, np.float32)
    print(row("best threshold of each label, nothing pooled", part, careless, inside))
    choices = {
        "tuned": ("none", raws[0], raws[0]),
        "tuned on calibrated scores": ("auto", raws[0], raws[0]),
    }
    blends = {
        "mean": Blend.mean(len(raws)),
        "weights": Blend("weights", fit_weights(part.targets, raws)),
        "stack": fit_stack(part.targets, raws, folds),
    }
    for method, blend in blends.items():
        outside = cross_fit_blend(part.targets, raws, folds, blend.method)
        choices[f"blended: {method}, calibrated, tuned"] = ("auto", outside, blend.apply(raws))
    for name, (calibration, outside, inside_probs) in choices.items():
        config = DecideConfig(policy="fbeta:2", calibration=calibration)
        honest = cross_fit_decision(config, part.targets, outside, folds, labels)
        fitted = fit_decision(config, part.targets, inside_probs, folds, labels).decision
        print(row(name, part, honest, fitted.apply(inside_probs, labels)), flush=True)


def calibration(val: Predictions, test: Predictions) -> None:
    """Calibration error on the test part, before and after calibration on the validation part and across folds."""
    part, labels = test.part, test.part.label_set
    print("\n| test probabilities | calibration error | log loss |\n|---|---|---|")
    config = DecideConfig(policy="fbeta:2", calibration="auto")
    folds = [make_folds(one.part.targets, group_numbers(one.part), 5) for one in (val, test)]
    fitted = fit_decision(config, val.part.targets, val.raw, folds[0], labels).decision
    rows = {
        "the network's own": test.raw,
        f"calibrated on {len(val.part)} validation photos": fitted.apply(test.raw, labels).probs,
        f"calibrated across folds of {len(part)}": cross_fit_decision(
            config, part.targets, test.raw, folds[1], labels
        ).probs,
    }
    for name, probs in rows.items():
        print(
            f"| {name} | {mean_calibration_error(part.targets, probs):.4f} | {mean_log_loss(part.targets, probs):.4f} |"
        )


def shifted(test: Predictions) -> None:
    """What correcting for label shift gains on a tag that is three times as likely, or a third, where it is used.

    Half of the test photos tune; the other half are drawn so that the odds of one tag change, photos with it and
    without it staying what they are. Each common tag, both ways, ten halves.
    """
    part, labels = test.part, test.part.label_set
    rng = np.random.default_rng(0)
    config = DecideConfig(policy="fbeta:2", calibration="platt")
    lines = []
    for _ in range(10):
        half = rng.permutation(len(part)) < len(part) // 2
        tuned, other = part.select(half), part.select(~half)
        shares = (tuned.targets == 1).mean(axis=0)
        folds = make_folds(tuned.targets, group_numbers(tuned), 5)
        plain = fit_decision(config, tuned.targets, test.raw[half], folds, labels).decision
        for k in np.flatnonzero((shares > 0.1) & (shares < 0.6)):
            for turn in (3.0, 1 / 3):
                weight = np.where(other.targets[:, k] == 1, turn, 1.0)
                drawn = rng.choice(len(other), 400, p=weight / weight.sum())
                target, raw = other.targets[drawn], test.raw[~half][drawn]
                estimated = estimate_label_shift(plain.apply(raw, labels).probs, shares, labels)
                corrected = fit_decision(config, tuned.targets, test.raw[half], folds, labels, here=estimated).decision
                one, two = plain.apply(raw, labels), corrected.apply(raw, labels)
                true = (target == 1).mean(axis=0)
                line = [abs(shares[k] - true[k]), abs(estimated[k] - true[k])]
                line += [mean_log_loss(target[:, k], said.probs[:, k]) for said in (one, two)]
                line += [fbeta(target[:, k], said.decisions[:, k]) for said in (one, two)]
                lines.append(line)
    mean = np.mean(lines, axis=0)
    print(f"\n| label shift, {len(lines)} draws | not corrected | corrected | corrected is better in |")
    print("|---|---|---|---|")
    for k, name in enumerate(("error of the tag's share", "its log loss", "its F2")):
        before, after = np.array(lines)[:, 2 * k : 2 * k + 2].T
        better = ((after > before) if k == 2 else (after < before)).mean()
        print(f"| {name} | {mean[2 * k]:.4f} | {mean[2 * k + 1]:.4f} | {better:.0%} |")


def fbeta(target: np.ndarray, said: np.ndarray) -> float:
    return float(5 * (target * said).sum() / max(4 * target.sum() + said.sum(), 1))


def main() -> None:
    folders = [Path(sys.argv[1]) / f"ccp-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        make_run(folder, seed)
    tune(folders[0])
    evaluation = evaluate(folders[0], "test", thresholds="fixed:0.5")
    scores = evaluation.scores
    minutes = pl.read_csv(folders[0] / "history.csv")["seconds"].sum() / 60
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {minutes:.1f} minutes of training; ", end="")
    print(f"{scores.photos} test photos, {len(scores.labels) - len(scores.left_out)} tags with positives among them\n")
    print("| | mAP | micro AP | macro F2 | macro F1 | micro F1 |\n|---|---|---|---|---|---|")
    tuned = evaluate(folders[0], "test")
    report_evaluation(Run.read(folders[0]), tuned)
    rows = {"above 0.5": scores, "tuned on the validation photos": tuned.scores, **scores.baselines}
    for name, one in rows.items():
        values = (one.map, one.micro_ap, one.macro.f2, one.macro.f1, one.micro.f1)
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    print(f"\nleft out, no positive in the test part: {', '.join(scores.left_out) or 'none'}")
    runs = [Run.read(folder) for folder in folders]
    said = [predicted(run, "test") for run in runs]
    decisions(said)
    calibration(predicted(runs[0], "val"), said[0])
    shifted(said[0])


if __name__ == "__main__":
    main()
