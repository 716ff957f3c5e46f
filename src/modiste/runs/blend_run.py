"""A blend folder: several runs as one model, whole in itself, so that it may be moved and its runs removed.

blend.json          how the members' probabilities become one, and what they were called
members/0, 1, ...   the run folder of each member, without what only training needs
labels.json         the label set
manifest.parquet    photos, targets and split that all members share
decision.json       calibration and thresholds
format.json         of this folder, and the modiste that made it; without it, format 1
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from modiste.config import DataConfig, DecideConfig
from modiste.data.manifest import Manifest
from modiste.decisions.blend import Blend
from modiste.decisions.decision import DECISION_FILE, Decision
from modiste.errors import RunError
from modiste.files import write_text
from modiste.inference.predictor import Views
from modiste.labels import LabelSet
from modiste.runs.format import check_format, write_format
from modiste.runs.run import Run

_MEMBER_FILES = ("labels.json", DECISION_FILE, "model.safetensors", "environment.json")


@dataclass(frozen=True)
class BlendRun:
    """A blend folder that exists.

    Attributes:
        folder: the blend folder.
        members: its runs.
        blend: how their probabilities become one.
        names: what the members were called when they were blended.
        choice: how the blend was chosen, as plain data.
        label_set: those of all members.
        decision: on the blended probabilities.
    """

    folder: Path
    members: tuple[Run, ...]
    blend: Blend
    names: tuple[str, ...]
    choice: Mapping[str, Any]
    label_set: LabelSet
    decision: Decision

    @classmethod
    def write(
        cls, folder: Path, runs: Sequence[Run], manifest: Manifest, blend: Blend, choice: Mapping[str, Any]
    ) -> Self:
        """Fill an empty folder; the decision is untuned.

        Raises:
            OSError: a run has no weights, or the folder can't be written.
        """
        label_set = manifest.label_set
        content = {
            "blend": blend.to_dict(label_set),
            "members": [str(run.folder) for run in runs],
            "choice": dict(choice),
        }
        for k, run in enumerate(runs):
            (folder / "members" / str(k)).mkdir(parents=True)
            for name in _MEMBER_FILES:
                shutil.copyfile(run.folder / name, folder / "members" / str(k) / name)
            write_text(folder / "members" / str(k) / "recipe.toml", run.recipe.to_toml())  # in this format
            write_format(folder / "members" / str(k))
        write_text(folder / "blend.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        label_set.write(folder / "labels.json")
        manifest.absolute().write(folder / "manifest.parquet")
        Decision.untuned("fixed:0.5", label_set).write(folder / DECISION_FILE, label_set)
        write_format(folder)
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a blend folder.

        Raises:
            RunError: it is none or of a newer format, or one of its members is missing.
        """
        check_format(folder)
        label_set = LabelSet.read(folder / "labels.json")
        try:
            content = dict(json.loads((folder / "blend.json").read_text(encoding="utf-8")))
            names = tuple(map(str, content["members"]))
            blend = Blend.from_dict(content["blend"], label_set, len(names))
            choice = dict(content["choice"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError.expected(f"{folder} to be a blend folder", f"'{error}'", "modiste blend") from error
        members = tuple(Run.read(folder / "members" / str(k)) for k in range(len(names)))
        return cls(folder, members, blend, names, choice, label_set, Decision.of(folder, label_set))

    def manifest(self) -> Manifest:
        """The photos, targets and split that all members share."""
        return Manifest.read(self.folder / "manifest.parquet", DataConfig(), self.label_set)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"blend of {len(self.members)}"

    @property
    def data(self) -> DataConfig:
        """How the first member's manifest was read."""
        return self.members[0].data

    @property
    def decide(self) -> DecideConfig:
        """How its decision is made: as its first member's recipe says."""
        return self.members[0].decide

    @property
    def views(self) -> Views:
        """Test-time augmentation that its decision was tuned with, else that of the first member."""
        return self.own_views or self.members[0].views

    @property
    def own_views(self) -> Views | None:
        """Test-time augmentation that its decision was tuned with, in place of each member's own."""
        views: Views | None = self.decision.provenance.get("views")
        return views

    @property
    def key(self) -> str:
        """Changes where the members' or the blend's probabilities may change."""
        blend = json.dumps(self.blend.to_dict(self.label_set))
        return " ".join([*(member.key for member in self.members), blend])

    def facts(self) -> dict[str, str]:
        """What a reader of a report should know."""
        backbones = "; ".join(dict.fromkeys(member.recipe.model.title for member in self.members))
        return {
            "blend": f"{self.blend.method} of {len(self.members)} runs: {', '.join(self.names)}",
            "backbones": backbones,
            "chosen": str(self.choice.get("sentence", "")),
        }
