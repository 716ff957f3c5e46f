import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score

from modiste.decisions.fit_thresholds import POOLING, tune_thresholds
from modiste.decisions.policies import Policy
from modiste.errors import UsageError
from modiste.labels import LabelSet

LABELS = LabelSet.free("three", ["a", "b", "c"])


def simulated(seed: int, n: int = 400, shares=(0.4, 0.1, 0.02), unknown: float = 0.1, ties: bool = True):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(shares))) < shares).astype(np.int8)
    logits = 2 * targets + rng.normal(size=targets.shape) - 2
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    if ties:
        probs = np.round(probs, 2)
    targets[rng.random(targets.shape) < unknown] = -1
    return targets, probs


def known_score(target, said, beta):
    known = target >= 0
    return fbeta_score(target[known], said[known], beta=beta, zero_division=0)


@pytest.mark.parametrize(
    "text", ["fixed:0.5", "fbeta:2", "precision:0.9", "recall:0.9", "top:3", "fbeta:0.5+never-empty"]
)
def test_a_policy_reads_what_it_writes(text):
    assert str(Policy.parse(text)) == text


@settings(deadline=None)
@given(
    st.sampled_from(["fixed", "precision", "recall", "fbeta"]),
    st.floats(0, 1, exclude_min=True, allow_subnormal=True),
    st.booleans(),
)
def test_no_policy_loses_digits(kind, value, never_empty):
    policy = Policy(kind, value, never_empty)
    assert Policy.parse(str(policy)) == policy


@pytest.mark.parametrize("text", ["precision:0.9999999", "fixed:0.12345678", "fbeta:99.999999", "top:12345678"])
def test_digits_stay_as_they_were_written(text):
    assert str(Policy.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "fbeta", "fbeta:", "fbeta:0", "fbeta:-1", "fbeta:nan", "fixed:2", "top:0", "top:1.5", "top:inf",
             "precision:0", "recall:1.1", "best:1", "fbeta:2+empty"]
)  # fmt: skip
def test_refuses_what_is_no_policy(text):
    with pytest.raises(UsageError, match=r"fbeta:2.*but got"):
        Policy.parse(text)


def test_the_paper_and_top_need_no_photos_and_others_do():
    assert Policy.parse("fixed:0.5").untuned(2).values.tolist() == [0.5, 0.5]
    assert Policy.parse("top:3").untuned(9).top == 3
    with pytest.raises(UsageError, match="modiste tune"):
        Policy.parse("fbeta:2").untuned(2)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
@pytest.mark.parametrize("beta", [0.5, 1, 2])
def test_many_positives_come_close_to_brute_force(seed, beta):
    targets, probs = simulated(seed, 20_000, unknown=0)
    thresholds = tune_thresholds(Policy("fbeta", beta), targets, probs, LABELS).thresholds
    said = thresholds.apply(probs, LABELS)
    for k in range(3):
        best = max(known_score(targets[:, k], probs[:, k] > cut, beta) for cut in np.unique(probs[:, k]))
        reached = known_score(targets[:, k], said[:, k], beta)
        assert best - 0.03 < reached <= best + 1e-12


def own_and_pooled(targets, probs, beta):
    """Brute force over midpoints: each label's best threshold, and the one for all with the best mean score."""
    every = np.unique(probs)
    cuts = np.append(0, (every[1:] + every[:-1]) / 2).astype(np.float32)
    scores = np.array(
        [[known_score(t, p > cut, beta) for cut in cuts] for t, p in zip(targets.T, probs.T, strict=True)]
    )
    return scores, cuts


@pytest.mark.parametrize("seed", range(5))
def test_few_positives_are_drawn_towards_the_common_threshold(seed):
    targets, probs = simulated(seed, 300)
    tuned = tune_thresholds(Policy("fbeta", 2), targets, probs, LABELS).thresholds.values
    scores, cuts = own_and_pooled(targets, probs, 2)
    mean = scores.mean(axis=0)
    common = cuts[np.flatnonzero(np.isclose(mean, mean.max(), atol=1e-9))]
    for k in range(3):
        positives = (targets[:, k] == 1).sum()
        logit = np.log(tuned[k] / (1 - tuned[k]))
        # Undo the stated rule; what comes out must be a best threshold of the label alone.
        for pooled in common:
            own = (logit * (positives + POOLING) - POOLING * np.log(pooled / (1 - pooled))) / positives
            said = probs[:, k] > 1 / (1 + np.exp(-own))
            if np.isclose(known_score(targets[:, k], said, 2), scores[k].max()):
                break
        else:
            pytest.fail(f"label {k}: {tuned[k]}")


