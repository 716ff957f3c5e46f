import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from modiste.decisions.blend import Blend
from modiste.decisions.fit_blend import BLEND_METHODS, choose, cross_fit_blend, fit_stack, fit_weights
from modiste.decisions.stacking import STRENGTHS
from modiste.errors import RunError, UsageError
from modiste.labels import LabelSet
from modiste.metrics.scores import average_precision, mean_log_loss


def named(count: int) -> LabelSet:
    return LabelSet.free("test", [f"l{k}" for k in range(count)])


def case(seed: int, n: int = 200, labels: int = 3, unknown: float = 0.2, noise: tuple[float, ...] = (0.5, 1, 3)):
    """Targets, probs of members with that much noise on true logits, and 4 folds; labels are independent."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.normal(size=(n, labels)) - 0.5
    targets = (rng.random((n, labels)) < expit(true)).astype(np.int8)
    targets[rng.random((n, labels)) < unknown] = -1
    probs = expit(true + np.array(noise)[:, None, None] * rng.normal(size=(len(noise), n, labels)))
    return targets, probs.astype(np.float32), rng.permutation(n) % 4


def mixture_loss(targets, probs, weights) -> float:
    return mean_log_loss(targets, np.tensordot(weights, probs.astype(np.float64), axes=1))


def features(probs) -> np.ndarray:
    return np.concatenate(list(logit(probs.astype(np.float64))), axis=1)


# Weights


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_a_general_minimiser(seed):
    targets, probs, _ = case(seed)
    found = minimize(
        lambda w: mixture_loss(targets, probs, w),
        np.full(3, 1 / 3),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    weights = fit_weights(targets, probs)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert mixture_loss(targets, probs, weights) == pytest.approx(found.fun, abs=2e-5)  # what 500 steps may leave
    np.testing.assert_allclose(weights, found.x, atol=0.01)
    assert weights.argmax() == 0 and weights[2] < 0.2  # the noisiest member counts least


def test_a_useless_member_gets_no_weight():
    targets, probs, _ = case(0, n=500, noise=(0.5, 0.5))
    opposite = np.stack([probs[0], 1 - probs[0]])
    np.testing.assert_allclose(fit_weights(targets, opposite), [1, 0], atol=1e-3)


def test_weights_move_with_the_members_and_ignore_what_is_unknown():
    targets, probs, _ = case(1)
    weights, order = fit_weights(targets, probs), [2, 0, 1]
    np.testing.assert_allclose(fit_weights(targets, probs[order]), weights[order], atol=1e-12)
    elsewhere = np.where(targets == -1, np.float32(0.9), probs)
    np.testing.assert_array_equal(fit_weights(targets, elsewhere), weights)
    np.testing.assert_array_equal(fit_weights(np.full_like(targets, -1), probs), np.full(3, 1 / 3))


def test_members_that_are_sure_and_wrong_break_nothing():
    targets = np.array([[1, 0], [1, 0]], dtype=np.int8)
    probs = np.array([[[0, 1], [0, 1]], [[1, 1], [0, 1]]], dtype=np.float32)
    np.testing.assert_allclose(fit_weights(targets, probs), [0, 1], atol=1e-3)
    blend = fit_stack(np.array([[1, 0], [0, 1]], dtype=np.int8), probs, np.array([0, 1]))
    assert np.isfinite(blend.apply(probs)).all()


# Stack


def test_stack_is_scikit_learn_where_the_members_cancel():
    targets, probs, folds = case(2, unknown=0.3)
    probs = np.stack([probs[1], 1 - probs[1]]).astype(np.float64)  # the mean of logits is 0 everywhere
    stack = fit_stack(targets, probs, folds, [0.3])
    blended = stack.apply(probs)
    for k in range(3):
        known = targets[:, k] >= 0
        oracle = LogisticRegression(C=0.3, tol=1e-10, max_iter=10_000).fit(features(probs)[known], targets[known, k])
        np.testing.assert_allclose(blended[:, k], oracle.predict_proba(features(probs))[:, 1], atol=2e-5)


@pytest.mark.parametrize("strength", [1e-3, 0.1])
def test_stack_minimises_loss_and_distance_from_the_mean_of_logits(strength):
    targets, probs, folds = case(3, labels=2, noise=(0.5, 2))
    x, stack = features(probs), fit_stack(targets, probs, folds, [strength])
    mean = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]])
    for k in range(2):
        known = targets[:, k] >= 0

        def loss(p, k=k, known=known):
            logits = x[known] @ p[1:] + p[0]
            return np.logaddexp(0, np.where(targets[known, k] == 1, -logits, logits)).sum() + (
                (p[1:] - mean[k]) ** 2
            ).sum() / (2 * strength)

        found = minimize(
            loss, np.zeros(5), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxfev": 9999}
        )
        np.testing.assert_allclose(np.append(stack.intercepts[k], stack.coefficients[k]), found.x, atol=1e-4)


def test_strong_regularisation_gives_the_mean_of_logits_back():
    targets, probs, folds = case(4)
    stack = fit_stack(targets, probs, folds, [1e-12])
    np.testing.assert_allclose(stack.coefficients, np.tile(np.eye(3) / 3, 3), atol=1e-7)
    blended, known = stack.apply(probs), targets >= 0
    for k in range(3):  # and the free intercept makes the mean probability the prevalence
        assert blended[known[:, k], k].mean() == pytest.approx((targets[known[:, k], k] == 1).mean(), abs=1e-5)


@pytest.mark.parametrize("only", [0, 1, -1])
def test_a_label_without_positives_or_negatives_keeps_the_mean_of_logits(only):
    targets, probs, folds = case(5)
    targets[targets[:, 1] != -1, 1] = only
    blended = fit_stack(targets, probs, folds).apply(probs)
    np.testing.assert_allclose(blended[:, 1], expit(logit(probs[:, :, 1].astype(np.float64)).mean(axis=0)), rtol=1e-6)
    others = fit_stack(targets, np.delete(probs, 1, axis=2)[:, :, [0, 1, 1]], folds)
    assert others.coefficients.shape == (3, 9)


def test_photos_of_which_nothing_is_known_change_no_stack():
    targets, probs, folds = case(6)
    unseen = np.random.default_rng(0).random((3, 50, 3)).astype(np.float32)
    more = fit_stack(
        np.concatenate([targets, np.full((50, 3), -1, np.int8)]),
        np.concatenate([probs, unseen], axis=1),
        np.append(folds, np.arange(50) % 4),
    )
    np.testing.assert_allclose(more.coefficients, fit_stack(targets, probs, folds).coefficients, atol=1e-4)


def test_a_stack_moves_with_members_and_labels():
    targets, probs, folds = case(7)
    blended = fit_stack(targets, probs, folds).apply(probs)
    order = [2, 0, 1]
    np.testing.assert_allclose(fit_stack(targets, probs[order], folds).apply(probs[order]), blended, atol=1e-5)
    labels = fit_stack(targets[:, order], probs[:, :, order], folds).apply(probs[:, :, order])
    np.testing.assert_allclose(labels, blended[:, order], atol=1e-5)


def test_the_strength_is_the_one_with_the_least_loss_out_of_fold():
    chosen = set()
    for seed in range(4):
        targets, probs, folds = case(seed, n=60 if seed % 2 else 400, noise=(1, 2))
        losses = []
        for strength in STRENGTHS:
            said = np.empty(targets.shape)
            for fold in range(4):
                held = folds == fold
                part = fit_stack(targets[~held], probs[:, ~held], folds[~held], [strength])
                said[held] = part.apply(probs[:, held])
            losses.append(mean_log_loss(targets, said))
        best = int(np.argmin(losses))
        expected = fit_stack(targets, probs, folds, [STRENGTHS[best]])
        np.testing.assert_allclose(fit_stack(targets, probs, folds).coefficients, expected.coefficients, atol=1e-4)
        chosen.add(best)
    assert len(chosen) > 1


# Out of fold


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_what_is_said_of_a_fold_does_not_depend_on_its_targets(method):
    targets, probs, folds = case(8)
    before = cross_fit_blend(targets, probs, folds, method)
    held = folds == 2
    targets[held] = 1 - np.abs(targets[held])
    after = cross_fit_blend(targets, probs, folds, method)
    np.testing.assert_array_equal(after[held], before[held])
    assert method == "mean" or (after[~held] != before[~held]).any()


def test_a_label_of_chance_looks_like_chance_out_of_fold():
    rng = np.random.default_rng(9)
    targets = (rng.random((300, 8)) < 0.3).astype(np.int8)
    probs, folds = rng.random((3, 300, 8)).astype(np.float32), np.arange(300) % 5
    fitted = fit_stack(targets, probs, folds, [1.0]).apply(probs)
    inside = np.mean([average_precision(targets[:, k], fitted[:, k]) for k in range(8)])
    assert inside > 0.45  # fitted to noise, so it would look good on its own photos
    for method in BLEND_METHODS:
        said = cross_fit_blend(targets, probs, folds, method)
        outside = np.mean([average_precision(targets[:, k], said[:, k]) for k in range(8)])
        assert outside == pytest.approx((targets == 1).mean(), abs=0.04), method


def test_of_two_folds_the_stack_out_of_fold_is_the_most_regular_one():
    targets, probs, folds = case(10)
    said = cross_fit_blend(targets, probs, folds % 2, "stack")
    first = folds % 2 == 0
    stack = fit_stack(targets[~first], probs[:, ~first], folds[~first], STRENGTHS[:1])
    np.testing.assert_allclose(said[first], stack.apply(probs[:, first]), atol=1e-6)


# Choice


def association(seed: int, n: int):
    """Two members that see labels 0 and 1 well and the third not at all, which is 0 without 1."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2, (n, 2))
    targets = np.column_stack([first, first[:, 0] & ~first[:, 1] & 1]).astype(np.int8)
    logits = 3 * (2 * first - 1) + rng.normal(size=(2, n, 2)) * 2
    probs = expit(np.concatenate([logits, rng.normal(size=(2, n, 1))], axis=2)).astype(np.float32)
    return targets, probs, np.arange(n) % 5


