"""Cells as programs spell them, against the programs themselves."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modiste.data.cells import are_vectors, braced_list, spelling_key, spelt_list, tidy

WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=6).map(str.strip).filter(bool)
)


@given(WORDS)
def test_lists_as_python_and_json_spell_them(words):
    assert spelt_list(repr(words)) == words
    assert spelt_list(repr(tuple(words))) == words
    assert spelt_list(json.dumps(words)) == words
    assert spelt_list(json.dumps(words, ensure_ascii=False)) == words
    assert spelt_list(json.dumps({"choices": words})) == words
    if words:
        assert sorted(spelt_list(repr(set(words)))) == sorted(set(words))


@given(st.lists(st.text("abc d", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=2))
def test_lists_as_numpy_spells_them(words):
    assert spelt_list(str(np.array(words, dtype=object))) == words


def test_lists_as_postgresql_spells_them():
    assert braced_list('{casual,"light blue"}') == ["casual", "light blue"]
    assert braced_list("{}") == []
    assert braced_list("casual") is None


@pytest.mark.parametrize(
    "cell", ["", "red", "[new", "(red)", "a [b]", '{"a": 1, "b": 2}', "[[1], [2]]", "{a,b}", "f(1)"]
)
def test_what_is_no_list(cell):
    assert spelt_list(cell) is None


def test_no_code_in_a_cell_runs():
    assert spelt_list("[__import__('os').getcwd()]") is None
    assert spelt_list("[" * 5000 + "]" * 5000) is None


def test_rows_of_ones_and_zeros_are_vectors():
    assert are_vectors([["0", "1", "0"], ["1", "0", "0"]])
    assert are_vectors([["1", "0"], ["0", "1"]])
    assert not are_vectors([["0", "1"], ["0", "1"]])  # two class numbers
    assert not are_vectors([["0"], ["1", "0"]])
    assert not are_vectors([["red", "blue"], ["red", "red"]])


@pytest.mark.parametrize(
    "words",
    [
        ("Red", "red", " red ", "RED"),
        ("caf\u00e9", "cafe\u0301", "CAF\u00c9"),
        ("T-shirt", "t\u2011shirt", "T\u2010Shirt"),
        ("dress", "dre\u00adss", "dress\u200b", "\ufeffdress"),
        ("robe d'\u00e9t\u00e9", "Robe\u00a0d'\u00e9t\u00e9", "robe  d'\u00e9t\u00e9"),
        ("Stra\u00dfe", "STRASSE"),
    ],
)
def test_spellings_of_one_word_have_one_key(words):
    assert len({spelling_key(word) for word in words}) == 1


def test_words_that_differ_have_different_keys():
    assert len({spelling_key(word) for word in ("T-shirt", "Tshirt", "T shirts", "tshirts", "001", "01", "1")}) == 7


def test_a_tidy_word_looks_the_same():
    assert tidy("  cafe\u0301\u200b\u00a0au  lait ") == "caf\u00e9 au lait"
