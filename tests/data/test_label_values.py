"""Labels in many spellings, renamed labels, labels that may be one."""

import difflib
import itertools
import shlex

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modiste.config import DataConfig
from modiste.data.label_values import read_renames, resolve_renames, similar_names
from modiste.data.manifest import Manifest
from modiste.errors import LabelError, ManifestError, UsageError


def read(tmp_path, cells, column="kind", **config):
    """A manifest of one label column."""
    path = tmp_path / "a.csv"
    pl.DataFrame({"image": [f"{k}.jpg" for k in range(len(cells))], column: cells}).write_csv(path)
    return Manifest.read(path, DataConfig(label_columns=(column,), **config))


def labels(manifest):
    """The label of each photo; None is unknown."""
    ids = manifest.label_set.ids
    return [None if (row == -1).all() else [ids[k] for k in np.flatnonzero(row == 1)] for row in manifest.targets]


def test_the_most_frequent_spelling_stays(tmp_path):
    manifest = read(tmp_path, ["Red", "red", "red ", "RED", "blue", "caf\u00e9", "cafe\u0301", "cafe\u0301"])
    assert labels(manifest) == [["red"]] * 4 + [["blue"]] + [["caf\u00e9"]] * 3
    told = " ".join(manifest.notes)
    assert "'RED', 'Red' as 'red'" in told or "'Red', 'RED' as 'red'" in told
    assert "2 more" not in told and "read as one" in told
    same = read(tmp_path, ["caf\u00e9", "cafe\u0301", "tee"])
    assert same.label_set.ids == ("caf\u00e9", "tee")
    assert any("look the same, read as one: 'caf\u00e9'" in note for note in same.notes)
    ties = read(tmp_path, ["COAT", "coat", "Coat"])
    assert ties.label_set.ids == ("Coat",)


def test_one_cell_with_two_spellings_has_one_label(tmp_path):
    assert labels(read(tmp_path, ["Red|red", "blue"], column="tags")) == [["Red"], ["blue"]]


def test_words_of_a_given_set_are_found_in_any_spelling(tmp_path):
    trained = read(tmp_path, ["Dress", "Coat"])
    path = tmp_path / "b.csv"
    path.write_text("image,kind\na.jpg,dress\nb.jpg,COAT \n")
    again = Manifest.read(path, DataConfig(label_columns=("kind",)), trained.label_set)
    assert labels(again) == [["Dress"], ["Coat"]]


def test_hyphens_plurals_and_single_letters_stay_apart(tmp_path):
    names = ["Tshirt", "T-Shirt", "Tshirts", "trouser", "trousers"]
    assert read(tmp_path, names).label_set.ids == tuple(sorted(names))


def test_renamed_labels_are_one(tmp_path):
    cells = ["Tshirt", "T-Shirt", "Tshirts", "coat"]
    manifest = read(tmp_path, cells, rename=(("Tshirt", "T-Shirt"), ("Tshirts", "Tshirt")))
    assert labels(manifest) == [["T-Shirt"]] * 3 + [["coat"]]


def test_renamed_columns_are_one_label(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,tshirt,tee,coat\na,1,0,0\nb,0,0,1\nc,0,1,0\nd,,0,1\ne,0,,0\nf,,,0\n")
    manifest = Manifest.read(path, DataConfig(rename=(("tee", "tshirt"),)))
    assert manifest.label_set.ids == ("tshirt", "coat")
    np.testing.assert_array_equal(manifest.targets[:, 0], [1, 0, 1, 0, 0, -1])


def test_two_columns_with_one_name_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,Red,red\na,1,0\nb,0,1\n")
    with pytest.raises(ManifestError, match=r"got 'Red' and 'red'. Try --rename 'red=Red'"):
        Manifest.read(path)
    assert Manifest.read(path, DataConfig(rename=(("red", "Red"),))).label_set.ids == ("Red",)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("a", "b"), ("b", "a")], "renames to end, but got a -> b -> a"),
        ([("a", "b"), ("b", "c"), ("c", "b")], "renames to end"),
        ([("a", "b"), ("a", "c")], "one new name for 'a'"),
    ],
)
def test_renames_that_make_no_sense_are_refused(pairs, words):
    with pytest.raises(UsageError, match=words):
        resolve_renames(pairs)


def test_renames_follow_each_other():
    assert resolve_renames([("a", "b"), ("b", "c"), ("d", "d")]) == {"a": "c", "b": "c"}


def test_a_rename_of_nothing_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(UsageError, match=r"label 'tshrt' .*one such as 'tshirt'"):
        read(tmp_path, ["tshirt", "coat"], rename=(("tshrt", "tee"),))


