"""What a manifest was understood to be, in a few sentences: photos, products, groups of labels, guesses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modiste.data.likely_labels import likely_labels
from modiste.data.manifest import Manifest
from modiste.data.photo_columns import FETCHED, ROLES
from modiste.labels import UNKNOWN
from modiste.words import counted

_SHOWN = 6  # labels of a group


def describe(manifest: Manifest) -> Iterator[str]:
    """What was understood, a sentence each: what there is, how labels are grouped, what was guessed and left out."""
    frame = manifest.frame
    products = ""
    if "group" in frame.columns:
        named = frame["group"].filter(frame["group"] != "")
        products = f" in {named.n_unique() + len(frame) - len(named):,} groups that stay in one split"
    labels = counted(len(manifest.label_set), "label")
    yield f"{manifest.source}: {counted(len(manifest), 'photo')}{products}, {labels}."
    start = 0
    for group in manifest.label_set.groups:
        targets = manifest.targets[:, start : start + len(group.labels)]
        yield f"  {group.name} ({_kind(targets, exclusive=group.exclusive)}): {_frequent(group.labels, targets)}"
        start += len(group.labels)
    yield from (f"  {note}" for note in manifest.notes)
    unused = unused_label_columns(manifest)
    if unused:
        shown = ", ".join(f"'{name}' ({values:,} values)" for name, values in list(unused.items())[:_SHOWN])
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        yield f"  Not taken for labels: {shown}{more}; --labels names the columns to take."


def unused_label_columns(manifest: Manifest) -> dict[str, int]:
    """Columns that look like labels and aren't used, and how many values they have."""
    roles = {*ROLES, "left_out"} | FETCHED
    columns = [name for name in manifest.frame.columns if name not in roles]
    return likely_labels(manifest.frame, columns, most=_SHOWN)


def _kind(targets: np.ndarray, *, exclusive: bool) -> str:
    unknown = int((targets == UNKNOWN).all(axis=1).sum())
    kind = "one of" if exclusive else "any of"
    return f"{kind} {targets.shape[1]:,}" + (f"; unknown for {counted(unknown, 'photo')}" if unknown else "")


def _frequent(labels: tuple[object, ...], targets: np.ndarray) -> str:
    positives = (targets == 1).sum(axis=0)
    order = np.argsort(-positives, kind="stable")
    shown = [f"{labels[k].name()} {positives[k]:,}" for k in order[:_SHOWN]]  # type: ignore[attr-defined]
    return ", ".join(shown) + (
        f", ... {labels[order[-1]].name()} {positives[order[-1]]:,}" if len(order) > _SHOWN else ""
    )  # type: ignore[attr-defined]
