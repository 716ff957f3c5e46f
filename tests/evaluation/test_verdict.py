import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, fbeta_score

from modiste.evaluation.verdict import judge
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.scores import score


def label_set(free: int, colours: int = 0) -> LabelSet:
    groups = [Group("style", tuple(Label(f"s{k}") for k in range(free)))]
    if colours:
        groups.append(Group("colour", tuple(Label(f"c{k}") for k in range(colours)), exclusive=True))
    return LabelSet("drawn", tuple(groups))


def judged(targets, decisions, probs=None, unseen=None, labels=None):
    targets, decisions = np.asarray(targets, np.int8), np.asarray(decisions, np.int8)
    labels = labels or label_set(targets.shape[1])
    probs = decisions.astype(np.float32) if probs is None else probs
    return judge(score(targets, probs, decisions, labels), targets, decisions, labels, unseen)


@pytest.mark.parametrize("seed", range(4))
def test_verdict_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    n, labels = 150, 12
    shares = rng.uniform(0.02, 0.6, labels)
    targets = (rng.random((n, labels)) < shares).astype(np.int8)
    decisions = np.where(rng.random((n, labels)) < rng.uniform(0, 0.12, labels), 1 - targets, targets).astype(np.int8)
    targets[rng.random((n, labels)) < 0.1] = -1
    unseen = rng.random(n) < 0.8
    expected = {}
    for k in range(labels):
        positives = right = chosen = 0
        for i in range(n):
            if unseen[i] and targets[i, k] >= 0:
                positives += targets[i, k] == 1
                chosen += decisions[i, k] == 1
                right += decisions[i, k] == 1 and targets[i, k] == 1
        good = right >= 10 and right / chosen >= 0.9
        expected[f"s{k}"] = "too few photos" if positives < 10 else "publish" if good else "review"
    found = judged(targets, decisions, unseen=unseen)
    assert found.labels == expected
    assert {"publish", "review"} <= {*expected.values()}
    good = sum(one == "publish" for one in expected.values())
    few = sum(one == "too few photos" for one in expected.values())
    assert f"Good enough to publish {good} of 12 labels unreviewed" in found.sentence
    assert f"{few} ha" in found.sentence if few else "too few" not in found.sentence
    assert f"judged on the {unseen.sum()} of 150 photos" in found.sentence


@pytest.mark.parametrize(
    ("positives", "right", "wrong", "verdict"),
    [
        (9, 9, 0, "too few photos"),
        (10, 10, 0, "publish"),
        (10, 10, 1, "publish"),
        (10, 10, 2, "review"),
        (30, 18, 2, "publish"),
        (30, 17, 2, "review"),  # 89.5 %
        (30, 9, 0, "review"),  # fewer than ten right answers
        (30, 0, 0, "review"),
    ],
)
def test_edges_of_a_labels_verdict(positives, right, wrong, verdict):
    target, chosen = np.zeros((60, 1), np.int8), np.zeros((60, 1), np.int8)
    target[:positives] = 1
    chosen[:right] = 1
    chosen[60 - wrong :] = 1
    assert judged(target, chosen).labels == {"s0": verdict}


def test_sentences():
    good = np.zeros((40, 3), np.int8)
    good[:20] = 1
    none = np.zeros_like(good)
    few = good.copy()
    few[5:, 2] = 0
    sentences = [
        judged(good, good).sentence,
        judged(good, none).sentence,
        judged(few, few).sentence,
        judged(good[:5], good[:5]).sentence,
        judged(good[:, :1], good[:, :1]).sentence,
        judged(good, good, unseen=np.zeros(40, bool)).sentence,
    ]
    assert sentences == [
        "Good enough to publish 3 of 3 labels unreviewed.",
        "Not good enough to publish any of 3 labels unreviewed.",
        "Good enough to publish 2 of 3 labels unreviewed; 1 has too few photos to tell.",
        "Too few photos to tell whether any of 3 labels can be published unreviewed.",
        "Good enough to publish 1 of 1 label unreviewed.",
        "All these photos were used for training or tuning, so they can't tell what to publish unreviewed.",
    ]


