"""The bootstrap against really drawing the photos and scoring them."""

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics import bootstrap, weighted
from modiste.metrics.bootstrap import Interval, compare_decided, draw, interval, intervals, replicate
from modiste.metrics.scores import score
from modiste.metrics.weighted import WeightedScores, flat_scores
from modiste.prediction import Decided

GARMENT = Group("garment", tuple(map(Label, ("dress", "shirt", "shoes"))), exclusive=True)
STYLE = Group("style", tuple(map(Label, ("casual", "sports", "rare", "never"))))
LABELS = LabelSet("fashion", (STYLE, GARMENT))


def case(seed: int, n: int = 60, dtype: type = np.float32):
    """Targets, probs and decisions of seven labels: one rare, one without positives, three of an exclusive group."""
    rng = np.random.default_rng(seed)
    style = (rng.random((n, 4)) < (0.6, 0.3, 0, 0)).astype(np.int8)
    targets = np.concatenate([style, np.eye(3, dtype=np.int8)[rng.integers(3, size=n)]], axis=1)
    targets[rng.random(targets.shape) < 0.15] = -1
    targets[:2] = -1  # nothing is known of these
    targets[:, 2] = np.where(np.arange(n) == 5, 1, np.minimum(targets[:, 2], 0))
    probs = np.clip(0.3 * (targets == 1) + rng.random(targets.shape) * 0.7, 0, 1).round(1).astype(dtype)  # ties
    return targets, probs, (probs > 0.55).astype(np.int8)


def ids(kind: str, n: int) -> np.ndarray | None:
    """Groups of sizes from 1 up, not in order."""
    numbers = np.random.default_rng(9).integers(n // 3, size=n) * 7 - 3
    return {"none": None, "numbers": numbers, "words": np.array([f"shop {k}" for k in numbers])}[kind]


def drawn(groups: np.ndarray | None, n: int, number: int, seed: int = 0) -> np.ndarray:
    """Photos of a replicate, one by one."""
    group = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    return np.repeat(np.arange(n), draw(group.max() + 1, seed, number)[group])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["none", "numbers", "words"])
@pytest.mark.parametrize("seed", range(4))
def test_every_score_is_that_of_the_photos_drawn(seed, kind, dtype):
    predicted, groups = case(seed, dtype=dtype), ids(kind, 60)
    found = replicate(*predicted, LABELS, groups=groups, replicates=21, seed=seed)
    missing = 0
    for number in range(21):
        those = drawn(groups, 60, number, seed)
        expected = flat_scores(score(*(part[those] for part in predicted), LABELS))
        assert list(found) == list(expected)
        here = [values[number] for values in found.values()]
        np.testing.assert_allclose(here, list(expected.values()), rtol=0, atol=1e-12)
        missing += math.isnan(expected["labels.rare.ap"])
    assert missing  # the one positive of the rare label is not always drawn


def test_scores_of_the_photos_drawn_agree_with_scikit_learn():
    targets, probs, decisions = case(5, n=200)
    targets[targets < 0] = 0
    found = replicate(targets, probs, decisions, LABELS, replicates=10)
    for number in range(10):
        those = drawn(None, 200, number)
        true, prob, yes = targets[those], probs[those], decisions[those]
        here = {name: values[number] for name, values in found.items()}
        some = true.any(axis=0)
        assert not some[3]
        for name, expected in {
            "map": oracle.average_precision_score(true[:, some], prob[:, some]),
            "micro_ap": oracle.average_precision_score(true, prob, average="micro"),
            "macro.f2": oracle.fbeta_score(true[:, some], yes[:, some], beta=2, average="macro", zero_division=0),
            "micro.f1": oracle.f1_score(true, yes, average="micro"),
            "sample.recall": oracle.recall_score(true, yes, average="samples", zero_division=0),
            "labels.sports.precision": oracle.precision_score(true[:, 1], yes[:, 1], zero_division=0),
            "labels.casual.ap": oracle.average_precision_score(true[:, 0], prob[:, 0]),
        }.items():
            assert here[name] == pytest.approx(expected, abs=1e-12), name


