"""Fitting how products are decided: the pooling of their photos, and thresholds of what is pooled.

The simpler pooling is kept unless the other is surely better, on photos that the calibration was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from modiste.decisions.decision import Decision, ProductRule
from modiste.decisions.fit import FoldFit, shift_weights
from modiste.decisions.fit_blend import SURE
from modiste.decisions.fit_thresholds import tune_thresholds
from modiste.decisions.pooling import POOLINGS, Pooling, Products, pool
from modiste.labels import LabelSet
from modiste.metrics.bootstrap import compare_decided
from modiste.metrics.scores import mean_average_precision
from modiste.prediction import Decided

FEWEST_PRODUCTS = 50  # with several photos: with fewer, which pooling is better is noise


@dataclass(frozen=True)
class PoolingChoice:
    """Which pooling was kept, and why.

    Attributes:
        pooling: the kept one; None where there is too little to choose by.
        reason: what was kept, or what is lacking, a sentence for a person; "" where every photo stands alone.
        maps: pooling -> mean average precision of the products.
    """

    pooling: Pooling | None
    reason: str
    maps: Mapping[Pooling, float] = field(default_factory=dict)


def contradictions(products: Products) -> str:
    """How many products contradict themselves, as a sentence."""
    return f"The photos of {products.contradicting.sum():,} of {products.several:,} groups have different labels."


def choose_pooling(
    products: Products, out_of_fold: Callable[[], np.ndarray], label_set: LabelSet, seed: int = 0
) -> PoolingChoice:
    """Keep the mean, unless the most certain view surely has the better mAP.

    Args:
        products: of n photos.
        out_of_fold: gives probs (n, labels), calibrated by what was fitted on other photos; asked where it is needed.
        label_set: names the label axis.
        seed: of the bootstrap draws.
    """
    if not products.several:
        return PoolingChoice(None, "")
    if not products.plausible:
        why = f"{contradictions(products)} They are taken for no products, and nothing is tuned for products."
        return PoolingChoice(None, why)
    if products.several < FEWEST_PRODUCTS:
        why = f"Nothing is tuned for products: {products.several:,} here have several photos, and it takes"
        return PoolingChoice(None, f"{why} {FEWEST_PRODUCTS}.")
    probs = out_of_fold()
    pooled = {pooling: pool(probs, products.numbers, label_set, pooling) for pooling in POOLINGS}
    maps = {name: mean_average_precision(products.targets, each, label_set).value for name, each in pooled.items()}
    judged = [Decided(each, (each > 0.5).astype(np.int8)) for each in pooled.values()]  # mAP decides nothing
    pair = compare_decided(judged[0], judged[1], products.targets, label_set, seed=seed)
    kept = POOLINGS[1] if pair.better >= SURE else POOLINGS[0]
    words = f"The photos of a product are pooled by '{kept}', with mAP {maps[kept]:.3f}."
    return PoolingChoice(kept, f"{words} {pair.sentence(*POOLINGS)}", maps)


def fit_products(
    decision: Decision, pooling: Pooling | None, raw: np.ndarray, products: Products, label_set: LabelSet
) -> Decision:
    """The same decision with thresholds for products, by its policy.

    Args:
        decision: fitted on these photos.
        pooling: of the photos of a product; None leaves the decision as it is.
        raw: (n, labels) float32, the network's probabilities.
        products: of the n photos.
        label_set: names the label axis.
    """
    if pooling is None:
        return decision
    pooled = pool(decision.apply(raw, label_set).probs, products.numbers, label_set, pooling)
    weights = None if decision.label_shift is None else shift_weights(*decision.label_shift)
    tuned = tune_thresholds(decision.policy, products.targets, pooled, label_set, weights)
    groups = tuned.thresholds.groups if decision.thresholds.groups else {}  # never unsure of photos, nor of products
    return replace(decision, products=ProductRule(pooling, tuned.thresholds.with_groups(groups, label_set)))


def cross_fit_products(
    fits: Sequence[FoldFit], pooling: Pooling | None, raw: np.ndarray, products: Products, label_set: LabelSet
) -> Decided:
    """Decide each product by calibration and thresholds that its own fold had no part in.

    Args:
        fits: decisions of folds that keep products whole.
        pooling, raw, products, label_set: as for `fit_products`.

    Returns:
        probs and decisions of all products.
    """
    shape = (len(products), len(label_set))
    probs, decisions = np.empty(shape, np.float32), np.empty(shape, np.int8)
    for inside, fitted in fits:
        decision = fit_products(fitted, pooling, raw[~inside], products.part(~inside), label_set)
        which, numbers = np.unique(products.numbers[inside], return_inverse=True)
        own = decision.apply(raw[inside], label_set).probs
        probs[which], decisions[which] = decision.apply_products(own, numbers, label_set)
    return Decided(probs, decisions)
