"""Check and split as functions: a manifest in, findings or a manifest with splits out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from modiste.audit.findings import MIN_SIDE, Findings, audit, findings_to_dict
from modiste.audit.near_duplicates import NearDuplicates, find_near_duplicates
from modiste.audit.page import write_check_page
from modiste.audit.thumbnails import Thumbnails, make_thumbnails
from modiste.config import DataConfig
from modiste.data.groups import keep_together
from modiste.data.manifest import Manifest
from modiste.errors import UsageError
from modiste.files import StrPath, make_folder, write_text

Progress = Callable[[str, int, int], None]  # what is being done, how far, of how much

_SHARES = DataConfig()  # where nothing is said


class Looks(NamedTuple):
    """What photos look like, and which of them look alike."""

    thumbnails: Thumbnails
    alike: NearDuplicates


def check(
    manifest: Manifest | StrPath,
    output: StrPath | None = None,
    *,
    min_side: int = MIN_SIDE,
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Findings:
    """Find what is wrong with photos and labels: broken ones, copies, leaks between splits, contradictions.

    Args:
        manifest: the photos, or the file or folder that names them, which is read leniently.
        output: folder for a page and check.json, and for what a second check needs not decode again; None writes
            nothing.
        min_side: pixels; a photo with a shorter side is tiny.
        workers: threads that decode; None takes one a core.
        progress: told what is being done and how far it is.

    Raises:
        ManifestError: the manifest can't be read.
        StorageError: the folder can't be written.
    """
    photos = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest, strict=False)
    with _folder(output) as folder:
        findings = audit(photos, *look(photos, folder, workers=workers, progress=progress), min_side=min_side)
    if output is not None:
        found = json.dumps(findings_to_dict(photos, findings), ensure_ascii=False, indent=1)
        write_text(Path(output) / "check.json", found + "\n")
        write_check_page(Path(output), photos, findings, None)
    return findings


def split(
    manifest: Manifest | StrPath,
    *,
    val: float | None = None,
    test: float | None = None,
    folds: int | None = None,
    seed: int = 0,
    stratify: Sequence[str] = (),
    near_duplicates: bool = True,
    checked: StrPath | None = None,
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Deal photos into train, val and test, or into folds, with equal shares of every label.

    Photos of one group, and photos that look alike, are never torn apart; the column group says what was kept
    together. Splits that the manifest names are made anew; with folds its test and unused photos stay what they are.

    Args:
        manifest: the photos, or the file or folder that names them.
        val, test: shares of the photos; None takes 0.1.
        folds: number this many folds instead.
        seed: the same seed gives the same split.
        stratify: columns whose values are to be spread evenly beside the labels.
        near_duplicates: whether to look for photos that look alike.
        checked: folder that `check` wrote, for what it kept of photos.
        workers: threads that decode; None takes one a core.
        progress: told what is being done and how far it is.

    Returns:
        The photos with their splits; `write` keeps them.

    Raises:
        ManifestError: the manifest can't be read, or the shares leave nothing to train on.
        StorageError: what `checked` keeps can't be written.
        UsageError: folds and shares at once.
    """
    if folds is not None and (val is not None or test is not None):
        raise UsageError.expected("folds, or val and test", "both", "one of the two")
    photos = (manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)).without("fold")
    if near_duplicates:
        with _folder(checked) as folder:
            looks = look(photos, folder, workers=workers, progress=progress)
        photos = keep_together(photos, looks.alike.any)
    if folds is not None:
        return photos.with_folds(folds, seed, stratify)
    shares = (_SHARES.val_fraction if val is None else val, _SHARES.test_fraction if test is None else test)
    return photos.without("split").with_split(*shares, seed, stratify)


def look(photos: Manifest, folder: Path, *, workers: int | None = None, progress: Progress = lambda *_: None) -> Looks:
    """Decode photos once, and find those that look alike; what `folder` keeps is taken."""
    paths = [photos.photo(k) if path else None for k, path in enumerate(photos.frame["path"])]
    threads = workers or os.cpu_count() or 1
    made = make_thumbnails(paths, folder, workers=threads, progress=partial(progress, "reading photos"))
    alike = find_near_duplicates(made, paths, folder, workers=threads, progress=partial(progress, "comparing"))
    return Looks(made, alike)


@contextmanager
def _folder(wanted: StrPath | None) -> Iterator[Path]:
    """A folder that stays, or one that goes with what is in it."""
    if wanted is not None:
        make_folder(Path(wanted))
        yield Path(wanted)
        return
    with TemporaryDirectory(prefix="modiste-") as name:
        yield Path(name)