def test_weights_of_any_size_give_the_same_scores():
    targets, probs, decisions = case(1)
    scores = WeightedScores.gather(targets, probs, decisions, LABELS, group=np.arange(60))
    weights = np.stack([draw(60, 0, number) for number in range(11)])
    expected = scores.scores(weights)
    for times in (3, 1000, 10**6, 10**9):  # from one byte a running sum to eight
        np.testing.assert_allclose(scores.scores(weights * times), expected, rtol=0, atol=1e-12)
    ones = scores.scores(np.ones((1, 60), np.int64))[:, 0]
    np.testing.assert_allclose(ones, list(flat_scores(score(targets, probs, decisions, LABELS)).values()), atol=1e-12)


def test_a_replicate_depends_on_its_seed_and_number_alone(monkeypatch):
    predicted = case(2)
    whole = replicate(*predicted, LABELS, replicates=50, seed=4)
    fewer = replicate(*predicted, LABELS, replicates=20, seed=4)
    other = replicate(*predicted, LABELS, replicates=20, seed=5)
    monkeypatch.setattr(bootstrap, "_WEIGHTS", 7 * predicted[0].size)
    monkeypatch.setattr(weighted, "_PIECE", 10)
    blocks = replicate(*predicted, LABELS, replicates=50, seed=4)
    for name, values in whole.items():
        np.testing.assert_allclose(values, blocks[name], rtol=0, atol=1e-14)
        np.testing.assert_allclose(values[:20], fewer[name], rtol=0, atol=1e-14)
    assert not np.allclose(whole["map"][:20], other["map"])


def test_a_draw_takes_as_many_as_there_are():
    draws = np.stack([draw(50, 1, number) for number in range(4000)])
    assert (draws.sum(axis=1) == 50).all()
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.08)  # five standard errors
    np.testing.assert_allclose(draws.var(axis=0), 49 / 50, atol=0.2)  # of a binomial of 50 at 1 / 50


@pytest.mark.parametrize("copies", [1, 4])
def test_spread_of_an_accuracy_is_that_of_a_share(copies):
    rng = np.random.default_rng(3)
    true, right = rng.integers(3, size=300), rng.random(300) < 0.7
    targets = np.eye(3, dtype=np.int8)[true].repeat(copies, axis=0)
    probs = np.eye(3)[np.where(right, true, (true + 1) % 3)].repeat(copies, axis=0)
    labels = LabelSet("garments", (GARMENT,))
    groups = np.arange(300).repeat(copies)  # photos of one garment add nothing to what is known
    found = replicate(targets, probs, targets, labels, groups=groups)["groups.garment.accuracy"]
    share = right.mean()
    assert found.std() == pytest.approx(np.sqrt(share * (1 - share) / 300), rel=0.1)
    low, high = interval(found)
    assert (low + high) / 2 == pytest.approx(share, abs=0.01)


def test_interval_is_the_percentiles_of_what_is_there():
    values = np.random.default_rng(0).random(400)
    expected = np.percentile(values, [5, 95])
    values = np.insert(values, [0, 100, 400], np.nan)
    assert interval(values, 0.9) == pytest.approx(tuple(expected))
    assert all(map(math.isnan, interval(np.full(3, np.nan))))


def test_intervals_of_average_precisions_are_moved_by_their_bias():
    values = np.random.default_rng(0).random(400)
    low, high = np.percentile(values, [5, 95])
    points = {"map": 0.5, "labels.a.ap": 0.9, "macro.f2": 0.9}
    found = intervals(dict.fromkeys(points, np.append(values, np.nan)), points, 0.9)
    assert found["map"] == pytest.approx((low - values.mean() + 0.5, high - values.mean() + 0.5))
    assert found["labels.a.ap"] == (pytest.approx(low - values.mean() + 0.9), 1.0)
    assert found["macro.f2"] == pytest.approx((low, high))


def test_average_precisions_lie_in_their_intervals_also_where_labels_are_rare():
    for seed in range(20):
        targets, probs, decisions = case(seed, n=60)
        draws = replicate(targets, probs, decisions, LABELS, replicates=100)
        points = flat_scores(score(targets, probs, decisions, LABELS))
        for name, (low, high) in intervals(draws, points).items():
            of_ap = name in ("map", "micro_ap") or name.endswith(".ap")
            assert not of_ap or math.isnan(points[name]) or math.isnan(low) or low <= points[name] <= high, name