def test_a_rename_of_nothing_is_refused_in_a_given_set_too(tmp_path):
    trained = read(tmp_path, ["tshirt", "coat"])
    path = tmp_path / "b.csv"
    path.write_text("image,kind\na.jpg,tee\n")

    def again(asked, **config):
        config = DataConfig(label_columns=("kind",), **config)
        return Manifest.read(path, config, trained.label_set, asked=asked)

    own, other = (("tee", "tshirt"),), (("jacket", "coat"),)
    assert labels(again(DataConfig(rename=own), rename=own + other)) == [["tshirt"]]  # the other one is a run's
    with pytest.raises(UsageError, match=r"label 'jacket' in .*, to rename it, but got none. Try one such as 'tee'"):
        again(None, rename=own + other)


def test_a_rename_of_what_another_one_gives_is_no_rename_of_nothing(tmp_path):
    manifest = read(tmp_path, ["tee", "coat"], rename=(("tee", "tshirt"), ("tshirt", "T-shirt")))
    assert labels(manifest) == [["T-shirt"], ["coat"]]


def test_words_that_are_kept_to_no_effect_are_told(tmp_path):
    kept = read(tmp_path, ["NA", "none", "coat"], keep_as_label=("na", "coat", "null"))
    assert labels(kept) == [["NA"], None, ["coat"]]
    told = [note for note in kept.notes if "--keep-as-label" in note and "changes nothing" in note]
    assert told == [
        "--keep-as-label coat changes nothing: it is a label anyway.",
        "--keep-as-label null changes nothing: no cell of a label column holds it.",
    ]
    kept.write(tmp_path / "clean.csv")
    again = Manifest.read(tmp_path / "clean.csv", DataConfig(keep_as_label=("na",)))
    assert not any("changes nothing" in note for note in again.notes)


def test_several_words_outside_a_given_set_are_named_at_once_with_renames_that_work(tmp_path):
    trained = read(tmp_path, ["T-Shirt", "Long Dress", "Coat"])
    path = tmp_path / "b.csv"
    path.write_text("image,kind\na.jpg,Tshirt\nb.jpg,LongDres\nc.jpg,Coat\nd.jpg,Lamp\n")

    def again(**config):
        return Manifest.read(path, DataConfig(label_columns=("kind",), **config), trained.label_set)

    with pytest.raises(LabelError) as refused:
        again()
    assert "'kind' in row 2 of" in str(refused.value)
    assert "one of 'Coat', 'Long Dress', 'T-Shirt', but got 'Tshirt', 'LongDres', 'Lamp'." in str(refused.value)
    assert "Try --rename Tshirt=T-Shirt --rename 'LongDres=Long Dress', or blanking" in str(refused.value)
    words = shlex.split(str(refused.value).partition("Try ")[2].partition(", or")[0])
    renames = tuple(tuple(word.split("=")) for word in words if "=" in word)
    path.write_text(path.read_text().replace("Lamp", ""))  # as it says
    assert labels(again(rename=renames)) == [["T-Shirt"], ["Long Dress"], ["Coat"], None]


def test_renames_from_a_table():
    table = pl.DataFrame({"Old": ["a", "b"], "New": ["c", ""]})
    assert read_renames("x.csv", table) == [("a", "c")]
    with pytest.raises(UsageError, match="a first line 'old,new'"):
        read_renames("x.csv", pl.DataFrame({"from": ["a"], "to": ["b"]}))


def by_hand(one, other):
    """Whether two names are one letter, a plural, a hyphen or a blank apart, by comparing letters."""
    one, other = (name.lower().replace("-", "").replace(" ", "").replace("_", "") for name in (one, other))
    short, long = sorted((one, other), key=len)
    if one == other or long in (short + "s", short + "es"):
        return True
    if len(short) < 4 or short[-1].isdigit() or long[-1].isdigit():
        return False
    edits = sum(
        max(b - a, d - c)
        for tag, a, b, c, d in difflib.SequenceMatcher(None, one, other, False).get_opcodes()
        if tag != "equal"
    )
    closest = min(edits, sum(a != b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else edits)
    return closest <= 1


@given(
    st.lists(
        st.text("abs-", min_size=1, max_size=6).filter(lambda name: name.strip("-")),
        min_size=2,
        max_size=8,
        unique=True,
    )
)
def test_similar_names_are_those_that_comparing_all_pairs_finds(names):
    expected = {frozenset(pair) for pair in itertools.combinations(names, 2) if by_hand(*pair)}
    assert {frozenset(pair) for pair in similar_names(names)} == expected


def test_similar_names():
    names = ["Tshirt", "T-Shirt", "Tshirts", "dress", "dresses", "shirt", "size 1", "size 2", "red", "bed"]
    found = {frozenset(pair) for pair in similar_names(names)}
    assert {"Tshirt", "T-Shirt"} in found and {"dress", "dresses"} in found
    assert not any(pair in ({"size 1", "size 2"}, {"red", "bed"}) for pair in found)