def test_a_label_that_others_define_makes_the_stack_win():
    targets, probs, folds = association(15, 300)
    choice = choose(targets, probs, folds, named(3))
    assert choice.blend.method == "stack"
    assert [one.name for one in choice.candidates][1:] == ["mean", "weights", "stack"]
    assert choice.candidates[-1].map > choice.candidates[1].map + 0.1
    assert choice.candidates[-1].comparison.better >= 0.95
    assert choice.reason.startswith("Kept stack with mAP 0.9") and choice.reason.count("better") == 1
    np.testing.assert_array_equal(choice.probs, cross_fit_blend(targets, probs, folds, "stack"))
    fresh, shown, _ = association(16, 1000)  # and it keeps the promise on photos that nobody saw
    prior = average_precision(fresh[:, 2], Blend.mean(2).apply(shown)[:, 2])
    assert average_precision(fresh[:, 2], choice.blend.apply(shown)[:, 2]) > prior + 0.4


@pytest.mark.parametrize("seed", range(3))
def test_without_association_the_mean_of_equals_is_kept(seed):
    targets, probs, folds = case(seed, n=300, labels=6, unknown=0, noise=(2, 2, 2))
    choice = choose(targets, probs, folds, named(6))
    assert choice.blend.method == "mean"
    single, mean, weights, stack = choice.candidates
    assert (single.against, mean.against, weights.against, stack.against) == ("", single.name, "mean", "mean")
    assert mean.comparison.better >= 0.95 > max(weights.comparison.better, stack.comparison.better)
    assert (mean.comparison.first, mean.comparison.second) == (single.map, mean.map)
    assert "Less simple and not surely better: weights" in choice.reason


