"""Sweeps against counting by hand, and thresholds against trying every one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.sweep import (
    best_fbeta,
    check_probs,
    each_label,
    highest_with_recall,
    lowest_with_precision,
    merged,
    midway,
    sweep,
)

DTYPES = [np.float32, np.float64]
coarse = st.integers(0, 8).map(lambda eighths: eighths / 8)
fine = st.floats(0, 1, width=32)  # subnormal ones, -0.0 and neighbours of each other among them


@st.composite
def photos(draw, probabilities=coarse | fine):
    pairs = draw(st.lists(st.tuples(st.sampled_from([1, 0, -1]), probabilities), max_size=25))
    dtype = draw(st.sampled_from(DTYPES))
    return np.array([t for t, _ in pairs], np.int8), np.array([p for _, p in pairs], dtype)


def cuts(target, prob):
    """(probability, hits, predicted) of each cut, by hand."""
    known = target >= 0
    for value in sorted(set(prob[known].tolist()), reverse=True):
        predicted = known & (prob >= value)
        yield value, int((predicted & (target == 1)).sum()), int(predicted.sum())


def made(target, prob, threshold):
    """(hits, predicted) of a threshold, as decisions are made."""
    predicted = (prob > np.float32(threshold)) & (target >= 0)
    return int((predicted & (target == 1)).sum()), int(predicted.sum())


def makeable(target, prob):
    """The cuts that some float32 makes: those above one that rounding up doesn't lift past the cut."""
    rows = list(cuts(target, prob))
    for (value, *counts), (below, *_) in zip(rows, [*rows[1:], (0.0, 0, 0)], strict=False):
        up = np.float32(below)
        up = up if up >= below else np.nextafter(up, np.float32(2))
        if up < value:
            yield value, *counts


@given(photos())
def test_counts_at_each_cut(case):
    target, prob = case
    found = sweep(target, prob)
    assert list(zip(found.probs.tolist(), found.hits.tolist(), found.predicted.tolist(), strict=True)) == list(
        cuts(*case)
    )
    assert (found.positives, found.known) == ((target == 1).sum(), (target >= 0).sum())
    assert found.probs.dtype == prob.dtype and found.hits.dtype == found.predicted.dtype == np.int64
    assert not np.signbit(found.probs).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_zeros_are_one(dtype):
    found = sweep(np.array([1, 0, 1]), np.array([0.0, -0.0, 0.5], dtype))
    assert (found.probs.tolist(), found.hits.tolist(), found.predicted.tolist()) == ([0.5, 0.0], [1, 2], [1, 3])


@settings(max_examples=50)
@given(photos(), st.sampled_from([0.5, 1.0, 2.0, 3.7]))
def test_fbeta_and_average_precision_agree_with_scikit_learn(case, beta):
    target, prob = case
    found, known = sweep(*case), target >= 0
    for place, (value, *_) in enumerate(cuts(*case)):
        expected = oracle.fbeta_score(target[known], prob[known] >= value, beta=beta, zero_division=0)
        assert found.fbeta(beta)[place] == pytest.approx(expected, abs=1e-12)
    if (target == 1).any():
        expected = oracle.average_precision_score(target[known], prob[known])
        assert found.average_precision == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(found.average_precision)


@settings(max_examples=300)
@given(photos(), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), st.sampled_from([(1, 1), (3, 1), (1, 4), (0.25, 2.5)]))
def test_best_fbeta_by_trying_every_cut(case, beta, weights):
    positive, negative = weights
    found = best_fbeta(sweep(*case).weighted(*weights), beta)
    positives = positive * (case[0] == 1).sum()

    def score(hits, predicted):
        right, wrong = positive * hits, negative * (predicted - hits)
        return (1 + beta**2) * right / ((1 + beta**2) * right + beta**2 * (positives - right) + wrong)

    scores = [(score(hits, predicted), hits, predicted) for _, hits, predicted in makeable(*case) if hits]
    if not scores:
        assert found == (1.0, 0.0)
        return
    best = max(value for value, *_ in scores)
    fewest = next(counts for value, *counts in scores if value >= best - 1e-12)
    assert found.score == pytest.approx(best, abs=1e-12)
    assert 0 <= found.threshold < 1 and np.float32(found.threshold) == found.threshold
    assert made(*case, found.threshold) == tuple(fewest)


@settings(max_examples=200)
@given(photos(), st.sampled_from([0.1, 1 / 3, 0.5, 0.75, 0.9, 1.0]))
def test_precision_and_recall_targets_by_trying_every_cut(case, target):
    found, positives = sweep(*case), (case[0] == 1).sum()
    precise = [counts for _, *counts in makeable(*case) if counts[0] / counts[1] >= target]
    recalling = [counts for _, *counts in makeable(*case) if positives and counts[0] / positives >= target]
    for threshold, expected in (
        (lowest_with_precision(found, target), precise[-1:]),
        (highest_with_recall(found, target), recalling[:1]),
    ):
        assert ([] if threshold is None else [list(made(*case, threshold))]) == expected


