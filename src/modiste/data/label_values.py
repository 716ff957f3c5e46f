"""What label columns hold: LabelColumn -> LabelSet and targets, spellings of one label joined, labels renamed."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.cells import MISSING, spelling_key, tidy
from modiste.data.label_columns import LabelColumn, lookup
from modiste.data.label_groups import renamed
from modiste.data.table import Table
from modiste.errors import LabelError, ManifestError, UsageError
from modiste.labels import UNKNOWN, Group, Label, LabelSet

_SHOWN = 4  # examples in a sentence
_MOST_KNOWN = 10  # labels in a sentence


def read_labels(
    table: Table,
    columns: Sequence[LabelColumn],
    label_set: LabelSet | None,
    renames: Mapping[str, str],
    left_out: Collection[str] = (),
) -> tuple[LabelSet, np.ndarray, list[str]]:
    """Map the label columns into `label_set`, or into a set made from them where it is None.

    Args:
        table: where they stand.
        columns: as `label_columns` finds them.
        label_set: the set to map into.
        renames: old -> new names of labels, as `resolve_renames` gives them.
        left_out: labels that may stand there and are not in the set; `Manifest.read` has what they mean.

    Returns:
        The label set, the targets (n, labels) int8: 1, 0, UNKNOWN, and what was guessed.

    Raises:
        LabelError: a column or a value is not in the given set, or there is no label at all.
        ManifestError: two columns have one name.
    """
    given = label_set or (table.label_set and renamed(table.label_set, renames))
    flags = _flag_columns(table, columns, renames)
    texts = [column for column in columns if column.kind != "one-hot"]
    words = {column.name: _word_rows(column) for column in texts}
    notes = []
    known = None if given is None else lookup(given)
    for name, cells in list(words.items()):
        words[name], told = _one_spelling(name, _renamed(cells, renames), known)
        notes += told
    label_set = given or _made(table, flags, texts, words)
    flags = {name: codes for name, codes in flags.items() if name not in left_out}
    targets = _Mapping(table, label_set, left_out).targets(columns, flags, words)
    return label_set, targets, notes


def _renamed(cells: pl.DataFrame, renames: Mapping[str, str]) -> pl.DataFrame:
    """Words under their new names, in whatever spelling the old ones stand."""
    if not renames:
        return cells
    keys = {spelling_key(old): new for old, new in renames.items()}
    there = cells["word"].unique().to_list()
    new = {word: renames.get(word, keys.get(spelling_key(word), word)) for word in there}
    return cells.with_columns(pl.col("word").replace(new))


def has_labels(columns: Sequence[LabelColumn]) -> bool:
    """Whether there is anything to make a label set from."""
    return any(column.kind == "one-hot" or len(_word_rows(column)) for column in columns)


def resolve_renames(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Old -> final name, where a new name may be renamed in turn.

    Raises:
        UsageError: a name has two new ones, or renames go round.
    """
    names: dict[str, str] = {}
    for old, new in pairs:
        if names.setdefault(old, new) != new:
            got = f"'{names[old]}' and '{new}'"
            raise UsageError.expected(f"one new name for '{old}'", got, "one --rename for each label")
    final = {}
    for old, new in names.items():
        seen, name = [old], new
        while name in names and name != names[name]:
            seen.append(name)
            name = names[name]
            if name in seen:
                raise UsageError.expected("renames to end", " -> ".join([*seen, name]), "leaving one of them out")
        final[old] = name
    return {old: new for old, new in final.items() if old != new}


