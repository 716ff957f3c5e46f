import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from modiste.metrics.calibration_error import calibration_error, mean_calibration_error


def photos(rng: np.random.Generator, n: int, off: float = 0.0):
    """Targets and probs of a label; `off` is added to its true logits."""
    z = rng.normal(-2, 2, n)
    return (rng.random(n) < expit(z)).astype(np.int8), expit(z + off)


def test_the_error_of_right_probabilities_is_nought_in_the_mean():
    rng = np.random.default_rng(0)
    squares, plain = [], []
    for _ in range(300):
        error = calibration_error(*photos(rng, 500))
        squares.append(error.square)
        plain.append((error.prob - error.share) ** 2 @ error.count / 500)
    chance = np.std(squares) / np.sqrt(300)
    assert abs(np.mean(squares)) < 3 * chance
    assert np.mean(plain) > 20 * chance


def test_a_known_error_is_found():
    target, prob = photos(np.random.default_rng(1), 100_000, off=1)
    z = np.log(prob / (1 - prob))
    assert calibration_error(target, prob).value == pytest.approx(
        np.sqrt(np.mean((prob - expit(z - 1)) ** 2)), rel=0.03
    )


def test_bins_of_one_probability_each_give_the_estimator_of_the_paper():
    rng = np.random.default_rng(2)
    prob = rng.choice([0.1, 0.3, 0.35, 0.8], 200)
    target = (rng.random(200) < 0.4).astype(np.int8)
    square = 0.0
    for p in np.unique(prob):
        hits = target[prob == p]
        share, n = hits.mean(), len(hits)
        square += n / 200 * ((p - share) ** 2 - share * (1 - share) / (n - 1))
    error = calibration_error(target, prob, bins=50)
    assert error.prob == pytest.approx(np.unique(prob))
    assert error.square == pytest.approx(square)
    assert error.value == pytest.approx(math.sqrt(square))


@pytest.mark.parametrize("n, bins", [(1000, 15), (997, 10), (20, 15), (2, 15)])
def test_bins_hold_equally_many_photos(n, bins):
    target, prob = photos(np.random.default_rng(3), n)
    error = calibration_error(target, prob, bins)
    assert len(error.count) == min(bins, n // 2)
    assert error.count.sum() == n
    assert np.ptp(error.count) <= 1
    ends = np.cumsum(error.count)
    order = np.argsort(prob)
    for start, end, mean, share in zip(ends - error.count, ends, error.prob, error.share, strict=True):
        assert mean == pytest.approx(prob[order[start:end]].mean())
        assert share == pytest.approx(target[order[start:end]].mean())


def test_equal_probabilities_share_a_bin_whatever_the_order():
    rng = np.random.default_rng(4)
    target, prob = photos(rng, 600)
    prob = np.round(prob, 1)
    error = calibration_error(target, prob, 8)
    assert len(error.prob) < 8
    assert error.count.sum() == 600
    order = rng.permutation(600)
    again = calibration_error(target[order], prob[order], 8)
    assert again.square == pytest.approx(error.square)
    np.testing.assert_allclose(again.prob, error.prob)


def test_intervals_are_those_of_wilson_in_scipy():
    error = calibration_error(*photos(np.random.default_rng(5), 300))
    for share, n, low, high in zip(error.share, error.count, error.low, error.high, strict=True):
        theirs = binomtest(round(share * n), n).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert (error.share == 0).any() and (error.low >= -1e-12).all()


def test_what_stands_where_the_target_is_unknown_changes_nothing():
    rng = np.random.default_rng(6)
    target, prob = photos(rng, 400)
    unknown = rng.random(400) < 0.4
    alone = calibration_error(target[~unknown], prob[~unknown])
    target[unknown], prob[unknown] = -1, np.nan
    assert calibration_error(target, prob).square == alone.square


@pytest.mark.parametrize("target", [[], [1], [-1, -1, 0]])
def test_too_few_photos_say_nothing(target):
    error = calibration_error(np.array(target, np.int8), np.full(len(target), 0.5))
    assert math.isnan(error.square) and math.isnan(error.value)
    assert len(error.prob) == len(error.count) == 0


def test_the_mean_is_over_labels_that_can_be_measured():
    rng = np.random.default_rng(7)
    kinds = [photos(rng, 2000, off) for off in (0, 0.5, 2)]
    targets, probs = (np.stack(columns, axis=1) for columns in zip(*kinds, strict=True))
    squares = [calibration_error(*kind).square for kind in kinds]
    assert mean_calibration_error(targets, probs) == pytest.approx(math.sqrt(np.mean(squares)))
    targets[:, 2] = 0
    targets[:9, 2] = 1
    assert mean_calibration_error(targets, probs) == pytest.approx(math.sqrt(np.mean(squares[:2])))
    targets[:9, 2] = -1
    assert math.isnan(mean_calibration_error(targets[:, 2:], probs[:, 2:]))


def test_ten_positives_and_ten_negatives_can_be_measured():
    targets = np.repeat([1, 0], 10)[:, None]
    probs = np.full((20, 1), 0.5)
    assert mean_calibration_error(targets, probs) == 0
    assert math.isnan(mean_calibration_error(targets[1:], probs[1:]))
    assert math.isnan(mean_calibration_error(targets[:-1], probs[:-1]))


def test_the_mean_of_right_probabilities_is_nearer_nought_than_a_mean_of_roots():
    rng = np.random.default_rng(8)
    kinds = [photos(rng, 400) for _ in range(1000)]
    targets, probs = (np.stack(columns, axis=1) for columns in zip(*kinds, strict=True))
    roots = [calibration_error(*kind).value for kind in kinds]
    assert mean_calibration_error(targets, probs) < 0.7 * np.mean(roots)
