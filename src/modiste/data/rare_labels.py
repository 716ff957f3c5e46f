"""Labels with too few training photos are left out, and labels that a split lacks are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modiste.data.manifest import Manifest
from modiste.errors import ManifestError
from modiste.labels import Group, LabelSet
from modiste.words import counted

LEFT_OUT = "left_out"  # column of a manifest: labels of a photo that are left out, parted by "|"
_SHOWN = 30  # labels in a sentence


@dataclass(frozen=True)
class FrequentLabels:
    """A manifest with the labels that can be learnt.

    Attributes:
        manifest: without the others; photos of a left-out value of an exclusive group have none of its labels.
        left_out: labels with too few training photos, and how many they have.
        unmeasured: split -> labels that no photo of it has; their scores are unknown there.
        least: training photos that a label needs.
    """

    manifest: Manifest
    left_out: Mapping[str, int]
    unmeasured: Mapping[str, Sequence[str]]
    least: int

    def notes(self) -> list[str]:
        """What a person should know, a sentence each."""
        notes = []
        if self.left_out:
            rare = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
            listed = ", ".join(f"{name} {count}" for name, count in rare[:_SHOWN])
            more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
            least = counted(self.least, "training photo")
            notes.append(
                f"{counted(len(rare), 'label')} with fewer than {least} left out (--min-positives): {listed}{more}."
            )
        for split, labels in self.unmeasured.items():
            listed = ", ".join(labels[:_SHOWN]) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")
            notes.append(f"No {split} photo has {listed}: trained, but not measured there.")
        return notes


def frequent_labels(manifest: Manifest, least: int, *, folds: bool = False) -> FrequentLabels:
    """Leave out labels with fewer than `least` training photos, and at any rate those without one.

    Args:
        manifest: with splits, or with folds.
        least: training photos that a label needs.
        folds: count the photos of all folds, and ask for one outside each.

    Raises:
        ManifestError: no photo trains, or no label is left.
    """
    if not folds:
        manifest.part("train")
    positive = manifest.targets == 1
    counts = _in_folds(manifest, positive) if folds else positive[manifest.parts == "train"].sum(axis=0)
    rare = counts < max(least, 1)
    if rare.all():
        got = f"{counts.max(initial=0)} at most"
        fix = "--min-positives 1, more photos, or --labels with other columns"
        raise ManifestError.expected(f"a label of {manifest.source} with {counted(least, 'training photo')}", got, fix)
    left_out = {manifest.label_set.ids[k]: int(counts[k]) for k in np.flatnonzero(rare)}
    kept = _without(manifest, rare) if rare.any() else manifest
    unmeasured = {}
    for split in () if folds else ("val", "test"):
        inside = kept.parts == split
        lacking = [kept.label_set.ids[k] for k in np.flatnonzero(~(kept.targets[inside] == 1).any(axis=0))]
        if inside.any() and lacking:
            unmeasured[split] = lacking
    return FrequentLabels(kept, left_out, unmeasured, least)


def left_out(manifest: Manifest) -> frozenset[str]:
    """Labels that are left out of a manifest, and that one of its photos has."""
    if LEFT_OUT not in manifest.frame.columns:
        return frozenset()
    return frozenset(name for cell in manifest.frame[LEFT_OUT] for name in cell.split("|") if name)


def _in_folds(manifest: Manifest, positive: np.ndarray) -> np.ndarray:
    """Photos of each label in all folds; 0 where one fold has them all."""
    numbers = manifest.frame["fold"].to_numpy()
    inside = positive[numbers >= 0].sum(axis=0)
    most = np.max([positive[numbers == fold].sum(axis=0) for fold in set(numbers.tolist()) - {-1}], axis=0)
    return np.where(most == inside, 0, inside)


def _without(manifest: Manifest, rare: np.ndarray) -> Manifest:
    names = np.array(manifest.label_set.ids, dtype=object)[rare]
    held = manifest.targets[:, rare] == 1
    before = manifest.frame[LEFT_OUT].to_list() if LEFT_OUT in manifest.frame.columns else [""] * len(manifest)
    told = ["|".join(filter(None, [old, *names[row]])) for old, row in zip(before, held, strict=True)]
    groups, start = [], 0
    for group in manifest.label_set.groups:
        labels = tuple(one for k, one in enumerate(group.labels, start) if not rare[k])
        start += len(group.labels)
        if labels:
            groups.append(Group(group.name, labels, group.exclusive and len(labels) > 1))
    label_set = LabelSet(manifest.label_set.name, tuple(groups))
    return replace(manifest, label_set=label_set, targets=manifest.targets[:, ~rare]).with_column(LEFT_OUT, told)
