import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.scores import (
    average_precision,
    mean_average_precision,
    mean_log_loss,
    measure_prevalence,
    precision_recall,
    score,
)


def case(seed: int, n: int = 80, labels: int = 7, unknown: float = 0.2, ties: bool = True):
    """Random targets, probs and decisions; the last label has no positive."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, labels)) < np.linspace(0.7, 0.1, labels)).astype(np.int8)
    targets[:, -1] = 0
    targets[rng.random((n, labels)) < unknown] = -1
    probs = np.clip(rng.random((n, labels)) * 0.7 + 0.3 * (targets == 1), 0, 1).astype(np.float32)
    probs = np.round(probs, 1) if ties else probs
    decisions = (probs > 0.6).astype(np.int8)
    decisions[:, 1] = 0  # a label that is never predicted
    return targets, probs, decisions, LabelSet.free("test", [f"l{k}" for k in range(labels)])


def fashion() -> LabelSet:
    garment = Group("garment", tuple(map(Label, ("dress", "shirt", "shoes"))), exclusive=True)
    return LabelSet("fashion", (Group("style", (Label("casual"), Label("sports"))), garment))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [True, False])
def test_average_precision_agrees_with_scikit_learn_on_the_known_photos(seed, ties):
    targets, probs, _, labels = case(seed, ties=ties)
    result = mean_average_precision(targets, probs, labels)
    for k in range(len(labels) - 1):
        known = targets[:, k] >= 0
        assert result.each[k] == pytest.approx(oracle.average_precision_score(targets[known, k], probs[known, k]))
    assert result.value == pytest.approx(np.mean(result.each[:-1]))
    assert math.isnan(result.each[-1])
    assert result.left_out == ("l6",)


def test_average_precision_by_hand():
    target = np.array([1, 0, 1, -1, 0], dtype=np.int8)
    assert average_precision(target, np.array([0.9, 0.8, 0.7, 0.99, 0.1])) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert average_precision(target, np.full(5, 0.3)) == pytest.approx(2 / 4)  # one step over all: the prevalence
    assert math.isnan(average_precision(np.array([0, -1]), np.array([0.5, 0.6])))


def test_average_precision_ignores_order_and_scale():
    """Any strictly rising function of the probabilities has the same average precision."""
    targets, probs, _, _ = case(1)
    shuffled = np.random.default_rng(5).permutation(len(targets))
    for k in range(6):
        expected = average_precision(targets[:, k], probs[:, k])
        assert average_precision(targets[shuffled, k], probs[shuffled, k]) == pytest.approx(expected)
        assert average_precision(targets[:, k], probs[:, k] ** 3 / 2) == pytest.approx(expected)


def test_precision_recall_agrees_with_scikit_learn():
    targets, probs, _, _ = case(2, unknown=0)
    curve = precision_recall(targets[:, 0], probs[:, 0])
    precision, recall, _ = oracle.precision_recall_curve(targets[:, 0], probs[:, 0])
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])  # its last point (1, 0) is an addition
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])


def test_log_loss_agrees_with_scikit_learn_on_the_known_targets():
    targets, probs, _, _ = case(2, ties=False)
    known = targets >= 0
    assert mean_log_loss(targets, probs) == pytest.approx(
        oracle.log_loss(targets[known], probs[known].astype(np.float64))
    )
    assert mean_log_loss(np.array([[1, 0, -1]]), np.array([[0.0, 0.0, 0.0]])) == pytest.approx(-np.log(1e-7) / 2)
    assert math.isnan(mean_log_loss(np.array([-1]), np.array([0.5])))


@pytest.mark.parametrize("seed", range(10))
def test_label_scores_and_macro_agree_with_scikit_learn_on_the_known_photos(seed):
    targets, probs, decisions, labels = case(seed)
    scores = score(targets, probs, decisions, labels)
    rows = []
    for k, label in enumerate(labels.ids):
        known = targets[:, k] >= 0
        true, predicted = targets[known, k], decisions[known, k]
        ours = scores.labels[label]
        assert (ours.known, ours.positives) == (known.sum(), (true == 1).sum())
        row = [
            oracle.precision_score(true, predicted, zero_division=0),
            oracle.recall_score(true, predicted, zero_division=0),
            oracle.f1_score(true, predicted, zero_division=0),
            oracle.fbeta_score(true, predicted, beta=2, zero_division=0),
        ]
        assert [ours.precision, ours.recall, ours.f1, ours.f2] == pytest.approx(row)
        rows.append(row)
    assert scores.labels["l1"].precision == 0  # never predicted
    assert averages(scores.macro) == pytest.approx(np.mean(rows[:-1], axis=0))  # the last label has no positive
    assert scores.left_out == ("l6",)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_every_score_agrees_with_scikit_learn_where_labels_are_masked(seed, ties, dtype):
    targets, probs, decisions, labels = case(100 + seed, n=25, unknown=0.4, ties=ties)
    targets[0] = -1
    probs = probs.astype(dtype) if ties else np.random.default_rng(seed).random(probs.shape).astype(dtype)
    known = targets >= 0
    scores = score(targets, probs, decisions, labels)
    rows, precisions = [], []
    for k, label in enumerate(labels.ids):
        true, predicted, prob = (part[known[:, k], k] for part in (targets, decisions, probs))
        rows.append(four(true, predicted))
        assert averages(scores.labels[label]) == pytest.approx(rows[-1], abs=1e-12)
        if true.any():
            precisions.append(oracle.average_precision_score(true, prob))
            assert scores.labels[label].ap == pytest.approx(precisions[-1], abs=1e-12)
            curve, expected = precision_recall(targets[:, k], probs[:, k]), oracle.precision_recall_curve(true, prob)
            np.testing.assert_allclose(curve.precision[::-1], expected[0][:-1], rtol=0, atol=1e-12)
            np.testing.assert_allclose(curve.recall[::-1], expected[1][:-1], rtol=0, atol=1e-12)
    assert len(precisions) < len(labels)
    assert scores.map == pytest.approx(np.mean(precisions), abs=1e-12)
    with_positives = (targets == 1).any(axis=0)
    assert averages(scores.macro) == pytest.approx(np.mean(np.array(rows)[with_positives], axis=0), abs=1e-12)
    assert averages(scores.micro) == pytest.approx(four(targets[known], decisions[known]), abs=1e-12)
    assert scores.micro_ap == pytest.approx(oracle.average_precision_score(targets[known], probs[known]), abs=1e-12)
    photos = [four(targets[i, known[i]], decisions[i, known[i]]) for i in range(25) if known[i].any()]
    assert averages(scores.sample) == pytest.approx(np.mean(photos, axis=0), abs=1e-12)


@pytest.mark.parametrize("average", ["macro", "micro", "samples"])
@pytest.mark.parametrize("seed", range(5))
def test_averages_agree_with_scikit_learn_where_all_is_known(seed, average):
    targets, probs, decisions, labels = case(seed, unknown=0)
    targets[0], decisions[0] = 0, 0  # a photo with nothing true and nothing predicted
    targets[1, -1] = 1
    scores = score(targets, probs, decisions, labels)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        targets, decisions, average=average, zero_division=0
    )
    f2 = oracle.fbeta_score(targets, decisions, beta=2, average=average, zero_division=0)
    ours = {"macro": scores.macro, "micro": scores.micro, "samples": scores.sample}[average]
    assert averages(ours) == pytest.approx([precision, recall, f1, f2])
    assert scores.map == pytest.approx(oracle.average_precision_score(targets, probs, average="macro"))
    assert scores.micro_ap == pytest.approx(oracle.average_precision_score(targets, probs, average="micro"))


def test_micro_and_sample_leave_out_the_unknown_by_brute_force():
    targets, probs, decisions, labels = case(3)
    targets[4] = -1  # nothing known: not a photo of the per-sample mean
    scores = score(targets, probs, decisions, labels)
    known = targets >= 0
    assert scores.micro.f1 == pytest.approx(oracle.f1_score(targets[known], decisions[known]))
    assert scores.micro_ap == pytest.approx(oracle.average_precision_score(targets[known], probs[known]))
    photos = [
        oracle.fbeta_score(row[row >= 0], predicted[row >= 0], beta=2, zero_division=0)
        for row, predicted in zip(targets, decisions, strict=True)
        if (row >= 0).any()
    ]
    assert len(photos) < len(targets)
    assert scores.sample.f2 == pytest.approx(np.mean(photos))


def test_what_stands_where_the_target_is_unknown_changes_nothing():
    targets, probs, decisions, labels = case(4)
    before = score(targets, probs, decisions, labels).to_dict()
    unknown = targets == -1
    probs[unknown] = np.random.default_rng(0).random(unknown.sum())
    decisions[unknown] = 1
    assert score(targets, probs, decisions, labels).to_dict() == before


def test_exclusive_group_by_brute_force():
    rng = np.random.default_rng(6)
    labels = fashion()
    true = rng.integers(0, 3, 60)
    targets = np.concatenate([rng.integers(0, 2, (60, 2)), np.eye(3)[true]], axis=1).astype(np.int8)
    targets[:10, 2:] = -1  # not known
    targets[10, 2:] = 0  # none of them
    targets[11, 2:] = (1, 1, 0)  # two of them
    probs = rng.random((60, 5)).astype(np.float32)
    group = score(targets, probs, (probs > 0.5).astype(np.int8), labels).groups["garment"]
    predicted = [int(np.argmax(probs[i, 2:])) for i in range(12, 60)]
    assert group.n == 48
    assert group.accuracy == pytest.approx(oracle.accuracy_score(true[12:], predicted))
    np.testing.assert_array_equal(group.confusion, oracle.confusion_matrix(true[12:], predicted, labels=[0, 1, 2]))
    assert group.ids == ("dress", "shirt", "shoes")

    training = np.array([0.5, 0.5, 0.1, 0.2, 0.7])
    group = score(targets, probs, (probs > 0.5).astype(np.int8), labels, training).groups["garment"]
    assert group.majority == "shoes"
    assert group.majority_accuracy == pytest.approx(np.mean(true[12:] == 2))


def test_coverage_and_precision_of_what_is_said_of_a_group_by_brute_force():
    rng = np.random.default_rng(8)
    labels = fashion()
    targets = np.concatenate([rng.integers(0, 2, (80, 2)), np.eye(3)[rng.integers(0, 3, 80)]], axis=1).astype(np.int8)
    targets[:10, 2:] = -1  # not known
    targets[10:25, 2:] = 0  # none of them
    targets[25, 2:] = (1, 1, 0)  # two of them
    probs = rng.random((80, 5)).astype(np.float32)
    decisions = Thresholds.fixed(0.5, 5).with_groups({"garment": 0.75}, labels).apply(probs, labels)
    said, right, valued, said_of_valued = 0, 0, 0, 0
    for target, decision in zip(targets[:, 2:].tolist(), decisions[:, 2:].tolist(), strict=True):
        if -1 in target or sum(target) > 1:
            continue
        valued += sum(target)
        said += sum(decision)
        said_of_valued += sum(decision) * sum(target)
        right += sum(decision[k] * target[k] for k in range(3))
    scores = score(targets, probs, decisions, labels)
    group = scores.groups["garment"]
    assert (group.n, group.coverage, group.precision) == (valued, said_of_valued / valued, right / said)
    assert group.abstains and 0 < group.precision < 1
    plain = scores.to_dict()["groups"]["garment"]
    assert (plain["coverage"], plain["precision"]) == (group.coverage, group.precision)
    always = score(targets, probs, Thresholds.fixed(0.5, 5).apply(probs, labels), labels).groups["garment"]
    assert (always.accuracy, always.coverage, always.abstains) == (group.accuracy, 1, False)  # said or not
    never = np.where(np.arange(5) < 2, decisions, 0)
    never = score(targets, probs, never.astype(np.int8), labels).groups["garment"]
    assert never.coverage == 0 and np.isnan(never.precision)
    targets[:, 2:] = -1
    unknown = score(targets, probs, decisions, labels).groups["garment"]
    assert np.isnan([unknown.coverage, unknown.precision]).all() and not unknown.abstains


def test_baselines():
    targets, probs, decisions, labels = case(7)
    training = np.array([0.9, 0.6, 0.5, 0.2, np.nan, 0.1, 0.0])
    baselines = score(targets, probs, decisions, labels, training).baselines
    rate = np.array([(targets[:, k] == 1).sum() / (targets[:, k] >= 0).sum() for k in range(7)])
    yes, usual = baselines["yes to everything"], baselines["prevalence"]
    assert yes.map == pytest.approx(rate[:-1].mean())
    assert usual.map == pytest.approx(yes.map)  # each label's score is constant, so only micro AP gains
    assert yes.macro.recall == 1
    assert yes.macro.f2 == pytest.approx(np.mean(5 * rate[:-1] / (4 * rate[:-1] + 1)))
    assert usual.macro.recall == pytest.approx(2 / 6)  # labels 0 and 1 are predicted, of 6 with positives
    known = targets >= 0
    spread = np.broadcast_to(np.nan_to_num(training), targets.shape)
    assert usual.micro_ap == pytest.approx(oracle.average_precision_score(targets[known], spread[known]))
    np.testing.assert_allclose(measure_prevalence(targets), rate)


def test_prevalence_baseline_of_a_group_says_the_majority():
    labels = fashion()
    targets = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 1, 0]], dtype=np.int8)
    scores = score(targets, np.full((3, 5), 0.5), np.zeros((3, 5), dtype=np.int8), labels)
    group = scores.baselines["prevalence"].groups["garment"]
    assert (group.majority, group.accuracy) == ("shirt", pytest.approx(2 / 3))
    assert group.accuracy == group.majority_accuracy
    assert scores.baselines["yes to everything"].groups == {}


def test_yes_to_everything_on_the_challenge_list(shared):
    lines = (shared / "data/jd2018/train-k-fold.txt").read_text(encoding="utf-8").split()
    names = [line.removesuffix(".jpg").split("_") for line in lines]
    targets = np.array([name[1:] for name in names]).astype(np.int8)
    assert targets.shape == (54_908, 13)
    yes = np.ones_like(targets)
    scores = score(targets, yes.astype(np.float32), yes, LabelSet.read("jd2018"))
    assert scores.macro.f2 == pytest.approx(oracle.fbeta_score(targets, yes, beta=2, average="macro"))
    # The challenge's board, on photos we don't have, shows 0.338 for this answer.
    assert scores.macro.f2 == pytest.approx(0.343, abs=5e-4)


def test_nothing_known_gives_nan_without_a_warning_and_null_in_json():
    targets = np.full((3, 5), -1, dtype=np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(targets, np.full((3, 5), 0.5), np.ones((3, 5), dtype=np.int8), fashion())
        none = score(targets[:0], np.zeros((0, 5)), np.zeros((0, 5), dtype=np.int8), fashion())
    assert math.isnan(scores.map) and math.isnan(scores.macro.f2) and math.isnan(scores.sample.f1)
    assert scores.left_out == fashion().ids
    assert none.photos == 0
    data = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert data["map"] is None and data["groups"]["garment"]["accuracy"] is None
    assert data["labels"]["casual"] == {
        "precision": 0.0, "recall": 0.0, "f1": 0.0, "f2": 0.0, "known": 0, "positives": 0, "ap": None
    }  # fmt: skip


def test_to_dict_holds_the_scores():
    targets, probs, decisions, labels = case(8)
    scores = score(targets, probs, decisions, labels)
    data = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert data["map"] == scores.map
    assert data["macro"]["f2"] == scores.macro.f2
    assert data["baselines"]["prevalence"]["micro"]["f1"] == scores.baselines["prevalence"].micro.f1
    assert data["left_out"] == ["l6"]


def test_refuses_other_shapes_and_nan():
    targets, probs, decisions, labels = case(9)
    with pytest.raises(UsageError, match=r"shape \(n, 7\)"):
        mean_average_precision(targets, probs[:, :3], labels)
    with pytest.raises(UsageError, match="one shape"):
        score(targets, probs, decisions[:-1], labels)
    with pytest.raises(UsageError, match="one shape"):
        score(targets, probs[:-1], decisions, labels)
    for wrong in (np.nan, 1.5, -0.5):
        probs[3, 2] = wrong
        with pytest.raises(UsageError, match=rf"in \[0, 1\], but got {wrong}"):
            score(targets, probs, decisions, labels)
    with pytest.raises(UsageError, match=r"in \[0, 1\], but got 2"):
        score(targets, np.abs(targets), 2 * decisions, labels)


def averages(average) -> list[float]:
    return [average.precision, average.recall, average.f1, average.f2]


def four(true, predicted) -> list[float]:
    return [
        *oracle.precision_recall_fscore_support(true, predicted, average="binary", zero_division=0)[:3],
        oracle.fbeta_score(true, predicted, beta=2, zero_division=0),
    ]


def test_scores_are_a_table_with_a_row_a_label():
    labels = LabelSet.free("some", ["a", "b", "c"])
    targets = np.array([[1, 0, -1], [0, 0, -1], [1, 0, 0]], np.int8)
    probs = np.array([[0.9, 0.2, 0.5], [0.3, 0.6, 0.5], [0.4, 0.1, 0.5]], np.float32)
    scores = score(targets, probs, (probs > 0.5).astype(np.int8), labels)
    frame = scores.to_frame()
    assert frame["label"].to_list() == ["a", "b", "c"]
    assert frame["known"].to_list() == [3, 3, 1]
    assert frame["positives"].to_list() == [2, 0, 0]
    assert frame["ap"].to_list() == [1.0, None, None]
    assert frame["recall"][0] == 0.5
