import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax
from scipy.stats import norm

from modiste.decisions.label_shift import CAUTION, adjust
from modiste.decisions.label_shift import estimate_label_shift as cautious_mix
from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.scores import mean_log_loss

estimate_mix = partial(cautious_mix, caution=0)  # the paper's own estimate
OLD = np.array([0.3, 0.1, 0.6])
NEW = np.array([0.7, 0.02, 0.6])
FREE = LabelSet.free("free", ["a", "b", "c"])
ONE = LabelSet.free("one", ["a"])
GROUP = LabelSet("group", (Group("garment", tuple(map(Label, ("dress", "shirt", "shoes"))), exclusive=True),))


def bayes(x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probability of each label where positives lie at 1.5 and negatives at 0, one unit wide."""
    has, hasnt = shares * norm.pdf(x, 1.5), (1 - shares) * norm.pdf(x)
    return has / (has + hasnt)


def photos(seed: int, n: int = 20_000):
    """Targets (n, 3) of the new mix, and what is seen of each label."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 3)) < NEW).astype(np.int8)
    return targets, rng.normal(1.5 * targets)


def garments(seed: int, old: np.ndarray, new: np.ndarray, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """The class of each photo of the new mix, and its probabilities (n, classes) as calibrated for the old one."""
    rng = np.random.default_rng(seed)
    true = rng.choice(len(new), n, p=new)
    x = rng.normal(1.5 * true)[:, None]
    likely = old * norm.pdf(x, 1.5 * np.arange(len(new)))
    return true, likely / likely.sum(axis=1, keepdims=True)


def test_a_changed_mix_is_found_and_helps():
    targets, x = photos(0)
    probs = bayes(x, OLD).astype(np.float32)
    found = estimate_mix(probs, OLD, FREE)
    assert found == pytest.approx(NEW, abs=0.015)
    assert found == pytest.approx(targets.mean(axis=0), abs=0.015)
    better = adjust(probs, OLD, found, FREE)
    for k in (0, 1):
        assert mean_log_loss(targets[:, k], better[:, k]) < 0.9 * mean_log_loss(targets[:, k], probs[:, k])
    assert mean_log_loss(targets, better) == pytest.approx(mean_log_loss(targets, bayes(x, NEW)), rel=1e-3)


def test_the_share_found_has_the_highest_likelihood():
    _, x = photos(1, 400)
    probs = bayes(x, OLD)
    found = estimate_mix(probs, OLD, FREE)
    for k in range(3):
        ratio = probs[:, k] / OLD[k], (1 - probs[:, k]) / (1 - OLD[k])
        best = minimize_scalar(lambda s, r=ratio: -np.log(s * r[0] + (1 - s) * r[1]).mean(), bounds=(0, 1))
        assert found[k] == pytest.approx(best.x, abs=1e-4)


def test_caution_is_a_prior_around_the_old_shares():
    """The mode of likelihood times Beta(1 + c n old, 1 + c n (1 - old))."""
    _, x = photos(1, 400)
    probs = bayes(x, OLD)
    found = cautious_mix(probs, OLD, FREE)
    for k, old in enumerate(OLD):
        ratio = probs[:, k] / old, (1 - probs[:, k]) / (1 - old)

        def cost(s, r=ratio, old=old):
            return -np.log(s * r[0] + (1 - s) * r[1]).mean() - CAUTION * (old * np.log(s) + (1 - old) * np.log(1 - s))

        assert found[k] == pytest.approx(minimize_scalar(cost, bounds=(1e-6, 1 - 1e-6)).x, abs=1e-4)


def test_caution_keeps_a_network_that_is_too_sure_from_extremes():
    rng = np.random.default_rng(3)
    targets = (rng.random((400, 3)) < OLD).astype(np.int8)
    probs = bayes(rng.normal(0.3 * targets), OLD)  # sure as if positives lay at 1.5, while they lie at 0.3
    wild, careful = estimate_mix(probs, OLD, FREE), cautious_mix(probs, OLD, FREE)
    assert np.abs(careful - targets.mean(axis=0)).sum() < 0.6 * np.abs(wild - targets.mean(axis=0)).sum()


def test_shares_of_an_exclusive_group_have_the_highest_likelihood_and_the_sum_one():
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    true, probs = garments(2, old, new)
    found = estimate_mix(probs, old, GROUP)
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx(np.bincount(true) / len(true), abs=0.02)
    best = minimize(lambda z: -np.log((probs / old) @ softmax([0, *z])).mean(), (0, 0), tol=1e-10)
    assert found == pytest.approx(softmax([0, *best.x]), abs=1e-4)


def test_an_exclusive_group_is_scaled_to_the_sum_one():
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    _, probs = garments(3, old, new, 500)
    scale = np.random.default_rng(0).uniform(0.2, 1, (500, 1))
    expected = estimate_mix(probs, old, GROUP)
    np.testing.assert_allclose(estimate_mix(probs * scale, old * 0.8, GROUP), expected, rtol=1e-9)


def test_each_label_and_group_is_a_problem_of_its_own():
    _, x = photos(4, 300)
    old = np.array([0.2, 0.3, 0.5])
    _, garment = garments(4, old, np.array([0.6, 0.3, 0.1]), 300)
    both = LabelSet("both", (GROUP.groups[0], *FREE.groups))
    together = estimate_mix(np.hstack([garment, bayes(x, OLD)]), np.append(old, OLD), both)
    np.testing.assert_allclose(together[:3], estimate_mix(garment, old, GROUP))
    for k in range(3):
        alone = estimate_mix(bayes(x, OLD)[:, [k]], OLD[[k]], LabelSet.free("one", ["a"]))
        assert together[3 + k] == pytest.approx(alone[0], abs=1e-4)  # the slowest label gives others a few more steps


def test_an_unchanged_mix_is_found_at_once():
    _, x = photos(5, 1000)
    probs = bayes(x, OLD)
    assert estimate_mix(probs, probs.mean(axis=0), FREE) == pytest.approx(probs.mean(axis=0), abs=1e-12)


def test_shares_of_nought_and_one_stay():
    probs = np.random.default_rng(6).random((100, 3)).astype(np.float32)
    old = np.array([0.0, 1.0, 0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_mix(probs, old, FREE)
        said = adjust(probs, old, found, FREE)
        group = estimate_mix(probs, np.array([0, 0.4, 0.6]), GROUP)
        only = estimate_mix(probs, np.array([0.0, 1.0, 0.0]), GROUP)
    assert found[:2].tolist() == [0, 1]
    np.testing.assert_array_equal(said[:, :2], probs[:, :2])
    assert group[0] == 0 and group.sum() == pytest.approx(1)
    assert only.tolist() == [0, 1, 0]


def test_adjusted_probabilities_are_those_of_bayes():
    _, x = photos(7, 500)
    said = adjust(bayes(x, OLD).astype(np.float32), OLD, NEW, FREE)
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, bayes(x, NEW), rtol=1e-5)


shares = st.floats(0.05, 0.95)


@given(shares, shares, st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9))
def test_adjusting_there_and_back_changes_nothing_and_keeps_the_order(old, new, values):
    probs = np.sort(values)[:, None]
    said = adjust(probs, np.array([old]), np.array([new]), ONE)
    assert (np.diff(said[:, 0]) >= 0).all()
    assert ((said - probs) * np.sign(new - old) > -1e-6).all()
    np.testing.assert_allclose(adjust(said, np.array([new]), np.array([old]), ONE), probs, rtol=1e-3)


def test_sure_probabilities_stay_sure():
    probs = np.array([[0.0], [1.0]], np.float32)
    for new in (0.0, 0.2, 1.0):
        np.testing.assert_array_equal(adjust(probs, np.array([0.5]), np.array([new]), ONE), probs)


@pytest.mark.parametrize(
    "probs, old, message",
    [
        (np.full((49, 3), 0.5), OLD, r"50 photos or more .* got shape \(49, 3\)"),
        (np.full((50, 2), 0.5), OLD[:2], "3 labels"),
        (np.full((50, 2), 0.5), OLD, r"\(50, 2\) and \(3,\)"),
        (np.full(50, 0.5), OLD, r"\(50,\) and \(3,\)"),
        (np.full((50, 3), 1.5), OLD, r"probabilities in \[0, 1\], but got 1.5"),
        (np.full((50, 3), np.nan), OLD, r"probabilities in \[0, 1\], but got nan"),
        (np.full((50, 3), 0.5), np.array([0.5, 0.5, 30]), r"prevalences in \[0, 1\], but got 30"),
        (np.full((50, 3), 0.5), np.array([0.5, 0.5, np.nan]), r"prevalences in \[0, 1\], but got nan"),
    ],
)
def test_unusable_arguments_are_refused(probs, old, message):
    with pytest.raises(UsageError, match=message):
        estimate_mix(probs, old, FREE)


def test_adjust_refuses_shares_that_are_none():
    with pytest.raises(UsageError, match="prevalences"):
        adjust(np.full((1, 3), 0.5), OLD, np.array([0.5, -0.1, 0.5]), FREE)


def test_an_exclusive_group_is_adjusted_as_one_problem_of_many_classes():
    """Probabilities of an exclusive group become what Bayes says of them under the new mix."""
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    true, probs = garments(5, old, new, 500)
    said = adjust(probs.astype(np.float32), old, new, GROUP)
    expected = probs * new / old
    np.testing.assert_allclose(said, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)
    assert (said.argmax(axis=1) == true).mean() > (probs.argmax(axis=1) == true).mean()


def test_an_adjusted_exclusive_group_keeps_its_sum():
    probs = np.array([[0.2, 0.1, 0.1], [0.5, 0.3, 0.1]], np.float32)
    said = adjust(probs, np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1]), GROUP)
    np.testing.assert_allclose(said.sum(axis=1), probs.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(said[:, 0] / said[:, 2], 15 * probs[:, 0] / probs[:, 2], rtol=1e-6)
