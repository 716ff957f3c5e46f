"""Check as a function: a manifest in, findings out."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from modiste.audit.findings import MIN_SIDE, Findings, audit, findings_to_dict
from modiste.audit.near_duplicates import NearDuplicates, find_near_duplicates
from modiste.audit.page import write_check_page
from modiste.audit.thumbnails import Thumbnails, make_thumbnails
from modiste.data.manifest import Manifest
from modiste.files import StrPath, write_text
from modiste.progress import StepProgress


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
    progress: StepProgress = lambda *_: None,
) -> Findings:
    """Find what is wrong with photos and labels: broken ones, copies, leaks between splits, contradictions.

    Args:
        manifest: the photos, or the file or folder that names them, which is read leniently.
        output: folder for a page and check.json, and for what a second check needs not decode again; None writes
            nothing.
        min_side: pixels; a photo with a shorter side is tiny.
        workers: threads that decode; None takes one a core.
        progress: called with what is being done and how far it is.

    Raises:
        ManifestError: the manifest can't be read.
        StorageError: the folder can't be written.
    """
    photos = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest, strict=False)
    findings = audit(photos, *look(photos, output, workers=workers, progress=progress), min_side=min_side)
    if output is not None:
        found = json.dumps(findings_to_dict(photos, findings), ensure_ascii=False, indent=1)
        write_text(Path(output) / "check.json", found + "\n")
        write_check_page(Path(output), photos, findings, None)
    return findings


def look(
    photos: Manifest, folder: StrPath | None, *, workers: int | None = None, progress: StepProgress = lambda *_: None
) -> Looks:
    """Decode photos once, and find those that look alike.

    Args:
        photos: the photos.
        folder: where what is decoded is kept, and taken from; None keeps nothing.
        workers: threads that decode; None takes one a core.
        progress: called with what is being done and how far it is.

    Raises:
        StorageError: the folder can't be written.
    """
    if folder is None:
        with TemporaryDirectory(prefix="modiste-") as name:
            return look(photos, name, workers=workers, progress=progress)
    folder, threads = Path(folder), workers or os.cpu_count() or 1
    paths = [photos.photo(k) if path else None for k, path in enumerate(photos.frame["path"])]
    made = make_thumbnails(paths, folder, workers=threads, progress=partial(progress, "reading photos"))
    alike = find_near_duplicates(made, paths, folder, workers=threads, progress=partial(progress, "comparing"))
    return Looks(made, alike)
