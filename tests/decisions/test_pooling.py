"""Pooling and products against loops over each product, label by label."""

import math

import numpy as np
import pytest

from modiste.decisions.pooling import POOLINGS, Products, pool
from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet

LABELS = LabelSet(
    "mixed",
    (
        Group("garment", (Label("coat"), Label("dress"), Label("skirt")), exclusive=True),
        Group("style", (Label("formal"), Label("sporty"))),
    ),
)


def one_by_one(probs, products, pooling):
    """What `pool` says, a product and a label at a time."""
    pooled = []
    for number in range(products.max() + 1):
        photos = [row.astype(float).tolist() for row, product in zip(probs, products, strict=True) if product == number]
        if len(photos) == 1:
            pooled.append(photos[0])
        elif pooling == "mean":
            logits = [[math.log(p / (1 - p)) for p in np.clip(photo, 1e-6, 1 - 1e-6)] for photo in photos]
            pooled.append([1 / (1 + math.exp(-sum(column) / len(photos))) for column in zip(*logits, strict=True)])
        else:
            garment = max(photos, key=lambda photo: max(photo[:3]))[:3]
            style = [max((photo[k] for photo in photos), key=lambda p: (abs(p - 0.5), p)) for k in (3, 4)]
            pooled.append(garment + style)
    return np.array(pooled)


def some(rng, photos=200, products=60):
    numbers = rng.permutation(np.concatenate([np.arange(products), rng.integers(products, size=photos - products)]))
    probs = (1 / (1 + np.exp(-rng.normal(scale=3, size=(photos, 5))))).astype(np.float32)
    probs[rng.random(probs.shape) < 0.1] = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0])
    return probs, numbers


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pools_as_each_product_alone(pooling, rng):
    probs, products = some(rng)
    np.testing.assert_allclose(pool(probs, products, LABELS, pooling), one_by_one(probs, products, pooling), rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_the_photos_is_of_no_matter(pooling, rng):
    probs, products = some(rng)
    probs = (probs + rng.uniform(0, 1e-3, probs.shape).astype(np.float32)) / 1.01  # no two are equally certain
    order = rng.permutation(len(probs))
    np.testing.assert_allclose(
        pool(probs[order], products[order], LABELS, pooling), pool(probs, products, LABELS, pooling), rtol=1e-6
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_single_photo_keeps_its_very_probabilities(pooling):
    probs = np.array([[0, 1, 0.3, 1e-9, 1 - 1e-7], [0.5, 0.2, 0.1, 1, 0]], np.float32)
    np.testing.assert_array_equal(pool(probs, np.array([1, 0]), LABELS, pooling), probs[::-1])


def test_the_most_certain_view_decides_a_group_whole_and_each_free_label_alone():
    probs = np.array([[0.6, 0.5, 0.1, 0.9, 0.4], [0.1, 0.2, 0.7, 0.2, 0.05]], np.float32)
    pooled = pool(probs, np.zeros(2, int), LABELS, "most-certain")
    np.testing.assert_allclose(pooled, [[0.1, 0.2, 0.7, 0.9, 0.05]], atol=1e-7)


def test_what_is_known_of_a_product_is_what_is_known_of_its_photos(rng):
    targets = rng.choice([-1, 0, 0, 1], size=(200, 5)).astype(np.int8)
    groups = rng.permutation(np.repeat(np.arange(80) * 7, [1] * 20 + [3] * 60))
    found = Products.of(groups, targets, LABELS)
    assert (len(found), found.several) == (80, 60)
    for k, group in enumerate(sorted(set(groups.tolist()))):
        photos = targets[groups == group]
        np.testing.assert_array_equal(found.numbers[groups == group], k)
        for label in range(5):
            values = {*photos[:, label].tolist()}
            assert found.targets[k, label] == (1 if 1 in values else 0 if 0 in values else -1)
        both = any({0, 1} <= {*photos[:, label].tolist()} for label in range(5))
        two = sum(1 in photos[:, label] for label in range(3)) > 1
        assert found.contradicting[k] == (both or two)


def test_groups_whose_photos_mostly_disagree_are_no_products():
    """As of a person who gave photos of many garments."""
    garments = np.eye(3, dtype=np.int8)[np.arange(30) % 3]
    targets = np.hstack([garments, np.zeros((30, 2), np.int8)])
    assert not Products.of(np.arange(30) // 3, targets, LABELS).plausible  # each has three garments
    assert Products.of(np.arange(30) % 15, targets, LABELS).plausible  # both photos of each show one garment
    assert Products.of(np.arange(30), targets, LABELS).plausible


def test_refuses_what_does_not_fit():
    with pytest.raises(UsageError, match=r"shape \(3, 5\)"):
        pool(np.zeros((2, 5), np.float32), np.zeros(3, int), LABELS)
    with pytest.raises(UsageError, match="mean, most-certain"):
        pool(np.zeros((2, 5), np.float32), np.zeros(2, int), LABELS, "median")
    assert pool(np.zeros((0, 5), np.float32), np.zeros(0, int), LABELS).shape == (0, 5)