def test_thresholds_lie_midway():
    target, prob = np.array([1, 1, 0, 0], np.int8), np.array([0.75, 0.5, 0.25, 0.125], np.float32)
    found = sweep(target, prob)
    assert best_fbeta(found, 1) == (0.375, 1.0)
    assert lowest_with_precision(found, 0.5) == 0.0625  # between 0 and the lowest
    assert highest_with_recall(found, 0.5) == 0.625
    assert lowest_with_precision(sweep(target[::-1], prob), 1.0) is None
    assert [midway(found.probs, at) for at in range(4)] == [0.625, 0.375, 0.1875, 0.0625]
    assert midway(np.array([0.0]), 0) == 0.0


def test_neighbouring_floats_are_parted_and_what_float32_cannot_part_is_not():
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    found = best_fbeta(sweep(np.array([1, 0]), np.array([high, low])), 1)
    assert found == (low, 1.0)
    closer = np.array([0.7 + 2e-12, 0.7 + 1e-12, 0.1])  # float64; no float32 lies between the first two
    assert best_fbeta(sweep(np.array([1, 0, 0]), closer), 1).score == pytest.approx(2 / 3)
    assert best_fbeta(sweep(np.array([1, 0]), np.zeros(2)), 1) == (1.0, 0.0)  # nothing says a probability of 0


@given(photos(), st.integers(1, 3), st.integers(1, 3))
def test_weights_are_as_photos_that_stand_there_so_many_times(case, positive, negative):
    target, prob = case
    times = np.where(target == 1, positive, negative)
    weighted, repeated = sweep(*case).weighted(positive, negative), sweep(np.repeat(target, times), prob.repeat(times))
    np.testing.assert_array_equal(weighted.hits, repeated.hits)
    np.testing.assert_array_equal(weighted.predicted, repeated.predicted)
    np.testing.assert_allclose(weighted.average_precision, repeated.average_precision, atol=1e-12)
    assert weighted.positives == (target == 1).sum()


def test_weights_of_zero_divide_nothing():
    found = sweep(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])).weighted(0, 0)
    assert best_fbeta(found, 2) == (1.0, 0.0)
    assert found.precision.tolist() == found.recall.tolist() == [0, 0, 0]
    assert math.isnan(found.average_precision)


@given(st.lists(photos(), min_size=1, max_size=4))
def test_merged_sweeps_are_the_sweep_of_all_photos(cases):
    cases = [(target, prob.astype(np.float32)) for target, prob in cases]
    whole = sweep(*(np.concatenate(part) for part in zip(*cases, strict=True)))
    together = merged([sweep(*case) for case in cases])
    for name in ("probs", "hits", "predicted"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
    assert (together.positives, together.known) == (whole.positives, whole.known)


@pytest.mark.parametrize("n", [50, 100_000])  # the second in threads
def test_each_label_is_its_own_sweep_in_order(n):
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2, (n, 3)).astype(np.int8)
    probs = rng.random((n, 3), dtype=np.float32)
    found = each_label(lambda one: (one.positives, one.average_precision), targets, probs)
    for k, (positives, ap) in enumerate(found):
        known = targets[:, k] >= 0
        assert positives == (targets[:, k] == 1).sum()
        assert ap == pytest.approx(oracle.average_precision_score(targets[known, k], probs[known, k]), abs=1e-12)


def test_refuses_what_is_no_probability_and_other_shapes():
    labels = LabelSet("two", (Group("style", (Label("a"), Label("b"))),))
    targets, probs = np.zeros((3, 2), np.int8), np.full((3, 2), 0.5, np.float32)
    check_probs(targets, probs, labels)
    check_probs(targets, targets, labels)  # decisions
    check_probs(targets[:0], probs[:0], labels)
    for wrong, word in ((1.5, "1.5"), (-0.25, "-0.25"), (np.nan, "nan"), (np.inf, "inf")):
        bad = probs.copy()
        bad[2, 1] = wrong
        for refuse in (
            lambda bad=bad: check_probs(targets, bad, labels),
            lambda bad=bad: sweep(targets, bad),
            lambda bad=bad: each_label(lambda one: one, targets, bad),
        ):
            with pytest.raises(UsageError, match=rf"in \[0, 1\], but got {word}\. Try"):
                refuse()
    with pytest.raises(UsageError, match=r"shape \(n, 2\), but got \(3, 2\) and \(2, 2\)"):
        check_probs(targets, probs[:2], labels)
    with pytest.raises(UsageError, match=r"shape \(n, 2\)"):
        check_probs(targets[:, :1], probs[:, :1], labels)
    with pytest.raises(UsageError, match="one shape"):
        sweep(targets[:, 0], probs[:2, 0])
