"""Which photos are scored or tuned on; refused where none can be, with what would work instead."""

from __future__ import annotations

from pathlib import Path

from modiste.data.manifest import Manifest
from modiste.data.rare_labels import left_out
from modiste.data.summary import unused_label_columns
from modiste.errors import LabelError, ManifestError
from modiste.labels import UNKNOWN
from modiste.runs.blend_run import BlendRun
from modiste.runs.run import Run

_SHOWN = 6  # labels in a sentence
_SPLITS = ("test", "val", "train")  # the best one to look at first


def own_photos(run: Run | BlendRun, split: str) -> Manifest:
    """The run's own photos of a split, or with "all" every one.

    Raises:
        ManifestError: there are none, or nothing is known of their labels.
    """
    part = _of_split(run.manifest(), split, f"{run.folder}", "")
    if (part.targets == UNKNOWN).all():
        want = f"photos of split '{split}' of {run.folder} to have labels"
        raise ManifestError.expected(want, f"none on {len(part):,}", "another --split")
    return part


def other_photos(run: Run | BlendRun, manifest: Manifest, split: str) -> Manifest:
    """Photos of another manifest in the labels of a run: those of a split, or with "all" every one.

    Raises:
        ManifestError: there are none.
        LabelError: nothing is known of the labels that the run knows.
    """
    fix = "--split all, or --split-column with the column that names the splits"
    part = _of_split(manifest, split, manifest.source, fix)
    if (part.targets == UNKNOWN).all():
        raise _unlabelled(run, part)
    return part


def _of_split(manifest: Manifest, split: str, where: str, without: str) -> Manifest:
    """The photos of one split; `without` is what to try where no photo has one."""
    parts = manifest.parts
    if split == "all" or (parts == split).any():
        return manifest if split == "all" else manifest.part(split)
    there = [name for name in _SPLITS if (parts == name).any()]
    got = ", ".join(f"{(parts == name).sum():,} of '{name}'" for name in there) or "none of any split"
    fix = f"--split {there[0]}" if there else without or "modiste split, and a new run"
    raise ManifestError.expected(f"photos of split '{split}' in {where}", got, fix)


def _unlabelled(run: Run | BlendRun, part: Manifest) -> LabelError:
    """The error that names what the run knows, what it was trained without, and the columns that hold its labels."""
    ids = run.label_set.ids
    known = ", ".join(f"'{name}'" for name in ids[:_SHOWN]) + (
        f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    )
    gone = sorted(left_out(run.manifest()))
    why = "; it was trained without " + ", ".join(f"'{name}'" for name in gone[:_SHOWN]) if gone else ""
    words = {label.rpartition("=")[2] for label in ids}
    likely = [name for name in unused_label_columns(part) if words & {*part.frame[name].unique().to_list()}]
    fix = f"--labels {','.join(likely)}" if likely else "--labels with columns that hold them"
    fix = "one folder a class" if Path(part.source).is_dir() else fix
    want = f"labels in {part.source} that {run.folder} knows ({known})"
    return LabelError.expected(want, f"none{why}", fix)