def read_renames(path: Path, table: pl.DataFrame) -> list[tuple[str, str]]:
    """The pairs of a table with the columns old and new.

    Raises:
        UsageError: it has other columns.
    """
    lower = {name.lower(): name for name in table.columns}
    if not {"old", "new"} <= set(lower):
        got = ", ".join(f"'{name}'" for name in table.columns)
        raise UsageError.expected(f"columns 'old' and 'new' in {path}", got, "a first line 'old,new'")
    return [(old, new) for old, new in table.select(lower["old"], lower["new"]).iter_rows() if old and new]


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of labels that may be one: apart by a hyphen, a blank, a plural or one letter."""
    plain = [spelling_key(name).replace("-", "").replace(" ", "").replace("_", "") for name in names]
    found = []
    for i, j in _near(plain):
        one, other = sorted((plain[i], plain[j]), key=len)
        plural = other in (f"{one}s", f"{one}es")
        letter = min(len(one), len(other)) >= 4 and not (one[-1:].isdigit() or other[-1:].isdigit())
        if one == other or plural or letter:
            found.append((names[i], names[j]))
    return found


def _near(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs at most one letter apart (or two, as plural), by their deletions: no pair is compared with every other."""
    places: dict[str, list[int]] = defaultdict(list)
    for k, word in enumerate(words):
        for key in {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}:
            places[key].append(k)
        if word.endswith("es"):
            places[word[:-2]].append(k)
    pairs = {(i, j) for at in places.values() for n, i in enumerate(at) for j in at[n + 1 :] if i != j}
    for i, j in sorted({(min(pair), max(pair)) for pair in pairs}):
        if _one_edit(words[i], words[j]):
            yield i, j