def test_a_label_without_positives_gets_the_common_threshold_and_a_sentence():
    targets, probs = simulated(0)
    targets[:, 2] = np.minimum(targets[:, 2], 0)
    tuned = tune_thresholds(Policy("fbeta", 2), targets, probs, LABELS)
    alone = tune_thresholds(Policy("fbeta", 2), targets[:, :2], probs[:, :2], LabelSet.free("two", "ab"))
    np.testing.assert_allclose(tuned.thresholds.values[:2], alone.thresholds.values)
    assert tuned.notes == ("'c' has no positive photo to tune on: its threshold is that of all labels together.",)


@pytest.mark.parametrize("policy", ["precision:0.8", "recall:0.8"])
def test_targets_are_reached_where_positives_are_many(policy):
    targets, probs = simulated(1, 50_000, unknown=0, ties=False)
    said = tune_thresholds(Policy.parse(policy), targets, probs, LABELS).thresholds.apply(probs, LABELS)
    for k in range(3):
        right = ((targets[:, k] == 1) & (said[:, k] == 1)).sum()
        whole = said[:, k].sum() if policy.startswith("precision") else (targets[:, k] == 1).sum()
        assert right / whole == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("policy", ["precision:0.8", "recall:0.8"])
def test_drawing_towards_the_common_threshold_never_misses_the_target(policy, seed):
    targets, probs = simulated(seed, 300)
    tuned = tune_thresholds(Policy.parse(policy), targets, probs, LABELS)
    said = tuned.thresholds.apply(probs, LABELS)
    for k in range(3):
        right = ((targets[:, k] == 1) & (said[:, k] == 1)).sum()
        whole = said[targets[:, k] >= 0, k].sum() if policy.startswith("precision") else (targets[:, k] == 1).sum()
        assert whole == 0 or right / whole >= 0.8


def test_a_label_without_positives_is_not_said_where_a_precision_is_wanted():
    targets, probs = simulated(0)
    targets[:, 2] = np.minimum(targets[:, 2], 0)
    tuned = tune_thresholds(Policy("precision", 0.5), targets, probs, LABELS)
    assert tuned.thresholds.values[2] == 1
    assert tuned.notes == ("'c' has no positive photo to tune on: it is never predicted.",)


def test_a_precision_that_is_out_of_reach_is_never_said():
    targets, probs = simulated(2, 500)
    order = np.argsort(-probs[:, 1])
    targets[order, 1] = (np.arange(500) > 400).astype(np.int8)  # the worst ranking there is
    tuned = tune_thresholds(Policy("precision", 0.9), targets, probs, LABELS)
    assert tuned.thresholds.values[1] == 1
    assert any("'b' never reaches a precision of 0.9" in note for note in tuned.notes)


def test_unknown_photos_change_nothing():
    targets, probs = simulated(3)
    more = np.full((100, 3), -1, np.int8)
    noise = np.random.default_rng(0).random((100, 3)).astype(np.float32)
    for policy in ("fbeta:2", "precision:0.5", "recall:0.5"):
        one = tune_thresholds(Policy.parse(policy), targets, probs, LABELS).thresholds.values
        two = tune_thresholds(
            Policy.parse(policy), np.vstack([targets, more]), np.vstack([probs, noise]), LABELS
        ).thresholds.values
        np.testing.assert_array_equal(one, two)


def test_weights_stand_for_repeated_photos():
    targets, probs = simulated(4, 2000, unknown=0)
    positive = targets[:, 0] == 1
    repeated = np.concatenate([np.repeat(np.flatnonzero(positive), 3), np.flatnonzero(~positive)])
    one = LabelSet.free("one", "a")
    weights = np.array([[3.0, 1.0]])
    by_weight = tune_thresholds(Policy("fbeta", 2), targets[:, :1], probs[:, :1], one, weights).thresholds
    by_copies = tune_thresholds(Policy("fbeta", 2), targets[repeated, :1], probs[repeated, :1], one).thresholds
    np.testing.assert_allclose(by_weight.values, by_copies.values)  # one label: its own is the common one


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5])
def test_refuses_what_is_no_probability(wrong):
    targets, probs = simulated(6)
    probs[7, 1] = wrong
    with pytest.raises(UsageError, match="Expected"):
        tune_thresholds(Policy("fbeta", 2), targets, probs, LABELS)


def test_refuses_photos_that_have_none_of_the_labels():
    targets, probs = simulated(7)
    with pytest.raises(UsageError, match="none to tune on"):
        tune_thresholds(Policy("fbeta", 2), np.minimum(targets, 0), probs, LABELS)
