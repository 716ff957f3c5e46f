"""Columns of yes and no, in any spelling -> 1, 0 and unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from modiste.data.cells import FLAGS, LETTERS, MARKS, MINUS_ONE, ZERO
from modiste.labels import UNKNOWN

FLAG_WORDS = frozenset(FLAGS) - MARKS - LETTERS  # of these, no other meaning is likely
_UNKNOWN_WORD = "\0unknown"  # stands in a column for a word that means unknown
_SHOWN = 3  # columns in a sentence


def are_flags(words: set[str], *, named: bool) -> bool:
    """Whether the words of a column are yes and no, and nothing else, such as sizes or genders.

    Args:
        words: spellings of yes and no, in lower case.
        named: the column was named as one of labels.
    """
    if words <= LETTERS and not named:
        return words in ({"y", "n"}, {"t", "f"})
    return not (words <= LETTERS and len(words) == 1 and words & {"f", "n", "t"})


def mostly_flags(cells: pl.Series) -> bool:
    """Whether more than half of a column's filled cells are yes or no."""
    return 2 * count_filled(cells.filter(cells.str.to_lowercase().is_in(list(FLAG_WORDS)))) > count_filled(cells)


def count_filled(cells: pl.Series) -> int:
    """How many cells hold anything."""
    return int((cells != "").sum())


def marked(cells: pl.Series, words: Iterable[str]) -> pl.Series:
    """Cells in which words that mean unknown differ from a blank, which may mean no."""
    return cells.replace(dict.fromkeys(words, _UNKNOWN_WORD)) if words else cells


def read_flags(columns: Mapping[str, pl.Series]) -> tuple[dict[str, pl.Series], list[str]]:
    """1, 0 and UNKNOWN (int8) for the cells of all one-hot columns of a table, and what was guessed.

    Together, as -1 is unknown where any of them holds 0 beside it, and no elsewhere.
    """
    spelt = {name: cells.unique().to_list() for name, cells in columns.items()}
    seen = {name: {word.lower() for word in words} - {_UNKNOWN_WORD} for name, words in spelt.items()}
    signed = [name for name, words in seen.items() if words & MINUS_ONE]
    zero = bool(signed) and any(words & ZERO for words in seen.values())
    codes, crossed = {}, []
    for name, cells in columns.items():
        meaning = FLAGS | {"": UNKNOWN, _UNKNOWN_WORD: UNKNOWN}
        if zero:
            meaning |= dict.fromkeys(MINUS_ONE, UNKNOWN)
        if seen[name] & MARKS and seen[name] <= MARKS | {""}:
            meaning[""] = 0
            crossed.append(name)
        codes[name] = cells.replace_strict({w: meaning[w.lower()] for w in spelt[name]}, return_dtype=pl.Int8)
    notes = []
    if signed:
        sign = "unknown, as 0 stands beside it" if zero else "no"
        notes.append(f"-1 is {sign}, in {named_columns(signed)}.")
    if crossed:
        notes.append(f"A blank beside 'x' is no, in {named_columns(crossed)}.")
    return codes, notes + _other_words(spelt, seen)


def _other_words(spelt: Mapping[str, Sequence[str]], seen: Mapping[str, set[str]]) -> list[str]:
    """The sentence that tells which words were taken for no, beside the usual ones."""
    no = {word for words in seen.values() for word in words if FLAGS.get(word) == 0} - ZERO - MINUS_ONE - {"false"}
    if not no:
        return []
    where = [name for name, words in seen.items() if words & no]
    words = ", ".join(f"'{word}'" for word in sorted({c for name in where for c in spelt[name] if c.lower() in no}))
    return [f"{words} is no and a blank is unknown, in {named_columns(where)}."]


def named_columns(names: Iterable[str]) -> str:
    """Columns, the first few by their names."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in every[:_SHOWN]) + more
