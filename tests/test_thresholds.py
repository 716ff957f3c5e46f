import json

import numpy as np
import pytest

from modiste.errors import RunError, UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.thresholds import Thresholds

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


def test_written_thresholds_read_back_exactly(tmp_path):
    path = tmp_path / "thresholds.json"
    thresholds = Thresholds(np.array([0.3, 1 / 3, 0.5]), "chosen")
    thresholds.write(path, LABELS)
    assert json.loads(path.read_text(encoding="utf-8"))["shirt"] == 0.3  # not 0.30000001192092896
    back = Thresholds.read(path, LABELS)
    assert back.values.tobytes() == thresholds.values.tobytes()
    assert back.source == "read from thresholds.json"


def test_reads_by_id_not_by_place(tmp_path):
    path = tmp_path / "thresholds.json"
    path.write_text('{"民族": 0.1, "dress": 0.2, "shirt": 0.3}', encoding="utf-8")
    np.testing.assert_allclose(Thresholds.read(path, LABELS).values, [0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[1, 2]", "label id: threshold"),
        ("3", "label id: threshold"),
        ('{"shirt": "high", "dress": 0.5, "民族": 0.5}', "high"),
        ('{"shirt": null, "dress": 0.5, "民族": 0.5}', "label id: threshold"),
        ('{"shirt": 0.5, "dress": 0.5}', "民族 in only one"),
        ('{"shirt": 0.5, "dress": 0.5, "民族": 0.5, "hat": 0.5}', "hat in only one"),
        ('{"shirt": 7, "dress": 0.5, "民族": 0.5}', "7"),
        ('{"shirt": NaN, "dress": 0.5, "民族": 0.5}', "nan"),
    ],
)
def test_refuses_a_file_that_does_not_fit(tmp_path, content, message):
    path = tmp_path / "thresholds.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        Thresholds.read(path, LABELS)


def test_refuses_to_write_for_another_number_of_labels(tmp_path):
    with pytest.raises(RunError, match="3 thresholds"):
        Thresholds.fixed(0.5, 2).write(tmp_path / "thresholds.json", LABELS)
    assert not list(tmp_path.iterdir())