def test_scores_that_are_no_better_than_guessing_by_scikit_learn():
    rng = np.random.default_rng(3)
    labels = label_set(4, 3)
    targets = (rng.random((200, 7)) < [0.3, 0.5, 0.2, 0.4, 0, 0, 0]).astype(np.int8)
    targets[:, 4:] = np.eye(3, dtype=np.int8)[rng.choice(3, 200, p=[0.6, 0.3, 0.1])]
    probs = rng.random((200, 7)).astype(np.float32)  # knows nothing
    probs[:, 0] = 0.6 * targets[:, 0] + 0.4 * probs[:, 0]  # but the first style
    decisions = (probs > 0.5).astype(np.int8)
    true, predicted = targets[:, 4:].argmax(axis=1), probs[:, 4:].argmax(axis=1)
    decisions[:, 4:] = np.eye(3, dtype=np.int8)[predicted]
    found = {one.name: one for one in judged(targets, decisions, probs, labels=labels).below}
    share = targets.mean(axis=0)
    expected = set()
    aps = [average_precision_score(targets[:, k], probs[:, k]) for k in range(7)]
    expected |= {f"labels.{labels.ids[k]}.ap" for k in range(7) if aps[k] <= share[k]}
    expected |= {"map"} if np.mean(aps) <= share.mean() else set()
    usual = np.zeros_like(targets)
    usual[:, 4] = 1  # the most frequent colour; of the styles, all but one are rarer than one half
    usual[:, :4] = share[:4] > 0.5
    f1 = {"macro.f1": "macro", "micro.f1": "micro", "sample.f1": "samples"}
    for answer in (np.ones_like(targets), usual):
        for name, average in f1.items():
            of = [f1_score(targets, said, average=average, zero_division=0) for said in (decisions, answer)]
            expected |= {name} if of[0] <= of[1] else set()
        f2 = [fbeta_score(targets, said, beta=2, average="macro", zero_division=0) for said in (decisions, answer)]
        expected |= {"macro.f2"} if f2[0] <= f2[1] else set()
    assert accuracy_score(true, predicted) < (true == 0).mean()
    expected.add("groups.colour.accuracy")
    assert {*found} == expected
    assert "labels.s0.ap" not in found and any(name.startswith("labels.") for name in found)
    guess = (true == 0).mean()
    assert found["groups.colour.accuracy"].guess == pytest.approx(guess)
    words = f"accuracy of colour is {accuracy_score(true, predicted):.3f}, below guessing, which gets {guess:.3f}"
    assert words in found["groups.colour.accuracy"].sentence


def test_labels_at_their_prevalence_share_one_sentence():
    targets = np.tile(np.array([[1], [0]], np.int8), (20, 12))
    found = judged(targets, np.ones_like(targets), np.full(targets.shape, 0.5, np.float32))
    assert found.guesses[0] == "mAP is 0.500, no better than guessing, which gets 0.500 (yes to everything)."
    assert found.guesses[-1] == (
        "12 labels are ranked no better than by guessing (AP at or below the prevalence): "
        "s0, s1, s2, s3, s4, s5, s6, s7 and 4 more."
    )
    assert found.below_guessing("s0") and not found.below_guessing("s")


def test_what_is_always_right_is_not_called_a_guess():
    ones = np.ones((20, 2), np.int8)
    assert judged(ones, ones).below == ()


def test_no_photo_is_too_few():
    none = np.zeros((0, 2), np.int8)
    found = judged(none, none)
    assert found.sentence == "Too few photos to tell whether any of 2 labels can be published unreviewed."
    assert found.below == ()


def test_what_is_unsure_is_told():
    labels = label_set(1, colours=2)
    targets = np.array([[1, 1, 0]] * 8 + [[1, 0, 1]] * 2, np.int8)
    decisions = np.array([[1, 1, 0]] * 5 + [[1, 0, 0]] * 3 + [[1, 1, 0]] * 2, np.int8)
    found = judged(targets, decisions, labels=labels)
    assert found.unsure == (
        "colour is said for 70.0% of the photos and unsure for the others, 71.4% of what is said is right.",
    )
    decisions[:, 1:] = 0
    assert judged(targets, decisions, labels=labels).unsure == ("colour is unsure for all photos.",)
    assert judged(targets, targets, labels=labels).unsure == ()
