"""A comparison: train every candidate with every seed, score the runs, name the best and how sure that is.

Everything is in one folder, and what is finished is not done again: a killed comparison is resumed where it stopped.

compare.toml        the grid
base.toml           the recipe that its candidates change
manifest.parquet    photos, targets and the split that all runs share
format.json         of this folder
runs/<name>-<seed>  a run folder each, with outcome.json once it is scored
comparison.json, comparison.md, index.html and its plots
best/               a copy of the best run
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from modiste.config import DataConfig, Recipe
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.data.rare_labels import FrequentLabels, frequent_labels
from modiste.decisions.fit import too_few
from modiste.decisions.policies import Policy
from modiste.errors import ManifestError, RunError, UsageError
from modiste.evaluation.cached_predictions import predict_kept
from modiste.evaluation.evaluate import save_evaluation, score_predictions
from modiste.evaluation.tune import advice_for_more, needs_tuning, tune
from modiste.experiments.grid import Grid, slug
from modiste.experiments.outcomes import SCORES, Outcome
from modiste.experiments.page import History, write_comparison_page
from modiste.experiments.ranking import Ranking, rank_candidates
from modiste.files import new_folder, only_process, write_text
from modiste.inference.predictor import Predictor
from modiste.labels import UNKNOWN, LabelSet
from modiste.metrics.bootstrap import replicate
from modiste.metrics.weighted import flat_scores
from modiste.models.tagger import Tagger
from modiste.runs.format import check_format, write_format
from modiste.runs.load import predictor
from modiste.runs.predictions import predicted, write
from modiste.runs.run import Run, environment
from modiste.training.loop import resume, train
from modiste.training.monitor import EpochRow, Monitor, Monitors
from modiste.training.state import check_recipe, make_fabric, trainable_parts

GRID_FILE, BASE_FILE = "compare.toml", "base.toml"
_TIMED, _TIMED_SECONDS = 32, 1.0  # photos and time, both at least, for which tagging is timed

Watch = Callable[[str], Monitor]  # the title of a run -> its Monitor


def create_comparison(folder: Path, grid: Grid, manifest: Manifest) -> FrequentLabels:
    """Make the folder of a comparison, whole or not at all, and return which labels are learnt.

    Photos are split here, once for all runs.

    Raises:
        ManifestError: the split leaves nothing to train or test on, or photos are missing.
        RunError: the folder exists.
        UsageError: the validation photos are too few to tune on.
        The errors of `check_recipe`.
    """
    base = next(recipe for _, recipe in grid.runs())
    data = base.data
    if data.fold is not None:
        manifest = manifest.with_fold(data.fold)
    dealt = "val" not in manifest.parts
    manifest = manifest.with_split(data.val_fraction, data.test_fraction, base.seed, data.stratify_columns)
    kept = frequent_labels(manifest, data.min_positives)
    manifest = kept.manifest
    trainable_parts(manifest)
    if (manifest.part("test").targets == UNKNOWN).all():
        want, fix = (
            f"known labels of the test photos of {manifest.source}",
            "modiste split, which deals all photos anew",
        )
        raise ManifestError.expected(want, "none", fix)
    for recipe in {one.model_copy(update={"seed": 0}).to_toml(): one for _, one in grid.runs()}.values():
        check_recipe(recipe)
        _check_tunable(recipe, manifest, dealt=dealt)
    with new_folder(folder.absolute(), f"--resume {folder}, or another -o") as temporary:
        write_text(temporary / BASE_FILE, Recipe.read(grid.recipe).to_toml())
        write_text(temporary / GRID_FILE, grid.model_copy(update={"recipe": BASE_FILE}).to_toml())
        manifest.label_set.write(temporary / "labels.json")
        manifest.absolute().write(temporary / "manifest.parquet")
        write_text(temporary / "environment.json", json.dumps(environment(), indent=1) + "\n")
        write_format(temporary)
    return kept


def _check_tunable(recipe: Recipe, manifest: Manifest, *, dealt: bool) -> None:
    """Refuse validation photos that are too few for the decision that a recipe wants tuned."""
    config, part = recipe.decide, manifest.part("val")
    if not (Policy.parse(config.policy).tuned or config.calibration != "none"):
        return
    lack = too_few(len(part), group_numbers(part), config.folds)
    if lack is not None:
        want = f"at least {lack.least} validation {lack.noun} to tune on"
        raise UsageError.expected(want, lack.there, advice_for_more(manifest, lack, dealt=dealt))


def run_comparison(folder: Path, *, accelerator: str = "auto", watch: Watch = lambda _: Monitor()) -> Ranking:
    """Train and score what is missing of a comparison, and write its table, page and best run.

    Args:
        folder: made by `create_comparison`.
        accelerator: as for `make_fabric`.
        watch: gives for a run's title the Monitor of its training.

    Raises:
        RunError: the folder is no comparison, or another process is at it.
        The errors of `train` and `evaluate`.
    """
    check_format(folder)
    if not (folder / GRID_FILE).is_file():
        raise RunError.expected(f"{folder} to be a comparison", "a folder without compare.toml", "modiste compare -o")
    with only_process(folder / "compare.lock", f"{folder} to be filled", "waiting for it"):
        return _compare(folder, accelerator, watch)


def _compare(folder: Path, accelerator: str, watch: Watch) -> Ranking:
    grid = Grid.read(folder / GRID_FILE)
    manifest = Manifest.read(folder / "manifest.parquet", DataConfig(), LabelSet.read(folder / "labels.json"))
    runs = list(grid.runs())
    outcomes: list[Outcome] = []
    histories: dict[str, list[History]] = {}
    for k, (candidate, recipe) in enumerate(runs, 1):
        at = folder / "runs" / f"{slug(candidate.name)}-{recipe.seed}"
        title = f"run {k} of {len(runs)}: {candidate.name}, seed {recipe.seed}"
        outcomes.append(_outcome(_Planned(at, candidate.name, recipe, title), manifest, accelerator, watch))
        rows = pl.read_csv(at / "history.csv", glob=False).select("epoch", "val_map").rows()
        histories.setdefault(candidate.name, []).append(rows)
    found = rank_candidates(_shared_cache(outcomes))
    write_text(folder / "comparison.json", json.dumps(found.to_dict(), ensure_ascii=False, indent=1) + "\n")
    write_text(folder / "comparison.md", found.to_markdown())
    write_comparison_page(folder, found, title="Comparison", facts=_facts(grid, manifest), histories=histories)
    if found.best is not None:
        _keep_best(folder, Path(found.best.folder))
    return found


@dataclass(frozen=True)
class _Planned:
    """One run of a comparison: where it lies, whose it is, what it trains with, and what a person calls it."""

    folder: Path
    candidate: str
    recipe: Recipe
    title: str


def _outcome(planned: _Planned, manifest: Manifest, accelerator: str, watch: Watch) -> Outcome:
    """Train, tune and score one run, as far as that is not done yet."""
    folder, recipe = planned.folder, planned.recipe
    facts_file = folder / "outcome.json"
    if not facts_file.is_file():
        timer = _CachingTimer()
        monitor, fabric = Monitors([timer, watch(planned.title)]), make_fabric(recipe, 1, accelerator)
        if folder.exists():
            run = resume(folder, fabric=fabric, monitor=monitor)
        else:
            run = train(recipe, manifest, folder, fabric=fabric, monitor=monitor)
        if needs_tuning(run):
            _ask(run, "val", monitor)
            tune(folder)
        _ask(run, "test", monitor)
        costs = _known_costs(folder.parent, recipe) or {"ms_a_photo": _ms_a_photo(run), "parameters": _parameters(run)}
        write_text(facts_file, json.dumps({"cache_seconds": timer.seconds, **costs}) + "\n")
    run = Run.read(folder)
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    evaluation = score_predictions(run, "test", predicted(run, "test"), run.decision)
    save_evaluation(run, evaluation)
    drawn = replicate(
        evaluation.part.targets,
        evaluation.probs,
        evaluation.decisions,
        run.label_set,
        groups=group_numbers(evaluation.part),
    )
    history = pl.read_csv(folder / "history.csv", glob=False)
    return Outcome(
        planned.candidate,
        recipe.model.backbone,
        "+".join(dict.fromkeys(stage.optimizer for stage in recipe.stages)),
        recipe.seed,
        str(folder),
        float(np.nanmax(history["val_map"].to_numpy())),
        scores=flat_scores(evaluation.scores),
        replicates={name: drawn[name] for name in SCORES},
        seconds=float(history["seconds"].sum()),
        **facts,
    )


def _ask(run: Run, split: str, monitor: Monitor) -> None:
    """Run the network on a split, and keep its probabilities for tuning and scoring."""
    write(run, split, predict_kept(run, run.manifest().part(split), monitor.caching))


class _CachingTimer(Monitor):
    """Measures how long photos are computed and decoded beforehand."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.monotonic()

    def start(self, epochs: int, steps: int, step: int) -> None:
        """What follows may be computing."""
        self._since = time.monotonic()

    def epoch(self, row: EpochRow) -> None:
        """What follows may be computing."""
        self._since = time.monotonic()

    def caching(self, done: int, total: int) -> None:
        """What came before was computing."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now


def _known_costs(folder: Path, recipe: Recipe) -> dict[str, float] | None:
    """What was measured of an earlier run of the same network at the same size."""
    for path in folder.glob("*/outcome.json"):
        other = Run.read(path.parent).recipe
        if (other.model.backbone, other.image.size) == (recipe.model.backbone, recipe.image.size):
            facts: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
            return {name: facts[name] for name in ("ms_a_photo", "parameters")}
    return None


def _ms_a_photo(run: Run) -> float:
    """Milliseconds that tagging takes for a photo of one view, in batches, without reading its file."""
    tags = predictor(run, "one")
    size = run.recipe.image.size
    photos = np.random.default_rng(0).integers(0, 256, (tags.batch_size, size, size, 3), np.uint8)
    assert isinstance(tags, Predictor)
    tags.ask(photos)
    began, count = time.monotonic(), 0
    while count < _TIMED or time.monotonic() - began < _TIMED_SECONDS:
        tags.ask(photos)
        count += len(photos)
    return (time.monotonic() - began) / count * 1000


def _parameters(run: Run) -> int:
    """Parameters of the network: those of its backbone and its last layer."""
    model = Tagger(run.recipe.model.model_copy(update={"weights": "none"}), len(run.label_set))
    return sum(parameter.numel() for parameter in model.parameters())


def _shared_cache(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same runs, each with the seconds that all runs of its backbone took to compute what they share."""
    total: dict[str, float] = {}
    for one in outcomes:
        total[one.backbone] = total.get(one.backbone, 0.0) + one.cache_seconds
    return [replace(one, cache_seconds=total[one.backbone]) for one in outcomes]


def _facts(grid: Grid, manifest: Manifest) -> dict[str, object]:
    """What all runs share, for a reader of the page."""
    _, recipe = next(grid.runs())
    machine = environment()
    counts = ", ".join(f"{len(manifest.part(part)):,} {part}" for part in ("train", "val", "test"))
    stages = ", ".join(f"{one.name} ({one.length}, {one.unlock} unlocked)" for one in recipe.stages)
    return {
        "recipe": recipe.name,
        "changes for all": ", ".join(grid.set) or "none",
        "photos": counts,
        "labels": len(manifest.label_set),
        "stages": stages,
        "views at test time": recipe.evaluate.views,
        "devices": f"{', '.join(machine['devices'])}, {machine['cores']} cores",
    }


def _keep_best(folder: Path, run: Path) -> None:
    """Copy the best run to `best`, unless that is a copy of it already."""
    best, origin = folder / "best", "comparison.txt"
    if (best / origin).is_file() and (best / origin).read_text(encoding="utf-8") == run.name:
        return
    shutil.rmtree(best, ignore_errors=True)
    with new_folder(best, "another folder") as temporary:
        shutil.copytree(run, temporary, dirs_exist_ok=True)
        (temporary / origin).write_text(run.name, encoding="utf-8")