def test_one_good_member_among_bad_ones_is_kept_alone():
    targets, probs, folds = case(17, n=300, noise=(8, 0.3, 8))
    choice = choose(targets, probs, folds, named(3))
    assert choice.blend.method == "weights"
    assert choice.blend.weights.tolist() == [0, 1, 0]
    np.testing.assert_allclose(choice.blend.apply(probs), probs[1], rtol=1e-6)
    assert choice.reason.startswith("Kept member 2 with mAP")


def test_unequal_members_make_the_weights_win():
    targets, probs, folds = case(18, n=600, labels=8, unknown=0.1, noise=(1, 1, 8, 8, 8, 8))
    choice = choose(targets, probs, folds, named(8))
    assert choice.blend.method == "weights"
    np.testing.assert_array_equal(choice.blend.weights, fit_weights(targets, probs))
    assert choice.blend.weights[:2].min() > choice.blend.weights[2:].max()


def test_photos_of_a_group_are_drawn_together():
    targets, probs, folds = case(19, n=60, noise=(2, 2))
    copies = [np.repeat(one, 30, axis=axis) for one, axis in ((targets, 0), (probs, 1), (folds, 0))]
    alone = choose(targets, probs, folds, named(3)).candidates[1].comparison.interval
    grouped = choose(*copies, named(3), groups=np.repeat(np.arange(60), 30)).candidates[1].comparison.interval
    apart = choose(*copies, named(3)).candidates[1].comparison.interval
    width, grouped, apart = (high - low for low, high in (alone, grouped, apart))
    assert grouped == pytest.approx(width, rel=0.15) and apart < width / 3


def test_where_nothing_is_known_the_first_member_is_kept_and_said_so():
    targets, probs, folds = case(20)
    choice = choose(np.full_like(targets, -1), probs, folds, named(3))
    assert choice.blend.weights.tolist() == [1, 0, 0]
    assert choice.reason == "Kept member 1, as no label has a positive to compare by."


# Blend


