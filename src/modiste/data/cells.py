"""Cells as people and programs write them: lists spelt out, words for "not known", yes and no, one label in many
spellings.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# Words that programs write where nothing is known, in lower case: those that pandas reads as missing, and a dash.
MISSING = frozenset(
    {
        "nan",
        "-nan",
        "none",
        "null",
        "nil",
        "n/a",
        "na",
        "<na>",
        "#n/a",
        "#n/a n/a",
        "#na",
        "1.#ind",
        "-1.#ind",
        "1.#qnan",
    }
    | {"-1.#qnan", "-", "--", "\N{EN DASH}", "\N{EM DASH}"}
)
_YES = frozenset({"1", "1.0", "true", "yes", "y", "on", "t", "wahr", "vrai", "vero", "verdadero"})
_NO = frozenset({"0", "0.0", "false", "no", "n", "off", "f", "falsch", "faux", "falso"})
MARKS = frozenset({"x", "\N{CHECK MARK}", "\N{HEAVY CHECK MARK}"})  # for yes, where a blank is no
MINUS_ONE = frozenset({"-1", "-1.0"})  # for no, or where 0 is no, for unknown
ZERO = frozenset({"0", "0.0"})
LETTERS = frozenset("yntf")  # may as well be sizes or genders where only one of a pair occurs
FLAGS: dict[str, int] = dict.fromkeys(_YES | MARKS, 1) | dict.fromkeys(_NO | MINUS_ONE, 0)  # in lower case

REMOTE = re.compile(r"https?://", re.IGNORECASE)  # how an address on the web begins
_INVISIBLE = re.compile(
    "[\N{SOFT HYPHEN}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{WORD JOINER}\ufeff]"
)
_HYPHENS = str.maketrans(dict.fromkeys("\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}\N{MINUS SIGN}", "-"))
_SIDE_BY_SIDE = re.compile(r"""^\[\s*(['"]).*?\1(\s+(['"]).*?\3)+\s*\]$""", re.DOTALL)  # numpy writes no commas
_QUOTED = re.compile(r"""(['"])(.*?)\1""", re.DOTALL)


def spelling_key(word: str) -> str:
    """Equal for spellings of one label: case, composed and decomposed letters, blanks, what can't be seen."""
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFC", word)).translate(_HYPHENS)
    return unicodedata.normalize("NFC", " ".join(visible.split()).casefold())


def tidy(word: str) -> str:
    """A word as it is shown: composed letters, single blanks, nothing that can't be seen."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", word)).translate(_HYPHENS).split())


def is_bracketed(cell: str) -> bool:
    """Whether a cell may spell a list."""
    return (cell[:1], cell[-1:]) in {("[", "]"), ("(", ")"), ("{", "}")}


def spelt_list(cell: str) -> list[str] | None:
    """The words of a list as JSON, Python, numpy or Label Studio spell it; None where a cell is none.

    `["a", "b"]`, `['a', 'b']`, `('a', 'b')`, `{'a', 'b'}`, `['a' 'b']`, `{"choices": ["a", "b"]}`.
    """
    if not is_bracketed(cell):
        return None
    if _SIDE_BY_SIDE.match(cell):
        return [found[1] for found in _QUOTED.findall(cell)]
    value = _parsed(cell)
    if isinstance(value, dict):
        value = value.get("choices") if len(value) == 1 else None
    if not isinstance(value, (list, tuple, set, frozenset)):
        return None
    return _flat_words(sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)


def braced_list(cell: str) -> list[str] | None:
    """The words of an array as PostgreSQL spells it, `{a,"b c"}`; None where a cell is none."""
    if cell[:1] != "{" or cell[-1:] != "}" or ":" in cell or "{" in cell[1:-1]:
        return None
    inner = cell[1:-1].strip()
    return [part.strip().strip('"') for part in inner.split(",")] if inner else []


def are_vectors(lists: Sequence[Sequence[str]]) -> bool:
    """Whether lists are rows of ones and zeros, one for each label, and not lists of labels."""
    if not lists or len({len(words) for words in lists}) > 1 or len(lists[0]) < 2:
        return False
    binary = all(set(words) <= {"0", "1", "0.0", "1.0"} for words in lists)
    return binary and (any(len(set(words)) < len(words) for words in lists) or len(set(map(tuple, lists))) > 1)


def _parsed(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _flat_words(values: Iterable[Any]) -> list[str] | None:
    words = []
    for value in values:
        if value is None:
            continue
        if isinstance(value, dict) and set(value) == {"choices"}:
            words += _flat_words(value["choices"]) or []
        elif isinstance(value, (str, int, float)):
            words.append(str(value).lower() if isinstance(value, bool) else str(value).strip())
        else:
            return None
    return words
