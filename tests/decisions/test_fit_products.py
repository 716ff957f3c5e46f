"""Which pooling is kept, thresholds of products, and that a product is never judged by what it taught."""

import numpy as np
import pytest

from modiste.config import DecideConfig
from modiste.decisions.decision import Decision
from modiste.decisions.fit import decide_out_of_fold, fit_decision, fit_each_fold, make_folds
from modiste.decisions.fit_products import FEWEST_PRODUCTS, choose_pooling, cross_fit_products, fit_products
from modiste.decisions.fit_thresholds import tune_thresholds
from modiste.decisions.pooling import Products, pool
from modiste.labels import LabelSet
from modiste.metrics.scores import mean_average_precision

LABELS = LabelSet.free("two", ["shirt", "dress"])


def views(rng, products=150, photos=5, *, one_knows=False):
    """Products whose photos all know a little, so that the mean of logits tells all that can be known; or of which
    one knows the labels, and is surer than the others, which know nothing."""
    of_product = (rng.random((products, 2)) < [0.4, 0.2]).astype(np.int8)
    targets, groups = np.repeat(of_product, photos, axis=0), np.repeat(np.arange(products), photos)
    truth = 4.0 * (2 * targets - 1.0)
    logits = truth + rng.normal(scale=4, size=targets.shape)
    if one_knows:
        first = (np.arange(photos * products) % photos == 0)[:, None]
        logits = np.where(first, truth, rng.uniform(-3.9, 3.9, targets.shape))
    order = rng.permutation(len(groups))
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return Products.of(groups[order], targets[order], LABELS), targets[order], probs[order]


def test_the_mean_is_kept_unless_the_most_certain_view_is_surely_better(rng):
    products, _, probs = views(rng)
    kept = choose_pooling(products, lambda: probs, LABELS)
    assert kept.pooling == "mean" and "pooled by 'mean'" in kept.reason
    products, _, probs = views(rng, one_knows=True)
    kept = choose_pooling(products, lambda: probs, LABELS)
    assert kept.pooling == "most-certain" and "is better than mean in mAP with probability above 0.99" in kept.reason
    for pooling, value in kept.maps.items():
        pooled = pool(probs, products.numbers, LABELS, pooling)
        assert value == pytest.approx(mean_average_precision(products.targets, pooled, LABELS).value)


def test_too_few_products_and_groups_that_are_none_tune_nothing(rng):
    def never():
        raise AssertionError("what needs no probabilities asks for none")

    products, targets, _ = views(rng, products=FEWEST_PRODUCTS - 1)
    found = choose_pooling(products, never, LABELS)
    assert found.pooling is None and "49 here have several photos, and it takes 50" in found.reason
    people = Products.of(rng.integers(60, size=len(targets)), targets, LABELS)
    found = choose_pooling(people, never, LABELS)
    assert found.pooling is None and "groups have different labels. They are taken for no products" in found.reason
    alone = Products.of(np.arange(len(targets)), targets, LABELS)
    assert choose_pooling(alone, never, LABELS).reason == ""
    decision = Decision.untuned("fixed:0.5", LABELS)
    assert fit_products(decision, None, np.empty((0, 2)), products, LABELS) is decision


def test_thresholds_of_products_are_tuned_on_what_is_pooled(rng):
    products, targets, raw = views(rng)
    folds = make_folds(targets, products.numbers, 5)
    fitted = fit_decision(DecideConfig(policy="fbeta:2", calibration="platt"), targets, raw, folds, LABELS).decision
    made = fit_products(fitted, "mean", raw, products, LABELS)
    pooled = pool(fitted.calibration.apply(raw), products.numbers, LABELS)
    right = tune_thresholds(fitted.policy, products.targets, pooled, LABELS).thresholds.values
    np.testing.assert_array_equal(made.products.thresholds.values, right)
    assert np.abs(right - made.thresholds.values).max() > 0.01  # else thresholds of photos would do
    decided = made.apply_products(made.apply(raw, LABELS).probs, products.numbers, LABELS)
    np.testing.assert_array_equal(decided.decisions, pooled > right)
    plain = fitted.apply_products(fitted.apply(raw, LABELS).probs, products.numbers, LABELS)
    np.testing.assert_array_equal(plain.decisions, pooled > fitted.thresholds.values)


def test_other_label_frequencies_move_thresholds_of_products_too(rng):
    products, targets, raw = views(rng)
    folds, here = make_folds(targets, products.numbers, 5), np.array([0.2, 0.6])
    config = DecideConfig(policy="fbeta:1", calibration="platt")
    fitted = fit_decision(config, targets, raw, folds, LABELS, here=here).decision
    made = fit_products(fitted, "mean", raw, products, LABELS)
    pooled = pool(fitted.apply(raw, LABELS).probs, products.numbers, LABELS)
    shares = targets.mean(axis=0)
    weights = np.stack([here / shares, (1 - here) / (1 - shares)], axis=1)
    right = tune_thresholds(fitted.policy, products.targets, pooled, LABELS, weights).thresholds.values
    np.testing.assert_allclose(made.products.thresholds.values, right, rtol=1e-6)
    unweighted = tune_thresholds(fitted.policy, products.targets, pooled, LABELS).thresholds.values
    assert np.abs(unweighted - right).max() > 0.01


@pytest.mark.parametrize("pooling", [None, "mean", "most-certain"])
def test_cross_fitting_never_sees_the_product_it_judges(pooling, rng):
    products, targets, raw = views(rng, products=80, photos=3)
    folds = make_folds(targets, products.numbers, 4)
    config = DecideConfig(policy="fbeta:1", calibration="platt", folds=4)

    def judged(targets):
        known = Products.of(products.numbers, targets, LABELS)
        fits = fit_each_fold(config, targets, raw, folds, LABELS)
        return decide_out_of_fold(fits, raw, LABELS), cross_fit_products(fits, pooling, raw, known, LABELS)

    photos, said = judged(targets)
    pooled = pool(photos.probs, products.numbers, LABELS, pooling or "mean")
    np.testing.assert_allclose(said.probs, pooled, rtol=1e-6)
    for fold in range(4):  # whatever the products of a fold are said to be, their own decisions stay
        other = np.where((folds == fold)[:, None], 1 - targets, targets)
        mine = np.unique(products.numbers[folds == fold])
        again = judged(other)[1]
        np.testing.assert_array_equal(said.probs[mine], again.probs[mine])
        np.testing.assert_array_equal(said.decisions[mine], again.decisions[mine])
