import numpy as np
import pytest

from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet

LABELS = LabelSet.free("three", ["shirt", "dress", "民族"])


def test_a_label_is_said_only_above_its_threshold():
    thresholds = Thresholds(np.array([0.5, 0.3, 1.0]), "by hand")
    above, below = (
        np.nextafter(np.float32([0.5, 0.3]), np.float32(1)),
        np.nextafter(np.float32([0.5, 0.3]), np.float32(0)),
    )
    probs = np.array([[0.5, 0.3, 1.0], [*above, 0.99], [*below, 0.0]], dtype=np.float32)
    decisions = thresholds.apply(probs, LABELS)
    assert decisions.dtype == np.int8
    np.testing.assert_array_equal(decisions, [[0, 0, 0], [1, 1, 0], [0, 0, 0]])


def test_apply_by_brute_force():
    rng = np.random.default_rng(0)
    probs, values = rng.random((50, 4), dtype=np.float32), rng.random(4, dtype=np.float32)
    expected = [[int(p > t) for p, t in zip(row, values, strict=True)] for row in probs]
    labels = LabelSet.free("four", ["a", "b", "c", "d"])
    np.testing.assert_array_equal(Thresholds(values, "random").apply(probs, labels), expected)


def test_of_an_exclusive_group_exactly_the_most_probable_is_said():
    rng = np.random.default_rng(1)
    garment = Group("garment", tuple(map(Label, ("dress", "shirt", "skirt"))), exclusive=True)
    labels = LabelSet("fashion", (Group("style", (Label("casual"),)), garment, Group("extra", (Label("belt"),))))
    probs = rng.random((40, 5), dtype=np.float32)
    decisions = Thresholds.fixed(0.9, 5).apply(probs, labels)
    for row, said in zip(probs.tolist(), decisions.tolist(), strict=True):
        assert said[1:4] == [int(p == max(row[1:4])) for p in row[1:4]]
        assert [said[0], said[4]] == [int(row[0] > 0.9), int(row[4] > 0.9)]
    assert decisions.dtype == np.int8
    tie = Thresholds.fixed(0.5, 5).apply(np.full((1, 5), 0.2, dtype=np.float32), labels)
    assert tie.tolist() == [[0, 1, 0, 0, 0]]


def test_thresholds_do_not_choose_inside_an_exclusive_group():
    garment = Group("garment", tuple(map(Label, ("dress", "shirt", "skirt"))), exclusive=True)
    labels = LabelSet("fashion", (Group("style", (Label("casual"),)), garment))
    probs = np.array([[0.9, 0.6, 0.3, 0.1], [0.1, 0.2, 0.7, 0.6]], np.float32)
    for values in ([0.5, 0.95, 0.05, 0.5], [0.5, 0.0, 1.0, 0.0]):
        decisions = Thresholds(np.array(values), "by hand").apply(probs, labels)
        assert decisions.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


def test_fixed():
    thresholds = Thresholds.fixed(0.5, 3)
    assert thresholds.source == "fixed 0.5"
    assert thresholds.values.dtype == np.float32
    assert thresholds.values.tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="read-only"):
        thresholds.values[0] = 0.1


@pytest.mark.parametrize("values", [[0.5, 1.01], [-0.1, 0.5], [np.nan, 0.5], [[0.5, 0.5]], 0.5])
def test_refuses_what_is_no_threshold(values):
    with pytest.raises(UsageError):
        Thresholds(np.array(values), "wrong")


@pytest.mark.parametrize("shape", [(4, 1), (4, 2), (3,)])
def test_refuses_probs_of_other_labels(shape):
    with pytest.raises(UsageError, match=r"\(n, 3\)"):
        Thresholds.fixed(0.5, 3).apply(np.zeros(shape, dtype=np.float32), LABELS)


def test_the_most_probable_free_labels_are_said_whatever_the_thresholds():
    labels = LabelSet("x", (Group("style", tuple(map(Label, "abcd"))), Group("kind", tuple(map(Label, "ef")), True)))
    probs = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    probs[0] = 0.5  # ties: the first ones in order
    for top in (1, 2, 4, 9):
        decisions = Thresholds(np.ones(6), "top", top).apply(probs, labels)
        for row, said in zip(probs, decisions, strict=True):
            best = sorted(range(4), key=lambda k: (-row[k], k))[:top]
            assert sorted(best) == np.flatnonzero(said[:4]).tolist()
            assert said[4:].sum() == 1 and said[4 + row[4:].argmax()]


def test_never_empty_adds_the_best_label_only_where_nothing_is_said():
    probs = np.array([[0.1, 0.4, 0.3], [0.9, 0.4, 0.95]], np.float32)
    labels = LabelSet.free("x", "abc")
    assert Thresholds.fixed(0.5, 3).apply(probs, labels).tolist() == [[0, 0, 0], [1, 0, 1]]
    never = Thresholds(np.full(3, 0.5), "fixed", None, True)
    assert never.apply(probs, labels).tolist() == [[0, 1, 0], [1, 0, 1]]


# Groups that may abstain

GARMENT = Group("garment", tuple(map(Label, ("dress", "shirt", "skirt"))), exclusive=True)
FASHION = LabelSet("fashion", (Group("style", (Label("casual"),)), GARMENT))


def test_a_group_says_its_most_probable_label_only_above_its_threshold():
    thresholds = Thresholds.fixed(0.9, 4).with_groups({"garment": 0.4}, FASHION)
    assert thresholds.values.tolist() == np.float32([0.9, 0.4, 0.4, 0.4]).tolist()
    above = np.nextafter(np.float32(0.4), np.float32(1))
    probs = np.array([[0.95, 0.4, 0.3, 0.3], [0.1, above, 0.39, 0], [0.1, 0.6, 0.7, 0.65], [0, 0, 0, 0]], np.float32)
    assert thresholds.apply(probs, FASHION).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_threshold_of_one_never_says_and_no_threshold_always_does():
    probs = np.array([[0.1, 1.0, 0.9, 0.3]], np.float32)
    assert Thresholds.fixed(0.5, 4).with_groups({"garment": 1}, FASHION).apply(probs, FASHION).sum() == 0
    assert Thresholds.fixed(1, 4).apply(probs / 9, FASHION).tolist() == [[0, 1, 0, 0]]


def test_never_empty_says_the_most_probable_label_of_an_unsure_group_too():
    never = Thresholds(np.full(4, 0.5), "fixed", None, True).with_groups({"garment": 0.5}, FASHION)
    probs = np.array([[0.1, 0.2, 0.4, 0.3], [0.9, 0.2, 0.4, 0.3]], np.float32)
    assert never.apply(probs, FASHION).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_what_decides_has_a_number_and_what_does_not_has_none():
    none = Thresholds.fixed(0.5, 4)
    np.testing.assert_array_equal(none.deciding(FASHION), np.float32([0.5, *[np.nan] * 3]))
    np.testing.assert_array_equal(none.with_groups({"garment": 0.75}, FASHION).deciding(FASHION), [0.5, *[0.75] * 3])
    np.testing.assert_array_equal(Thresholds(np.zeros(4), "top", 2).deciding(FASHION), [np.nan] * 4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [({"hat": 0.5}, "'hat'"), ({"style": 0.5}, "'style'"), ({"garment": 1.5}, "1.5"), ({"garment": np.nan}, "nan")],
)
def test_refuses_thresholds_of_what_is_no_exclusive_group(groups, message):
    with pytest.raises(UsageError, match=message):
        Thresholds.fixed(0.5, 4).with_groups(groups, FASHION)