def test_apply_by_brute_force():
    rng = np.random.default_rng(11)
    probs = rng.uniform(0.01, 0.99, (2, 20, 3)).astype(np.float32)
    mean, mixed = Blend.mean(2).apply(probs), Blend("weights", np.array([0.3, 0.7])).apply(probs)
    coefficients, intercepts = rng.normal(size=(3, 6)), rng.normal(size=3)
    stacked = Blend("stack", np.array([0.5, 0.5]), coefficients, intercepts).apply(probs)
    assert {mean.dtype, mixed.dtype, stacked.dtype} == {np.dtype(np.float32)}
    for i in range(20):
        for k in range(3):
            a, b = probs[:, i, k].tolist()
            assert mean[i, k] == pytest.approx((a + b) / 2)
            assert mixed[i, k] == pytest.approx(0.3 * a + 0.7 * b)
            logits = [math.log(p / (1 - p)) for member in probs[:, i].tolist() for p in member]
            total = intercepts[k] + sum(c * z for c, z in zip(coefficients[k], logits, strict=True))
            assert stacked[i, k] == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-5)


def test_equal_members_blend_into_themselves():
    targets, probs, _ = case(12)
    same = probs[[1, 1, 1]]
    np.testing.assert_allclose(Blend.mean(3).apply(same), probs[1], rtol=1e-6)
    np.testing.assert_allclose(Blend("weights", fit_weights(targets, same)).apply(same), probs[1], rtol=1e-6)
    np.testing.assert_allclose(Blend("weights", [0.7, 0.3, 0]).apply(same), probs[1], rtol=1e-6)


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_a_blend_survives_json(method):
    targets, probs, folds = case(13)
    weights = fit_weights(targets, probs)
    blend = {"mean": Blend.mean(3), "weights": Blend("weights", weights), "stack": fit_stack(targets, probs, folds)}
    text = json.dumps(blend[method].to_dict(named(3)), allow_nan=False)
    back = Blend.from_dict(json.loads(text), named(3), 3)
    assert back.method == method
    np.testing.assert_array_equal(back.apply(probs), blend[method].apply(probs))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "median"},
        {"method": "mean"},  # with the coefficients of a stack
        {"method": None},
        {"labels": ["l0", "l2", "l1"]},
        {"labels": 3},
        {"weights": [0.5, 0.6]},
        {"weights": [1.5, -0.5]},
        {"weights": "0.5"},
        {"weights": [0.2, 0.3, 0.5]},
        {"weights": None},
        {"coefficients": None},
        {"coefficients": [[1, 2], [3]]},
        {"coefficients": [[1.0] * 6] * 2},
        {"intercepts": [0.0, math.nan, 0.0]},
        {"intercepts": [0.0, 0.0]},
        {"intercepts": 0.0},
    ],
)
def test_refuses_a_blend_that_was_tampered_with(change):
    good = Blend("stack", [0.5, 0.5], np.ones((3, 6)), np.zeros(3)).to_dict(named(3))
    assert Blend.from_dict(good, named(3), 2).method == "stack"
    with pytest.raises(RunError, match="Try"):
        Blend.from_dict({**good, **change}, named(3), 2)


def test_refuses_a_blend_of_others():
    good = Blend.mean(2).to_dict(named(3))
    for data, labels, members in [(good, named(4), 2), (good, named(3), 3), ({}, named(3), 2), ([], named(3), 2)]:
        with pytest.raises(RunError, match="Try"):
            Blend.from_dict(data, labels, members)


def test_blends_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Blend.mean(2).weights[0] = 1


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, p, f: (t, p[:1], f), "2 or more members"),
        (lambda t, p, f: (t, p[0], f), "2 or more members"),
        (lambda t, p, f: (t[:-1], p, f), "targets of shape"),
        (lambda t, p, f: (t[:, :2], p, f), "targets of shape"),
        (lambda t, p, f: (t, p * 2, f), r"in \[0, 1\]"),
        (lambda t, p, f: (t, np.where(p < 0.1, np.nan, p), f), r"in \[0, 1\]"),
        (lambda t, p, f: (t, p, f[:-1]), "folds of shape"),
        (lambda t, p, f: (t, p, f * 0), "2 folds"),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    targets, probs, folds = change(*case(14))
    for use in (
        lambda: fit_stack(targets, probs, folds),
        lambda: cross_fit_blend(targets, probs, folds, "mean"),
        lambda: choose(targets, probs, folds, named(3)),
    ):
        with pytest.raises(UsageError, match=message):
            use()


def test_apply_refuses_other_members_and_labels():
    stack = Blend("stack", [0.5, 0.5], np.ones((3, 6)), np.zeros(3))
    for blend, shape in [(stack, (3, 5, 3)), (stack, (2, 5, 4)), (Blend.mean(2), (3, 5, 3)), (stack, (1, 5, 3))]:
        with pytest.raises(UsageError, match="probs of shape"):
            blend.apply(np.full(shape, 0.5))
