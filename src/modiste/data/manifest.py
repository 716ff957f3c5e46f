"""Manifest: which photos, which labels of them are known, and which photos train, validate and test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from modiste.config import DataConfig
from modiste.data.label_groups import choose_labels
from modiste.data.manifest_rows import read_rows
from modiste.data.photo_columns import ROLES
from modiste.data.photo_places import found_places
from modiste.data.splits import stratified_folds
from modiste.data.table import Table
from modiste.data.table_options import refuse_photo
from modiste.data.tables import labels_beside, read_table, root_beside, write_labels_beside, write_table
from modiste.errors import ManifestError
from modiste.files import StrPath
from modiste.labels import UNKNOWN, LabelSet


@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """Photos and what is known of them; every method returns a new manifest.

    Attributes:
        label_set: the label set, the order of the label axis.
        frame: one row a photo: 'id' and 'path' (str; "" is no path), and where known 'url', 'split'
            (train, val, test; "" is unused), 'group' (str; "" is a group of its own) and 'fold' (int;
            -1 is none), then the other columns of the file as str.
        targets: (n, labels) int8: 1, 0, UNKNOWN.
        root: the folder that relative paths start from.
        source: the file or folder, for messages.
        notes: what was guessed, mended or left out when it was read, a sentence each.
    """

    label_set: LabelSet
    frame: pl.DataFrame
    targets: np.ndarray
    root: Path
    source: str
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        path: StrPath,
        config: DataConfig = DataConfig(),  # noqa: B008 (frozen)
        label_set: LabelSet | None = None,
        *,
        strict: bool = True,
        left_out: Collection[str] = (),
        asked: DataConfig | None = None,
    ) -> Self:
        """Read a table of any format that docs/reference/manifest.md names, or a folder of class folders.

        Args:
            path: the file or folder.
            config: column names and so on; what it leaves out is found by the rules in docs/reference/manifest.md.
            label_set: the label set to map into; labels that the file does not speak of are UNKNOWN.
            strict: refuse rows of one photo that contradict each other and two labels of an exclusive group; else
                they stay as they are. Photos that fetch couldn't get are left out too.
            left_out: labels that are known but not in `label_set`: where one holds, none of its column's others does.
            asked: what of `config` is about this very file, so that a rename or word that stands nowhere in it is told;
                None is all of it.

        Raises:
            ManifestError: the file can't be read as photos and labels.
            LabelError: it holds a label that is not in the given set.
            UsageError: an option can have no effect on it.
        """
        path = Path(path)
        refuse_photo(path)
        table = _challenge_header(read_table(path, encoding=config.encoding, sheet=config.sheet))
        root = path if path.is_dir() else path.parent
        known = labels_beside(path) if path.is_file() else None
        own = known is not None and set(known.ids) <= set(table.frame.columns)
        if own:
            table = replace(table, label_set=known)
            root = (root / (root_beside(path) or "")).resolve()
            config = _by_role(config, table.frame.columns)
        asked = asked or config
        if config.label_columns is not None:
            table, columns = choose_labels(table, config.label_columns)
            config = config.model_copy(update={"label_columns": columns})
        if label_set is None and config.label_set is not None:
            label_set = LabelSet.read(config.label_set)
        rows = read_rows(table, config, label_set, own=own, strict=strict, left_out=left_out, asked=asked)
        root = root if config.root is None else Path(config.root)
        frame, notes = rows.frame, rows.notes
        if not path.is_dir() and not own:
            places, told = found_places(frame["path"], root)
            frame, notes = frame.with_columns(places), (*notes, *told)
        return cls(rows.label_set, frame, rows.targets, root, str(path), notes)

    def write(self, path: StrPath) -> None:
        """Write as one-hot columns (.csv, .tsv, .parquet, .jsonl; blank is unknown) that `read` reads back equal.

        The label set, with its groups, names and order, goes into `<stem>.labels.json` beside it.

        Raises:
            ManifestError: another suffix, or a label called id, path, url, split, group or fold.
        """
        path = Path(path)
        clash = next((name for name in self.label_set.ids if name in (*self.frame.columns, *ROLES)), None)
        if clash is not None:
            raise ManifestError.expected("label ids to differ from column names", f"'{clash}'", "renaming the label")
        blanks = [pl.col(pl.String).replace("", None)]
        if "fold" in self.frame.columns:
            blanks.append(pl.col("fold").replace(-1, None))
        known = pl.DataFrame(self.targets, schema={name: pl.Int8 for name in self.label_set.ids})
        flags = known.with_columns(pl.all().replace(UNKNOWN, None))
        write_table(pl.concat([self.frame.with_columns(blanks), flags], how="horizontal"), path)
        root = os.path.relpath(self.root.resolve(), path.resolve().parent)
        write_labels_beside(path, self.label_set, Path(root).as_posix())

    def __repr__(self) -> str:
        counts = Counter(self.parts.tolist())
        parts = ", ".join(f"{part or 'unused'} {counts[part]:,}" for part in sorted(counts) if set(counts) != {""})
        labels = f"{len(self.label_set)} labels of '{self.label_set.name}'"
        return f"Manifest({self.source!r}, {len(self):,} photos, {labels}{parts and f', {parts}'})"

    def __len__(self) -> int:
        return len(self.frame)

    def photo(self, k: int) -> Path:
        """Where photo `k` lies.

        Raises:
            ManifestError: the manifest gives it no path, only an id or a URL.
        """
        if not self.frame["path"][k]:
            got = f"no path for '{self.frame['id'][k]}'"
            raise ManifestError.expected(f"photos of {self.source} to be files", got, "fetching them first")
        return self.root / str(self.frame["path"][k])

    def photos(self) -> list[Path]:
        """Where all photos lie, in order.

        Raises:
            ManifestError: as `photo`.
        """
        return [self.photo(k) for k in range(len(self))]

    def absolute(self) -> Self:
        """The same photos under absolute paths, so that the written manifest may be moved."""
        root, path = self.root.resolve(), pl.col("path")
        fixed = pl.when((path == "") | path.str.starts_with("/")).then(path).otherwise(f"{root.as_posix()}/" + path)
        return replace(self, frame=self.frame.with_columns(path=fixed), root=root)

    def select(self, which: np.ndarray) -> Self:
        """The photos of a (n,) bool mask, or of int positions in their order."""
        which = np.asarray(which)
        positions = np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)
        return replace(self, frame=self.frame[positions], targets=self.targets[positions])

    def part(self, split: str) -> Self:
        """The photos of one split: train, val or test.

        Raises:
            ManifestError: there are none.
        """
        splits = self._splits()
        if not (splits == split).any():
            counted = ", ".join(f"{(splits == s).sum()} of '{s}'" for s in ("train", "val", "test") if s in splits)
            fix = "modiste split, which deals all photos anew, or --split-column with another column"
            raise ManifestError.expected(
                f"photos of split '{split}' in {self.source}", counted or "none of any split", fix
            )
        return self.select(splits == split)

    def without(self, *columns: str) -> Self:
        """The same photos without some columns of `frame`, whether it has them or not."""
        return replace(self, frame=self.frame.drop(columns, strict=False))

    def with_split(self, val_fraction: float, test_fraction: float, seed: int, stratify: Sequence[str] = ()) -> Self:
        """Deal photos into the splits that the manifest does not name, stratified over labels, groups kept whole.

        Without any split all photos are dealt. A named split stays as it is; a missing one is carved
        out of train.

        Args:
            val_fraction: of the photos that are dealt, where there is no val split; 0 makes none.
            test_fraction: likewise for test.
            seed: the same seed gives the same split.
            stratify: columns of `frame` whose values are to be spread evenly too.

        Raises:
            ManifestError: the fractions leave nothing to train on, or `stratify` names no column.
        """
        splits = self._splits()
        pool = splits == ("train" if (splits != "").any() else "")
        asked = {"val": val_fraction, "test": test_fraction}
        carved = {name: share for name, share in asked.items() if share > 0 and name not in splits}
        if sum(carved.values()) >= 1 or min(asked.values()) < 0:
            got = f"{val_fraction} and {test_fraction}"
            raise ManifestError.expected("val_fraction and test_fraction to leave photos to train on", got, "less")
        names = np.array(["train", *carved])
        dealt = self._dealt(pool, [1 - sum(carved.values()), *carved.values()], seed, stratify)
        made = splits.astype("<U5")
        made[pool] = names[dealt]
        return self.with_column("split", made.tolist())

    def with_folds(self, k: int, seed: int, stratify: Sequence[str] = ()) -> Self:
        """Number k folds from 0, stratified over labels, groups kept whole; test and unused photos get -1."""
        if k < 2:
            raise ManifestError.expected("at least 2 folds", k, "5")
        pool = self._in_folds()
        folds = np.full(len(self), -1)
        folds[pool] = self._dealt(pool, [1 / k] * k, seed, stratify)
        return self.with_column("fold", folds.tolist())

    def with_fold(self, fold: int) -> Self:
        """The photos of this fold validate, those of the others train; test and unused photos stay so.

        Raises:
            ManifestError: no photo has this fold.
        """
        folds = self.frame["fold"].to_numpy() if "fold" in self.frame.columns else np.full(len(self), -1)
        if fold < 0 or fold not in folds:
            known = ", ".join(map(str, sorted({*folds.tolist()} - {-1}))) or "no folds"
            raise ManifestError.expected(f"fold {fold} in {self.source}", known, "one of its folds")
        splits = self._splits().astype("<U5")
        pool = self._in_folds()
        splits[pool] = np.where(folds[pool] == fold, "val", np.where(folds[pool] >= 0, "train", ""))
        return self.with_column("split", splits.tolist())

    @property
    def prevalence(self) -> np.ndarray:
        """Positives / known photos of each label, (labels,) float64; nan where nothing is known."""
        known = (self.targets != UNKNOWN).sum(axis=0)
        positives = (self.targets == 1).sum(axis=0).astype(np.float64)
        shares: np.ndarray = np.full_like(positives, np.nan)
        np.divide(positives, known, out=shares, where=known > 0)
        return shares

    @property
    def parts(self) -> np.ndarray:
        """Which part each photo belongs to, (n,) str: its split; without splits its fold, "fold 0"; "" is neither."""
        splits = self._splits()
        if "fold" not in self.frame.columns or (splits != "").any():
            return splits
        return np.array([f"fold {fold}" if fold >= 0 else "" for fold in self.frame["fold"]])

    def with_column(self, name: str, values: Sequence[str] | Sequence[int]) -> Self:
        """The same photos with n values in a column such as group, split or fold."""
        frame = self.frame.with_columns(pl.Series(name, values))
        roles = [name for name in ROLES if name in frame.columns]
        return replace(self, frame=frame.select(*roles, pl.exclude(roles)))

    def _splits(self) -> np.ndarray:
        """(n,) str, all "" where the manifest names no split."""
        if "split" not in self.frame.columns:
            return np.full(len(self), "", dtype="<U5")
        return np.array(self.frame["split"].to_list(), dtype="<U5")

    def _in_folds(self) -> np.ndarray:
        splits = self._splits()
        return np.isin(splits, ("train", "val")) if (splits != "").any() else np.ones(len(self), bool)

    def _dealt(self, pool: np.ndarray, fractions: Sequence[float], seed: int, stratify: Sequence[str]) -> np.ndarray:
        """Fold number of each photo of `pool`."""
        targets, groups = [self.targets[pool]], None
        for column in stratify:
            if column not in self.frame.columns:
                raise ManifestError.expected(f"column '{column}' in {self.source}", "none", "another column")
            targets.append(self.frame[column].to_dummies().to_numpy()[pool].astype(np.int8))
        if "group" in self.frame.columns:
            named = self.frame["group"]
            groups = named.rank("dense").cast(pl.Int64).to_numpy().copy()
            alone = (named == "").to_numpy()
            groups[alone] = -1 - np.flatnonzero(alone)
            groups = groups[pool]
        return stratified_folds(np.hstack(targets), groups, fractions, seed)


def _by_role(config: DataConfig, columns: Sequence[str]) -> DataConfig:
    """The options without columns that a manifest that modiste wrote calls by their roles: --image-column photo."""
    roles = {"image_column": "path", "split_column": "split", "group_column": "group", "fold_column": "fold"}
    gone = [key for key, role in roles.items() if getattr(config, key) not in columns and role in columns]
    return config.model_copy(update=dict.fromkeys(gone))


def _challenge_header(table: Table) -> Table:
    """Columns l1..l13 are the challenge's labels."""
    label_set = LabelSet.read("jd2018")
    names = {f"l{k + 1}": label for k, label in enumerate(label_set.ids)}
    if not set(names) <= set(table.frame.columns):
        return table
    return replace(table, frame=table.frame.rename(names), label_set=label_set)
