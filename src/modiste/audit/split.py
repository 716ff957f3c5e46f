"""Split as a function: a manifest in, the same photos with splits or folds out."""

from __future__ import annotations

from collections.abc import Sequence

from modiste.audit.check import look
from modiste.config import DataConfig
from modiste.data.groups import keep_together
from modiste.data.manifest import Manifest
from modiste.errors import UsageError
from modiste.files import StrPath
from modiste.progress import StepProgress

_DEFAULTS = DataConfig()


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
    progress: StepProgress = lambda *_: None,
) -> Manifest:
    """Split photos into train, val and test, or into folds, stratified by label.

    Photos of one group and near duplicates stay in one split; the column group names what was kept together. Splits
    that the manifest names are replaced; with folds, its test and unused photos stay as they are.

    Args:
        manifest: the photos, or the file or folder that names them.
        val: share of the photos; None takes 0.1.
        test: likewise.
        folds: write this many fold numbers instead; test photos get none.
        seed: the same seed gives the same split.
        stratify: further columns to stratify by.
        near_duplicates: keep near duplicates in one split.
        checked: folder that `check` wrote, to reuse its thumbnails.
        workers: threads that decode; None takes one per core.
        progress: called with what is being done and how far it is.

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
        looks = look(photos, checked, workers=workers, progress=progress)
        photos = keep_together(photos, looks.alike.any)
    return deal(photos, val=val, test=test, folds=folds, seed=seed, stratify=stratify)


def deal(
    photos: Manifest,
    *,
    val: float | None = None,
    test: float | None = None,
    folds: int | None = None,
    seed: int = 0,
    stratify: Sequence[str] = (),
) -> Manifest:
    """Split photos whose column group says what has to stay together; arguments and errors as of `split`."""
    if folds is not None:
        return photos.with_folds(folds, seed, stratify)
    val = _DEFAULTS.val_fraction if val is None else val
    test = _DEFAULTS.test_fraction if test is None else test
    return photos.without("split").with_split(val, test, seed, stratify)
