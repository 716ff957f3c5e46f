import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score

from modiste.decisions.fit_thresholds import POOLING, tune_thresholds
from modiste.decisions.policies import Policy
from modiste.errors import UsageError
from modiste.labels import Group, Label, LabelSet

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


# Exclusive groups

WEAR = LabelSet(
    "wear",
    (
        Group("garment", tuple(map(Label, "abc")), exclusive=True),
        Group("style", (Label("casual"),)),
        Group("colour", tuple(map(Label, ("red", "blue"))), exclusive=True),
    ),
)


def choosing(seed: int, n: int, kind: str = "softmax"):
    """Photos with one of three garments or none, a free label, and one of two colours or an unknown one."""
    rng = np.random.default_rng(seed)
    targets, probs = np.zeros((n, 6), np.int8), np.zeros((n, 6), np.float32)
    for at in ([0, 1, 2], [4, 5]):
        logits = np.append(rng.normal(size=(n, len(at))) * 2, np.zeros((n, 1)), axis=1)
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        value = (rng.random((n, 1)) > np.cumsum(share, axis=1)).sum(axis=1)
        targets[:, at] = value[:, None] == np.arange(len(at))
        probs[:, at] = share[:, :-1] if kind == "softmax" else 1 / (1 + np.exp(-logits[:, :-1]))
    targets[rng.random(n) < 0.3, 4:] = -1
    targets[:, 3] = rng.random(n) < 0.3
    probs[:, 3] = np.clip(0.3 * targets[:, 3] + rng.random(n) * 0.6, 0, 1)
    return targets, np.round(probs, 2)  # with ties


def said_of(threshold, targets, probs):
    """How many photos of a group are said, how many of them rightly, and how many have a value; none unknown."""
    known = (targets >= 0).all(axis=1)
    targets, probs = targets[known], probs[known]
    said = [int(row.argmax()) if row.max() > np.float32(threshold) else None for row in probs]
    right = sum(value is not None and target[value] == 1 for value, target in zip(said, targets, strict=True))
    return sum(value is not None for value in said), right, int(targets.sum())


def reached(policy, threshold, targets, probs):
    said, right, valued = said_of(threshold, targets, probs)
    if policy.kind == "precision":
        return right / said if said else 0
    if policy.kind == "recall":
        return right / valued
    return (1 + policy.value**2) * right / max(said + policy.value**2 * valued, 1)


ONE_GROUP = LabelSet("one", WEAR.groups[:2])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("text", ["precision:0.9", "precision:0.7", "recall:0.5", "recall:0.9", "fbeta:1", "fbeta:0.5"])
@pytest.mark.parametrize("seed", range(3))
def test_a_group_alone_gets_what_brute_force_finds(seed, text, kind):
    policy = Policy.parse(text)
    targets, probs = (part[:, :4] for part in choosing(seed, 400, kind))
    tuned = tune_thresholds(policy, targets, probs, ONE_GROUP)
    found = tuned.thresholds.groups["garment"]
    assert set(tuned.thresholds.values[:3].tolist()) == {found}
    every = np.append(0, np.unique(probs[:, :3].max(axis=1)))
    cuts = ((every[1:] + every[:-1]) / 2).tolist()
    scores = [reached(policy, cut, targets[:, :3], probs[:, :3]) for cut in cuts]
    own = reached(policy, found, targets[:, :3], probs[:, :3])
    if policy.kind == "fbeta":
        assert own == pytest.approx(max(scores))
        return
    fitting = [cut for cut, score in zip(cuts, scores, strict=True) if score >= policy.value]
    if not fitting:
        assert (policy.kind, found) == ("recall", 0)
        assert "'garment' never reaches a recall of 0.9, so its most probable value is always said" in tuned.notes[0]
        return
    best = min(fitting) if policy.kind == "precision" else max(fitting)
    assert found == pytest.approx(best, abs=1e-6)
    assert own >= policy.value


def test_of_several_groups_each_keeps_its_precision_and_is_near_its_own_threshold():
    targets, probs = choosing(1, 3000)
    groups = tune_thresholds(Policy.parse("precision:0.8"), targets, probs, WEAR).thresholds.groups
    for name, at in WEAR.exclusive.items():
        said, right, _ = said_of(groups[name], targets[:, at], probs[:, at])
        assert right / said >= 0.8
        alone = LabelSet("alone", (next(one for one in WEAR.groups if one.name == name),))
        own = tune_thresholds(Policy.parse("precision:0.8"), targets[:, at], probs[:, at], alone).thresholds.groups
        assert groups[name] == pytest.approx(own[name], abs=0.02)


