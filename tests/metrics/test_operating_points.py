import math

import numpy as np
import pytest
from scipy.special import expit

from modiste.errors import UsageError
from modiste.metrics.operating_points import (
    FEWEST_PHOTOS,
    NEVER_APPROVED,
    approval_thresholds,
    operating_curve,
    operating_point,
)


def case(seed: int, n: int = 600, labels: int = 5, unknown: float = 0.0):
    """Targets, calibrated probs, decisions and folds; the last label is rare, the one before it is never predicted."""
    rng = np.random.default_rng(seed)
    z = rng.normal(np.linspace(-0.5, -1.5, labels), 2, (n, labels))
    z[:, -1] -= 3
    targets = (rng.random((n, labels)) < expit(z)).astype(np.int8)
    targets[rng.random((n, labels)) < unknown] = -1
    probs = np.round(expit(z), 2).astype(np.float32)
    decisions = (probs > 0.3).astype(np.int8)
    decisions[:, -2] = 0
    return targets, probs, decisions, rng.integers(0, 5, n)


def reached(target, prob, predicted, bar):
    """How much of what is predicted above the bar is right."""
    out = (predicted == 1) & (prob > bar) & (target >= 0)
    return (target[out] == 1).mean() if out.any() else 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95, 1.0])
def test_bars_are_the_lowest_by_brute_force(seed, precision):
    targets, probs, decisions, _ = case(seed, unknown=0.2)
    thresholds = approval_thresholds(targets, probs, decisions, precision)
    steps = np.arange(0.005, 1, 0.01)  # between the probabilities, which are multiples of 0.01
    for k in range(targets.shape[1]):
        column = targets[:, k], probs[:, k], decisions[:, k]
        enough = ((column[0] == 1) & (column[2] == 1)).sum() >= FEWEST_PHOTOS
        good = [step for step in steps if enough and reached(*column, step) >= precision]
        if not good:
            assert thresholds[k] == NEVER_APPROVED
            continue
        assert reached(*column, thresholds[k]) >= precision
        predicted = (column[0] >= 0) & (column[2] == 1)
        out = [(column[1][predicted] > bar).sum() for bar in (thresholds[k], good[0])]
        assert out[0] == out[1]


def test_labels_rightly_said_too_rarely_get_no_bar():
    prob, decisions = np.linspace(0.4, 0.9, 12)[:, None], np.ones((12, 1), np.int8)
    targets = np.ones((12, 1), np.int8)
    targets[:2] = -1
    assert approval_thresholds(targets, prob, decisions, 0.9)[0] < 0.9
    unsaid = decisions.copy()
    unsaid[5] = 0
    assert approval_thresholds(targets, prob, unsaid, 0.9)[0] == NEVER_APPROVED
    targets[2] = 0
    assert approval_thresholds(targets, prob, decisions, 0.9)[0] == NEVER_APPROVED


def test_an_operating_point_by_hand():
    targets = np.array([[1, 1], [0, 1], [1, 0], [0, -1]], np.int8)
    probs = np.array([[0.9, 0.8], [0.7, 0.2], [0.6, 0.9], [0.1, 0.9]], np.float32)
    decisions = np.array([[1, 1], [1, 0], [1, 1], [0, 1]], np.int8)
    point = operating_point(targets, probs, decisions, 0.9, thresholds=np.array([0.65, 0.85]))
    # Out go (0, 0) right, (1, 0) wrong, (2, 1) wrong, (3, 1) unknown. (0, 1) and (2, 0) are left.
    assert point.wanted == 0.9
    assert point.precision == pytest.approx(1 / 3)
    assert point.auto_approved == pytest.approx(4 / 6)
    assert point.photos == pytest.approx(2 / 4)
    assert (point.labels_to_review, point.photos_to_review) == (500, 500)
    assert point.thresholds.tolist() == [0.65, 0.85]