def _one_edit(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if long in (f"{short}s", f"{short}es"):
        return True
    if len(long) - len(short) > 1:
        return False
    at = next((k for k, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at:] == long[at + 1 :] or short[at + 1 :] == long[at + 1 :]


def _flag_columns(table: Table, columns: Sequence[LabelColumn], renames: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Label -> codes (n,) int8; columns that are renamed to one label become one: 1 where either is 1."""
    found: dict[str, np.ndarray] = {}
    spelt: dict[str, str] = {}
    for column in columns:
        if column.kind != "one-hot":
            continue
        codes, name = column.cells.to_numpy(), renames.get(column.name, column.name)
        key = spelling_key(name)
        if key in spelt and column.name not in renames and spelt[key] not in renames.values():
            got = f"'{spelt[key]}' and '{column.name}'"
            fix = f"--rename '{column.name}={spelt[key]}' to take them for one label"
            raise ManifestError.expected(f"label columns of {table.path} to have different names", got, fix)
        spelt[key] = name
        found[name] = np.maximum(found[name], codes) if name in found else codes
    return found


def _word_rows(column: LabelColumn) -> pl.DataFrame:
    """Columns row and word: every value of a category or list column; unknown gives none."""
    frame = pl.DataFrame({"row": np.arange(len(column.cells)), "word": column.cells})
    if column.kind == "list":
        frame = frame.explode("word").drop_nulls("word").with_columns(pl.col("word").str.strip_chars())
    return frame.filter(pl.col("word") != "")


def refuse_unused(
    table: Table, columns: Sequence[LabelColumn], renames: Sequence[tuple[str, str]], written: Collection[str]
) -> None:
    """Refuse renames of what no cell and no column holds.

    Args:
        table: where the columns stand.
        columns: those that hold labels.
        renames: old and new names.
        written: labels of a table that modiste wrote; a rename to one of them was done then.

    Raises:
        UsageError: there is nothing to rename.
    """
    if not renames:
        return
    there = {column.name for column in columns if column.kind == "one-hot"} | _words(columns)
    keys = {spelling_key(name) for name in (*there, *(new for _, new in renames))}
    for old, new in renames:
        if spelling_key(old) not in keys and new not in written:
            near = difflib.get_close_matches(old, sorted(there), n=3) or sorted(there)[:3]
            shown = ", ".join(f"'{name}'" for name in near)
            fix = f"one such as {shown}" if shown else "without --rename"
            raise UsageError.expected(f"label '{old}' in {table.path}, to rename it", "none", fix)


def unused_words(table: Table, columns: Sequence[LabelColumn], words: Sequence[str]) -> list[str]:
    """A sentence for each word of --keep-as-label that changes nothing: no cell holds it, or it is a label anyway."""
    if not words:
        return []
    there = {word.casefold() for word in _words(columns)}
    there |= {label.rpartition("=")[2].casefold() for label in (table.label_set.ids if table.label_set else ())}
    notes = []
    for word in words:
        if word.casefold() not in there:
            notes.append(f"--keep-as-label {word} changes nothing: no cell of a label column holds it.")
        elif word.lower() not in MISSING:
            notes.append(f"--keep-as-label {word} changes nothing: it is a label anyway.")
    return notes


def _words(columns: Sequence[LabelColumn]) -> set[str]:
    """All words of category and list columns."""
    texts = [column for column in columns if column.kind != "one-hot"]
    return {word for column in texts for word in _word_rows(column)["word"].unique().to_list()}


def _one_spelling(column: str, words: pl.DataFrame, known: Mapping[str, int] | None) -> tuple[pl.DataFrame, list[str]]:
    """Words in one spelling each, the most frequent one, or that of the label set; and which were joined."""
    counts = dict(words["word"].value_counts(name="count").iter_rows())
    keys = {} if known is None else {spelling_key(name): name for name in reversed(list(known))}
    chosen: dict[str, str] = {}
    joined: dict[str, list[str]] = defaultdict(list)
    for word in sorted(counts, key=lambda word: (-counts[word], word.isupper(), word.islower(), word)):
        if known is not None and word in known:
            continue
        key = spelling_key(word)
        name = keys.get(key) if known is not None else chosen.setdefault(key, tidy(word))
        if name is not None and name != word:
            joined[name].append(word)
    if not joined:
        return words, []
    one = {word: name for name, others in joined.items() for word in others}
    cells = sum(counts[word] for word in one)
    holding = "1 cell holds" if cells == 1 else f"{cells:,} cells hold"
    note = f"{holding} labels of '{column}' in {_other_spellings(joined)}."
    return words.with_columns(pl.col("word").replace(one)).unique(maintain_order=True), [note]


def _other_spellings(joined: Mapping[str, Sequence[str]]) -> str:
    """Which spellings are read as one, those that a person can see first."""
    seen = {name: [f"'{word}'" for word in others if tidy(word) != name] for name, others in joined.items()}
    visible = [f"{', '.join(others)} as '{name}'" for name, others in seen.items() if others]
    if not visible:
        names = ", ".join(f"'{name}'" for name in list(joined)[:_SHOWN])
        return f"spellings that look the same, read as one: {names}" + _more(len(joined) - _SHOWN)
    return f"other spellings, read as one: {'; '.join(visible[:_SHOWN])}" + _more(len(joined) - len(visible[:_SHOWN]))


def _more(count: int) -> str:
    return f" and {count:,} more" if count > 0 else ""


def _made(
    table: Table, flags: Mapping[str, np.ndarray], texts: Sequence[LabelColumn], words: Mapping[str, pl.DataFrame]
) -> LabelSet:
    """One free group of the one-hot columns, and one group a category or list column."""
    groups: dict[str, tuple[list[str], bool]] = {"labels": (list(flags), False)}
    for column in texts:
        values = sorted(words[column.name]["word"].unique().to_list())
        clash = set(values) & set(flags)
        ids = [f"{column.name}={value}" for value in values] if len(texts) > 1 or clash else values
        before = groups.get(column.name, ([], False))[0]  # a list column may itself be called "labels"
        groups[column.name] = (before + ids, column.kind == "category")
    made = tuple(Group(name, tuple(map(Label, ids)), exclusive) for name, (ids, exclusive) in groups.items() if ids)
    return LabelSet(table.path.stem, made)


class _Mapping:
    """Maps words into a label set; `left_out` are labels that may stand there and are not in it."""

    def __init__(self, table: Table, label_set: LabelSet, left_out: Collection[str]) -> None:
        self._table, self._label_set, self._left_out = table, label_set, left_out
        self._known = lookup(label_set)

    def targets(
        self, columns: Sequence[LabelColumn], flags: Mapping[str, np.ndarray], words: Mapping[str, pl.DataFrame]
    ) -> np.ndarray:
        """(n, labels) int8 of one-hot columns and of the words of the others."""
        targets = np.full((len(self._table.frame), len(self._label_set)), UNKNOWN, np.int8)
        open_labels = np.ones(len(self._label_set), bool)  # not the business of a one-hot column
        for name, codes in flags.items():
            if name not in self._known:
                strange = [one for one in flags if one not in self._known]
                groups = [one.name for one in self._label_set.groups if one.name in self._table.frame.columns]
                fix = f"--labels {','.join(groups) or 'with the label columns alone'}"
                raise _not_labels(strange, f"each label column of {self._table.path}", self._label_set.ids, fix)
            targets[:, self._known[name]] = codes
            open_labels[self._known[name]] = False
        for column in columns:
            if column.kind != "one-hot":
                self._add_words(targets, open_labels, column, words[column.name])
        return targets

    def _add_words(
        self, targets: np.ndarray, open_labels: np.ndarray, column: LabelColumn, cells: pl.DataFrame
    ) -> None:
        if not len(cells):
            return
        positions = self._positions(column.name, cells)
        rows = cells["row"].to_numpy()
        filled = np.flatnonzero(column.cells.is_not_null().to_numpy()) if column.kind == "list" else rows
        for where, exclusive in _group_positions(self._label_set):
            hit = np.isin(positions, where)
            if not hit.any():
                continue  # a column speaks for the groups that its values belong to
            speaks = np.zeros((len(targets), 1), bool)
            speaks[rows[hit | (positions < 0)] if exclusive or column.kind == "category" else filled] = True
            inside = slice(where[0], where[-1] + 1)  # a group's labels stand side by side
            known = speaks if open_labels[inside].all() else speaks & open_labels[inside]
            np.maximum(targets[:, inside], 0, out=targets[:, inside], where=known)
        held = positions >= 0
        targets[rows[held], positions[held]] = 1

    def _positions(self, column: str, cells: pl.DataFrame) -> np.ndarray:
        """(cells,) int positions of the words, -1 of those left out; sets of several columns say "column=word"."""
        known = self._known
        place = {word: known.get(f"{column}={word}", known.get(word, -1)) for word in cells["word"].unique()}
        positions = cells["word"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        gone = [word for word in place if word in self._left_out or f"{column}={word}" in self._left_out]
        strange = (positions < 0) & ~cells["word"].is_in(gone).to_numpy()
        if strange.any():
            first = int(np.argmax(strange))
            where = f"'{column}' in {self._table.row(int(cells['row'][first]))} of {self._table.path}"
            words = cells.filter(strange)["word"].unique(maintain_order=True).to_list()
            raise _not_labels(words, where, self._group(column), "blanking such cells, which makes them unknown")
        return positions

    def _group(self, column: str) -> list[str]:
        """The labels that a column may hold, as its cells say them: those of the group of its name, else all."""
        groups = self._label_set.groups
        labels = next((one.labels for one in groups if one.name == column), tuple(self._label_set))
        return [label.id.removeprefix(f"{column}=") for label in labels]


def _group_positions(label_set: LabelSet) -> Iterator[tuple[np.ndarray, bool]]:
    start = 0
    for group in label_set.groups:
        yield np.arange(start, start + len(group.labels)), group.exclusive
        start += len(group.labels)


def _not_labels(words: Sequence[str], where: str, known: Sequence[str], otherwise: str) -> LabelError:
    """The error that names words that are no labels, the labels, and the renames that mend it, or what else does."""
    keys = {_bare(label): label for label in reversed(known)}
    near = {word: difflib.get_close_matches(_bare(word), keys, n=1) for word in words[:_SHOWN]}
    renames = [f"--rename {shlex.quote(f'{word}={keys[close[0]]}')}" for word, close in near.items() if close]
    fix = f"{' '.join(renames)}, or {otherwise}" if renames else otherwise
    got = ", ".join(f"'{word}'" for word in near) + _more(len(words) - _SHOWN)
    shown = ", ".join(f"'{label}'" for label in known[:_MOST_KNOWN]) + _more(len(known) - _MOST_KNOWN)
    return LabelError.expected(f"{where} to be one of {shown}", got, fix)


def _bare(word: str) -> str:
    """A word without what spellings differ in."""
    return re.sub(r"[\W_]+", "", spelling_key(word))
