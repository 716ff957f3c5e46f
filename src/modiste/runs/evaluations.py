"""metrics.json: every evaluation of a run or blend folder, each beside the others, and which one is the model's own.

One entry for each (name, photos, weights, decision, views) that was scored, the newest last; scoring the same again
replaces its entry. An entry knows what was scored, so that scores of other photos or thresholds never pass for the
model's own test score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

from filelock import FileLock

from modiste.data.manifest import Manifest
from modiste.decisions.decision import Decision
from modiste.errors import RunError
from modiste.files import write_text
from modiste.runs.blend_run import BlendRun
from modiste.runs.predictions import photos_key
from modiste.runs.run import Run

METRICS_FILE = "metrics.json"
_LONGEST = 200  # bytes of a file's name, without what stands before and after
METRICS_FORMAT = 2  # format 1 had one document a split, without saying what was scored


@dataclass(frozen=True)
class Origin:
    """What was scored, and what decided.

    Attributes:
        manifest: file of the photos where they are not the run's own.
        thresholds: what took the place of the run's own decision, such as "fixed:0.5".
        photos: key of the photos asked for and their targets.
        weights: key of the network, or of all networks of a blend.
        decision: key of policy, thresholds, calibration and label shift.
        views: test-time augmentation of each network.
        date: when, in ISO 8601.
    """

    manifest: str | None
    thresholds: str | None
    photos: str
    weights: str
    decision: str
    views: tuple[str, ...]
    date: str

    @classmethod
    def now(
        cls,
        run: Run | BlendRun,
        part: Manifest,
        decision: Decision,
        views: tuple[str, ...],
        *,
        manifest: str | None = None,
        thresholds: str | None = None,
    ) -> Self:
        """The origin of an evaluation of these photos that is made now."""
        date = datetime.now().astimezone().isoformat(timespec="seconds")
        weights = sha256(run.key.encode()).hexdigest()
        return cls(manifest, thresholds, photos_key(part), weights, decision.key, views, date)

    @property
    def key(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What the scores depend on."""
        return self.photos, self.weights, self.decision, self.views


@dataclass(frozen=True)
class SavedEvaluation:
    """One entry of `metrics.json`.

    Attributes:
        document: name, split, origin and scores, as `modiste.evaluation.evaluate.to_document` gives them.
        origin: what was scored; None where an earlier modiste wrote the entry without saying so.
    """

    document: Mapping[str, Any]
    origin: Origin | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read a document; KeyError, TypeError or ValueError where it is none."""
        known = document["origin"]
        origin = None if known is None else Origin(**{**known, "views": tuple(known["views"])})
        _ = document["name"], document["split"], document["photos"], document["map"], document["macro"]["f2"]
        return cls(document, origin)

    @property
    def name(self) -> str:
        """What a person calls it: split, other manifest, other thresholds."""
        return str(self.document["name"])

    @property
    def split(self) -> str:
        """Which photos of the manifest."""
        return str(self.document["split"])


def evaluation_name(split: str, manifest: str | None = None, thresholds: str | None = None) -> str:
    """What a person calls an evaluation: "test", or "test of other.csv, fixed:0.9"."""
    words = split if manifest is None else f"{split} of {Path(manifest).name}"
    return words if thresholds is None else f"{words}, {thresholds}"


def evaluation_file_name(
    split: str, manifest: str | None = None, thresholds: str | None = None, views: str | None = None
) -> str:
    """What the files of an evaluation are called by: "test", or "test-of-shop-other.csv-fixed-0.9".

    Another manifest is named with its folder, as tables of several shops may have one name.
    """
    words = [split]
    if manifest is not None:
        path = Path(manifest).absolute()
        words += ["of", *filter(None, (path.parent.name, path.name))]
    name = re.sub(r"[^\w.=-]+", "-", "-".join([*words, *filter(None, (thresholds, views))]))
    return name.encode()[:_LONGEST].decode(errors="ignore")


def read_evaluations(folder: Path) -> list[SavedEvaluation]:
    """The evaluations of a run or blend folder, the newest last.

    Raises:
        RunError: `metrics.json` is damaged, or of a newer modiste.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        version = content.get("format", 1)
        if version == METRICS_FORMAT:
            return [SavedEvaluation.of(document) for document in content["evaluations"]]
        if version == 1:
            return [_of_unknown_origin(split, document) for split, document in content.items()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError.expected(f"{path} to hold evaluations as JSON", f"'{error}'", "removing it") from error
    raise RunError.expected(f"{path} to be of format {METRICS_FORMAT}", version, "a newer modiste, or removing it")


def _of_unknown_origin(split: str, document: Mapping[str, Any]) -> SavedEvaluation:
    return SavedEvaluation.of({"name": split, **document, "split": split, "origin": None})


def add_evaluation(folder: Path, document: Mapping[str, Any]) -> None:
    """Add an entry to `metrics.json`; it replaces the one of the same name, photos, weights, decision and views.

    An entry of unknown origin gives way to any new one of its split.

    Raises:
        RunError: as `read_evaluations`.
    """
    new = SavedEvaluation.of(document)
    with FileLock(folder / "metrics.lock"):  # of two evaluations at once, neither loses the other's entry
        kept = [one for one in read_evaluations(folder) if not _replaces(new, one)]
        content = {"format": METRICS_FORMAT, "evaluations": [one.document for one in (*kept, new)]}
        write_text(folder / METRICS_FILE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _replaces(new: SavedEvaluation, old: SavedEvaluation) -> bool:
    if old.origin is None or new.origin is None:
        return old.split == new.split
    return (old.name, old.origin.key) == (new.name, new.origin.key)


class ModelScores(NamedTuple):
    """What was measured of a model as it is now.

    Attributes:
        own_test: on its own test photos with its own weights, decision and views; None where that was not measured.
        others: every other evaluation by a name that says how it differs.
    """

    own_test: SavedEvaluation | None
    others: tuple[tuple[str, SavedEvaluation], ...]


def model_scores(run: Run | BlendRun, views: tuple[str, ...]) -> ModelScores:
    """Which of a run's evaluations is its own test score now, and what the others are.

    Args:
        run: a trained run or blend.
        views: test-time augmentation of each network, as the model is used.

    Raises:
        RunError: `metrics.json` is damaged.
    """
    saved = read_evaluations(run.folder)
    manifest = run.manifest()
    splits = {one.split for one in saved} & {*manifest.parts}
    now = {split: Origin.now(run, manifest.part(split), run.decision, views) for split in splits}
    if "all" in {one.split for one in saved}:
        now["all"] = Origin.now(run, manifest, run.decision, views)
    own = next((one for one in reversed(saved) if _holds(one, now.get("test"))), None)
    return ModelScores(own, tuple((_other_name(one, now.get(one.split)), one) for one in saved if one is not own))


def _holds(saved: SavedEvaluation, now: Origin | None) -> bool:
    return saved.origin is not None and now is not None and saved.origin.key == now.key


def _other_name(saved: SavedEvaluation, now: Origin | None) -> str:
    """Its name, and how it differs from what an evaluation of that split would be now."""
    was = saved.origin
    if was is None:
        return f"{saved.name}, origin unknown"
    notes = []
    if was.manifest is None and (now is None or was.photos != now.photos):
        notes.append("earlier photos")
    if now is not None and was.weights != now.weights:
        notes.append("earlier weights")
    if now is not None and was.thresholds is None and was.decision != now.decision:
        notes.append("another decision")
    if now is not None and was.views != now.views:
        notes.append(f"views {', '.join(dict.fromkeys(was.views))}")
    return ", ".join([saved.name, *notes])