@pytest.mark.parametrize("text", ["precision:0.5", "recall:0.5", "fbeta:1"])
def test_groups_change_nothing_for_free_labels_nor_these_for_groups(text):
    targets, probs = choosing(2, 500)
    both = tune_thresholds(Policy.parse(text), targets, probs, WEAR)
    free = tune_thresholds(Policy.parse(text), targets[:, 3:4], probs[:, 3:4], LabelSet.free("style", ["casual"]))
    assert both.thresholds.values[3] == free.thresholds.values[0]
    probs[:, 3] = 1 - probs[:, 3]
    assert tune_thresholds(Policy.parse(text), targets, probs, WEAR).thresholds.groups == both.thresholds.groups


@pytest.mark.parametrize("text", ["fixed:0.7", "top:2", "fixed:0.7+never-empty"])
def test_the_papers_rule_and_top_leave_no_group_unsure(text):
    targets, probs = choosing(3, 200)
    thresholds = tune_thresholds(Policy.parse(text), targets, probs, WEAR).thresholds
    assert not thresholds.groups
    assert (thresholds.apply(probs, WEAR)[:, :3].sum(axis=1) == 1).all()


def test_a_precision_that_a_group_never_reaches_leaves_it_unsure():
    targets, probs = choosing(4, 300)
    wrong = np.roll(targets[:, :3], 1, axis=1)
    targets[:, :3] = np.where(wrong.any(axis=1, keepdims=True), np.roll(wrong, 1, axis=1), wrong)
    top = probs[:, :3].argmax(axis=1)
    targets[np.arange(300), top] = 0  # the most probable value is never right
    tuned = tune_thresholds(Policy.parse("precision:0.9"), targets, probs, WEAR)
    assert tuned.thresholds.groups["garment"] == 1
    assert not tuned.thresholds.apply(probs, WEAR)[:, :3].any()
    assert "The group 'garment' never reaches a precision of 0.9, so it is always unsure." in tuned.notes
    for text in ("recall:0.9", "fbeta:1"):
        tuned = tune_thresholds(Policy.parse(text), targets, probs, WEAR)
        assert tuned.thresholds.groups["garment"] == 0
        assert any("'garment'" in note and "its most probable value is always said." in note for note in tuned.notes)


@pytest.mark.parametrize(("text", "said"), [("precision:0.9", 0), ("recall:0.9", 1), ("fbeta:2", 1)])
def test_a_group_of_which_nothing_is_known_is_told(text, said):
    targets, probs = choosing(5, 300)
    targets[:, 4:] = -1
    tuned = tune_thresholds(Policy.parse(text), targets, probs, WEAR)
    assert (tuned.thresholds.apply(np.maximum(probs, 0.01), WEAR)[:, 4:].sum(axis=1) == said).all()
    fate = "its most probable value is always said" if said else "it is always unsure"
    assert f"The group 'colour' has no photo to tune on whose value is known, so {fate}." in tuned.notes


def test_a_group_of_one_value_is_that_value_or_unsure():
    labels = LabelSet("one", (Group("kind", (Label("a"),), exclusive=True),))
    rng = np.random.default_rng(0)
    targets = (rng.random((500, 1)) < 0.4).astype(np.int8)
    probs = np.clip(0.4 * targets + rng.random((500, 1)) * 0.6, 0, 1).astype(np.float32)
    group = tune_thresholds(Policy.parse("precision:0.9"), targets, probs, labels).thresholds
    free = tune_thresholds(Policy.parse("precision:0.9"), targets, probs, LabelSet.free("kind", ["a"])).thresholds
    np.testing.assert_array_equal(group.apply(probs, labels), free.apply(probs, LabelSet.free("kind", ["a"])))


def test_few_photos_of_a_group_are_told():
    targets, probs = choosing(6, 400)
    targets[12:, 4:] = -1
    notes = tune_thresholds(Policy.parse("recall:0.5"), targets, probs, WEAR).notes
    assert any("group 'colour' is right on" in note and "of the way to that of all groups" in note for note in notes)
    alone = LabelSet("alone", WEAR.groups[2:])
    notes = tune_thresholds(Policy.parse("recall:0.5"), targets[:, 4:], probs[:, 4:], alone).notes
    assert any("its threshold is mostly luck" in note for note in notes)


def test_weights_of_values_stand_for_repeated_photos_of_a_group():
    targets, probs = (part[:, :3] for part in choosing(7, 2000))
    labels = LabelSet("garment", WEAR.groups[:1])
    one = targets.any(axis=1)
    targets, probs = targets[one], probs[one]  # without those that have none
    repeated = np.repeat(np.arange(len(targets)), np.array([1, 2, 4])[targets.argmax(axis=1)])
    weights = np.array([[1.0, 1], [2.0, 1], [4.0, 1]])
    for text in ("precision:0.9", "recall:0.6", "fbeta:1"):
        by_weight = tune_thresholds(Policy.parse(text), targets, probs, labels, weights).thresholds.groups
        by_copies = tune_thresholds(Policy.parse(text), targets[repeated], probs[repeated], labels).thresholds.groups
        assert by_weight["garment"] == pytest.approx(by_copies["garment"], abs=1e-6)