def test_comparison_draws_the_same_photos_for_both():
    targets, probs, decisions = case(6, n=150)
    rng = np.random.default_rng(0)
    better = np.clip(probs + 0.2 * (targets == 1) * rng.random(probs.shape), 0, 1).astype(np.float32)
    first, second = Decided(probs, decisions), Decided(better, (better > 0.55).astype(np.int8))
    for name in ("map", "macro.f2", "labels.rare.ap"):
        found = compare_decided(first, second, targets, LABELS, name, replicates=80, seed=3)
        gains = []
        for number in range(80):
            those = drawn(None, 150, number, 3)
            one, two = (
                flat_scores(score(targets[those], *(p[those] for p in predicted), LABELS))[name]
                for predicted in (first, second)
            )
            gains.append(two - one)
        gains = np.array(gains)[~np.isnan(gains)]
        points = [flat_scores(score(targets, *predicted, LABELS))[name] for predicted in (first, second)]
        if name != "macro.f2":
            gains += points[1] - points[0] - gains.mean()
        assert found.better == pytest.approx(np.mean(gains > 1e-12) + np.mean(np.abs(gains) <= 1e-12) / 2)
        np.testing.assert_allclose(found.interval, np.percentile(gains, [2.5, 97.5]), atol=1e-12)
        assert (found.first, found.second, found.difference) == (*points, points[1] - points[0])
    same = compare_decided(first, first, targets, LABELS, "micro.f1", replicates=30)
    assert (same.better, same.difference, same.interval) == (0.5, 0, (0, 0))


def test_comparison_in_words():
    comparison = bootstrap.Comparison("macro.f2", 0.5, 0.512, Interval(0.001, 0.023), 0.95, 0.97)
    assert comparison.sentence() == (
        "B is better than A in macro F2 with probability 0.97; the difference is 0.012, 95 % from 0.001 to 0.023."
    )
    words = {
        "map": "in mAP with",
        "micro_ap": "in micro AP with",
        "sample.recall": "in sample recall with",
        "labels.a.b.ap": "in AP of 'a.b' with",
        "groups.garment.accuracy": "in accuracy of 'garment' with",
    }
    for name, part in words.items():
        sentence = bootstrap.Comparison(name, 0.5, 0.6, Interval(0.05, 0.15), 0.9, 1.0).sentence("old", "new")
        assert sentence.startswith(f"new is better than old {part} probability above 0.99; ")
        assert sentence.endswith("is 0.100, 90 % from 0.050 to 0.150.")
    targets, probs, decisions = case(0)
    predicted = Decided(probs, decisions)
    nothing = compare_decided(predicted, predicted, targets, LABELS, "labels.never.ap", replicates=5)
    assert math.isnan(nothing.better) and math.isnan(nothing.difference)
    assert nothing.sentence() == "Nothing is known that A and B could be compared by in AP of 'never'."


def test_refuses_what_does_not_fit():
    targets, probs, decisions = case(7)
    predicted = Decided(probs, decisions)
    with pytest.raises(UsageError, match=r"groups of shape \(60,\), but got shape \(59,\)"):
        replicate(targets, probs, decisions, LABELS, groups=np.arange(59))
    with pytest.raises(UsageError, match="photos to draw from"):
        replicate(targets[:0], probs[:0], decisions[:0], LABELS)
    with pytest.raises(UsageError, match="at least one replicate"):
        replicate(targets, probs, decisions, LABELS, replicates=0)
    with pytest.raises(UsageError, match=r"in \[0, 1\]"):
        replicate(targets, probs + 1, decisions, LABELS)
    with pytest.raises(UsageError, match="one shape"):
        compare_decided(predicted, Decided(probs[:-1], decisions), targets, LABELS)
    with pytest.raises(UsageError, match=r"the name of a score, but got 'macro\.f3'.*'macro\.f"):
        compare_decided(predicted, predicted, targets, LABELS, "macro.f3")