def test_cross_fitted_points_by_brute_force():
    targets, probs, decisions, folds = case(1, unknown=0.1)
    point = operating_point(targets, probs, decisions, 0.8, folds=folds)
    right = out = left = waiting = 0
    for fold in range(5):
        inside = folds == fold
        thresholds = approval_thresholds(targets[~inside], probs[~inside], decisions[~inside], 0.8)
        for target, prob, predicted in zip(targets[inside], probs[inside], decisions[inside], strict=True):
            goes = (predicted == 1) & (prob > thresholds)
            right, out = right + (goes & (target == 1)).sum(), out + (goes & (target >= 0)).sum()
            left, waiting = left + predicted.sum() - goes.sum(), waiting + (predicted.sum() > goes.sum())
    assert 0 < out < decisions.sum()
    assert point.precision == pytest.approx(right / out)
    assert point.auto_approved == pytest.approx(1 - left / decisions.sum())
    assert point.photos == pytest.approx(1 - waiting / len(targets))
    assert point.labels_to_review == pytest.approx(1000 * left / len(targets))
    assert point.photos_to_review == pytest.approx(1000 * waiting / len(targets))
    np.testing.assert_array_equal(point.thresholds, approval_thresholds(targets, probs, decisions, 0.8))


def test_crossing_folds_shows_luck_for_what_it_is():
    rng = np.random.default_rng(2)
    targets = (rng.random((300, 40)) < 0.5).astype(np.int8)  # no probability says anything about them
    probs, decisions = rng.random((300, 40)), np.ones((300, 40), np.int8)
    thresholds = approval_thresholds(targets, probs, decisions, 0.6)
    lucky = operating_point(targets, probs, decisions, 0.6, thresholds=thresholds)
    honest = operating_point(targets, probs, decisions, 0.6, folds=np.arange(300) % 5)
    assert lucky.precision >= 0.6
    assert honest.precision == pytest.approx(0.5, abs=0.05)


def test_calibrated_photos_reach_the_precision_wanted():
    targets, probs, decisions, folds = case(3, 20_000)
    for point in operating_curve(targets, probs, decisions, (0.7, 0.8, 0.9), folds=folds):
        assert point.precision == pytest.approx(point.wanted, abs=0.02)


def test_more_precision_lets_less_through():
    targets, probs, decisions, folds = case(4, 2000)
    points = operating_curve(targets, probs, decisions, folds=folds)
    assert (np.diff([point.thresholds for point in points], axis=0) >= 0).all()
    auto_approved = [point.auto_approved for point in points]
    assert auto_approved == sorted(auto_approved, reverse=True)
    assert auto_approved[0] > 0.5 > auto_approved[-1]


def test_bars_and_precision_ignore_what_is_said_of_the_unknown():
    targets, probs, decisions, folds = case(5, unknown=0.3)
    before = operating_point(targets, probs, decisions, 0.8, folds=folds)
    unknown = targets == -1
    probs[unknown] = np.random.default_rng(0).random(unknown.sum())
    decisions[unknown] = 1
    after = operating_point(targets, probs, decisions, 0.8, folds=folds)
    np.testing.assert_array_equal(after.thresholds, before.thresholds)
    assert after.precision == before.precision
    assert after.labels_to_review > before.labels_to_review  # somebody would have to look at them


def test_where_nothing_is_said_nothing_is_left():
    targets, probs, decisions, folds = case(6)
    point = operating_point(targets, probs, 0 * decisions, 0.8, folds=folds)
    assert math.isnan(point.precision) and math.isnan(point.auto_approved)
    assert (point.photos, point.labels_to_review, point.photos_to_review) == (1, 0, 0)
    assert (point.thresholds == NEVER_APPROVED).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probs": np.full((4, 3), 0.5)}, r"\(4, 2\), \(4, 3\) and \(4, 2\)"),
        ({"probs": np.full((4, 2), np.nan)}, r"in \[0, 1\]"),
        ({"precision": 0}, r"\(0, 1\], but got 0"),
        ({"precision": 90}, r"\(0, 1\], but got 90"),
        ({"folds": np.zeros(4)}, "with 1"),
        ({"folds": np.arange(3)}, r"shape \(3,\)"),
        ({"folds": None}, "both or none"),
        ({"thresholds": np.zeros(2)}, "both or none"),
        ({"folds": None, "thresholds": np.zeros(3)}, r"thresholds \(2,\), but got \(3,\)"),
    ],
)
def test_unusable_arguments_are_refused(change, message):
    given = {
        "targets": np.eye(4, 2, dtype=np.int8),
        "probs": np.full((4, 2), 0.5),
        "decisions": np.ones((4, 2), np.int8),
        "precision": 0.9,
        "folds": np.arange(4),
    }
    operating_point(**given)
    with pytest.raises(UsageError, match=message):
        operating_point(**given | change)
