import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modiste.config import DecideConfig
from modiste.decisions.calibration import Calibration, fit_label
from modiste.decisions.decision import Decision, LabelShift, ProductRule
from modiste.decisions.fit import cross_fit_decision, fit_decision, make_folds
from modiste.decisions.label_shift import adjust
from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import RunError, UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.bootstrap import interval, replicate

LABELS = LabelSet.free("three", ["shirt", "dress", "民族"])
RNG = np.random.default_rng(0)


def simulated(seed: int, n: int, shares=(0.4, 0.15, 0.04)):
    """Labels, and probabilities of a network that is too sure of itself."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 3)) < shares).astype(np.int8)
    prior = np.log(np.array(shares) / (1 - np.array(shares)))
    logits = prior + 1.5 * targets - 0.75 + rng.normal(size=targets.shape)
    return targets, (1 / (1 + np.exp(-2 * logits))).astype(np.float32)


@pytest.fixture
def decision() -> Decision:
    targets, raw = simulated(0, 500)
    maps = tuple(fit_label(targets[:, k], raw[:, k], m) for k, m in enumerate(("none", "platt", "isotonic")))
    thresholds = Thresholds(np.array([0.3, 1 / 3, 0.5]), "by hand")
    mix = LabelShift(np.array([0.4, 0.15, 0.04]), np.array([0.2, 0.3, 0.1]))
    return Decision(Policy.parse("fbeta:2"), thresholds, Calibration(maps), mix, {"split": "val", "count": 500})


def test_a_written_decision_reads_back_and_decides_the_same(decision, tmp_path):
    path = tmp_path / "decision.json"
    decision.write(path, LABELS)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["thresholds"]["shirt"] == 0.3  # not 0.30000001192092896
    back = Decision.read(path, LABELS)
    assert back.thresholds.values.tobytes() == decision.thresholds.values.tobytes()
    assert (back.policy, back.provenance) == (decision.policy, decision.provenance)
    raw = simulated(1, 200)[1]
    for one, other in zip(decision.apply(raw, LABELS), back.apply(raw, LABELS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_is_calibration_then_mix_then_thresholds(decision):
    raw = simulated(2, 200)[1]
    said = decision.apply(raw, LABELS)
    probs = adjust(decision.calibration.apply(raw), *decision.label_shift, LABELS)
    np.testing.assert_array_equal(said.probs, probs)
    np.testing.assert_array_equal(said.decisions, probs > decision.thresholds.values)


def test_the_papers_rule_is_the_networks_own_probability_above_a_half():
    raw = simulated(3, 200)[1]
    said = Decision.untuned("fixed:0.5", LABELS).apply(raw, LABELS)
    assert said.probs is raw
    np.testing.assert_array_equal(said.decisions, raw > 0.5)


@pytest.mark.parametrize("policy", ["top:2", "fbeta:2+never-empty"])
def test_how_many_labels_are_said_travels(policy, tmp_path):
    thresholds = Thresholds(np.ones(3), "x", 2 if policy == "top:2" else None, "never" in policy)
    Decision(Policy.parse(policy), thresholds, Calibration.none(3)).write(tmp_path / "d.json", LABELS)
    said = Decision.read(tmp_path / "d.json", LABELS).apply(simulated(4, 50)[1], LABELS).decisions
    assert set(said.sum(axis=1)) == {2 if policy == "top:2" else 1}


def test_a_file_in_another_order_decides_the_same(decision, tmp_path):
    """Thresholds, calibration and label shift belong to ids, wherever these stand in the file."""
    path = tmp_path / "decision.json"
    decision.write(path, LABELS)
    content = json.loads(path.read_text(encoding="utf-8"))

    def turned(value):
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    path.write_text(json.dumps(turned(content)), encoding="utf-8")
    assert list(json.loads(path.read_text(encoding="utf-8"))["thresholds"]) == list(reversed(LABELS.ids))
    back = Decision.read(path, LABELS)
    assert back.key == decision.key
    raw = simulated(1, 200)[1]
    for one, other in zip(decision.apply(raw, LABELS), back.apply(raw, LABELS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_label_shift_stands_under_the_key_that_earlier_files_have(decision):
    content = decision.to_dict(LABELS)
    assert set(content["mix"]) == {"tuned", "here"}
    back = Decision.from_dict(json.loads(json.dumps(content)), LABELS, "decision.json")
    np.testing.assert_array_equal(back.label_shift, decision.label_shift)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["thresholds"].update(dress=0.33333),
        lambda d: d.update(policy="fbeta:2+never-empty"),
        lambda d: d.update(calibration=None),
        lambda d: d["mix"]["here"].update(shirt=0.21),
        lambda d: d.update(mix=None),
    ],
)
def test_the_key_tells_decisions_apart_and_not_where_they_were_tuned(decision, change):
    content = json.loads(json.dumps(decision.to_dict(LABELS)))
    assert Decision.from_dict({**content, "provenance": {}}, LABELS, "decision.json").key == decision.key
    change(content)
    assert Decision.from_dict(content, LABELS, "decision.json").key != decision.key


def test_how_products_are_decided_travels_with_the_decision(decision, tmp_path):
    rule = ProductRule("most-certain", Thresholds(np.array([0.1, 1 / 3, 0.7]), "by hand"))
    made = replace(decision, products=rule)
    made.write(tmp_path / "decision.json", LABELS)
    back = Decision.read(tmp_path / "decision.json", LABELS)
    assert (back.key, back.thresholds_key) == (made.key, made.thresholds_key)
    assert made.key != decision.key and made.thresholds_key != decision.thresholds_key
    probs = decision.apply(simulated(1, 200)[1], LABELS).probs
    photos, numbers = probs.reshape(100, 2, 3), np.repeat(np.arange(100), 2)
    said = back.apply_products(probs, numbers, LABELS)
    surest = np.abs(photos.astype(float) - 0.5).argmax(axis=1)[:, None]
    np.testing.assert_array_equal(said.probs, np.take_along_axis(photos, surest, axis=1)[:, 0])
    np.testing.assert_array_equal(said.decisions, said.probs > rule.thresholds.values)


def test_a_file_of_an_earlier_modiste_pools_by_the_mean_with_the_thresholds_of_photos(decision):
    content = json.loads(json.dumps(decision.to_dict(LABELS)))
    assert content.pop("products") is None  # the key that earlier files lack
    back = Decision.from_dict(content, LABELS, "decision.json")
    assert back.key == decision.key and back.products is None
    probs = decision.apply(simulated(1, 40)[1], LABELS).probs
    said = back.apply_products(probs, np.arange(40) // 4, LABELS)
    logits = np.log(probs / (1 - probs.astype(float))).reshape(10, 4, 3).mean(axis=1)
    np.testing.assert_allclose(said.probs, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_array_equal(said.decisions, said.probs > decision.thresholds.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rule: rule.update(pooling="median"), "mean, most-certain, but got 'median'"),
        (lambda rule: rule.pop("pooling"), "pooling"),
        (lambda rule: rule["thresholds"].pop("民族"), "民族 in only one"),
        (lambda rule: rule["thresholds"].update(shirt=7), "7"),
    ],
)
def test_refuses_a_rule_for_products_that_does_not_fit(decision, change, message):
    made = replace(decision, products=ProductRule("mean", decision.thresholds))
    content = json.loads(json.dumps(made.to_dict(LABELS)))
    change(content["products"])
    with pytest.raises(RunError, match=message):
        Decision.from_dict(content, LABELS, "decision.json")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(0, 1))
def test_every_digit_of_a_decision_reads_back(values, fixed):
    made = Decision(Policy("fixed", fixed), Thresholds(np.array(values), "by hand"), Calibration.none(3))
    back = Decision.from_dict(json.loads(json.dumps(made.to_dict(LABELS))), LABELS, "decision.json")
    assert (back.policy, back.key, back.thresholds_key) == (made.policy, made.key, made.thresholds_key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("policy"), "policy"),
        (lambda d: d.update(policy="best"), "a policy"),
        (lambda d: d["thresholds"].pop("民族"), "民族 in only one"),
        (lambda d: d["thresholds"].update(hat=0.5), "hat in only one"),
        (lambda d: d["thresholds"].update(shirt=7), "7"),
        (lambda d: d["thresholds"].update(shirt=None), "JSON"),
        (lambda d: d["thresholds"].update(shirt=float("nan")), "nan"),
        (lambda d: d["calibration"].pop("shirt"), "shirt"),
        (lambda d: d["calibration"]["dress"].update(slope=-1), "calibration"),
        (lambda d: d["mix"].pop("here"), "here"),
        (lambda d: d.update(thresholds=3), "JSON"),
    ],
)
def test_refuses_a_file_that_does_not_fit(decision, tmp_path, change, message):
    path = tmp_path / "decision.json"
    decision.write(path, LABELS)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        Decision.read(path, LABELS)


@pytest.mark.parametrize("content", [None, b"{", b"[1, 2]", b"3", b"\xff\xfe"])
def test_refuses_what_is_no_decision(tmp_path, content):
    path = tmp_path / "decision.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"decision\.json"):
        Decision.read(path, LABELS)


@pytest.mark.parametrize("calibration", ["none", "auto", "platt"])
def test_cross_fitting_never_sees_the_photo_it_judges(calibration):
    targets, raw = simulated(5, 300)
    folds = make_folds(targets, None, 5)
    config = DecideConfig(policy="fbeta:2", calibration=calibration)
    said = cross_fit_decision(config, targets, raw, folds, LABELS)
    for fold in range(5):  # whatever the photos of a fold are said to be, their own decisions stay
        other = targets.copy()
        other[folds == fold] = 1 - other[folds == fold]
        again = cross_fit_decision(config, other, raw, folds, LABELS)
        np.testing.assert_array_equal(said.decisions[folds == fold], again.decisions[folds == fold])
        np.testing.assert_array_equal(said.probs[folds == fold], again.probs[folds == fold])


def test_cross_fitted_scores_are_honest_and_in_sample_ones_are_not(monkeypatch):
    """Probabilities that know nothing: what is tuned on them must not look better than on new photos."""
    monkeypatch.setattr(
        "modiste.decisions.fit_thresholds.POOLING", 0.0
    )  # a label's own best threshold, which flatters most
    config = DecideConfig(policy="fbeta:2")
    gains = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        targets = (rng.random((100, 3)) < 0.1).astype(np.int8)
        raw = rng.random((100, 3)).astype(np.float32)
        folds = make_folds(targets, None, 5)
        fitted = fit_decision(config, targets, raw, folds, LABELS).decision
        inside = fitted.apply(raw, LABELS).decisions
        outside = cross_fit_decision(config, targets, raw, folds, LABELS).decisions
        new = (rng.random((20_000, 3)) < 0.1).astype(np.int8)
        fresh = fitted.apply(rng.random((20_000, 3)).astype(np.float32), LABELS).decisions
        gains.append([f2(targets, inside) - f2(new, fresh), f2(targets, outside) - f2(new, fresh)])
    optimism, rest = np.mean(gains, axis=0)
    assert optimism > 0.04
    assert abs(rest) < 0.03


def f2(targets, decisions):
    right = ((targets == 1) & (decisions == 1)).sum(axis=0)
    return float(np.mean(5 * right / np.maximum(4 * (targets == 1).sum(axis=0) + decisions.sum(axis=0), 1)))


def test_folds_keep_groups_whole_and_refuse_too_few_photos():
    targets = simulated(6, 300)[0]
    groups = np.arange(300) // 3
    folds = make_folds(targets, groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in range(100))
    with pytest.raises(UsageError, match="at least 50 photos"):
        make_folds(targets[:49], None, 5)
    with pytest.raises(UsageError, match="10 groups of photos"):
        make_folds(targets, np.arange(300) % 9, 5)


def test_a_label_mix_moves_thresholds_as_if_photos_were_drawn_anew():
    targets, raw = simulated(7, 40_000)
    here = np.array([0.4, 0.45, 0.04])  # three times as many dresses
    folds = make_folds(targets, None, 5)
    fitted = fit_decision(DecideConfig(policy="fbeta:1", calibration="platt"), targets, raw, folds, LABELS, here=here)
    fresh, new = simulated(8, 40_000, tuple(here))
    # The network's prior is that of its own photos: the same logits but for the share of dresses.
    shift = np.log(0.15 / 0.85) - np.log(0.45 / 0.55)
    logit = np.log(new / (1 - new)) + 2 * np.array([0, shift, 0])
    new = (1 / (1 + np.exp(-logit))).astype(np.float32)
    said = fitted.decision.apply(new, LABELS)
    plain = fit_decision(DecideConfig(policy="fbeta:1", calibration="platt"), targets, raw, folds, LABELS).decision
    assert f1(fresh[:, 1], said.decisions[:, 1]) > f1(fresh[:, 1], plain.apply(new, LABELS).decisions[:, 1]) + 0.02
    best = max(f1(fresh[:, 1], new[:, 1] > cut) for cut in np.linspace(0.01, 0.99, 99))
    assert f1(fresh[:, 1], said.decisions[:, 1]) > best - 0.01


def f1(target, said):
    right = ((target == 1) & (said == 1)).sum()
    return 2 * right / ((target == 1).sum() + said.sum())


def test_intervals_of_cross_fitted_scores_hold_the_truth():
    """Of 40 samples, the 95 % interval holds what the tuned thresholds reach on new photos in about 38."""
    config, held = DecideConfig(policy="fbeta:2"), 0
    new, fresh = simulated(99, 100_000)
    for seed in range(40):
        targets, raw = simulated(1000 + seed, 600)
        folds = make_folds(targets, None, 5)
        said = cross_fit_decision(config, targets, raw, folds, LABELS)
        draws = replicate(targets, *said, LABELS, replicates=200)["macro.f2"]
        truth = f2(new, fit_decision(config, targets, raw, folds, LABELS).decision.apply(fresh, LABELS).decisions)
        low, high = interval(draws)
        held += low <= truth <= high
    assert 34 <= held <= 40


# Groups that may be unsure

WEAR = LabelSet(
    "wear",
    (Group("garment", tuple(map(Label, "abc")), exclusive=True), Group("style", (Label("casual"), Label("street")))),
)


def choosing(seed: int, n: int, kind: str = "softmax"):
    """Photos with one of three garments or none, two free labels, and a network that is too sure of itself."""
    rng = np.random.default_rng(seed)
    logits = np.append(rng.normal(size=(n, 3)) * 2, np.zeros((n, 1)), axis=1)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    value = (rng.random((n, 1)) > np.cumsum(share, axis=1)).sum(axis=1)
    sharp = np.exp(2 * logits)
    probs = sharp / sharp.sum(axis=1, keepdims=True) if kind == "softmax" else 1 / (1 + np.exp(-2 * logits))
    style = (rng.random((n, 2)) < 0.4).astype(np.int8)
    targets = np.append(value[:, None] == np.arange(3), style, axis=1).astype(np.int8)
    return targets, np.append(probs[:, :3], 0.4 * style + 0.6 * rng.random((n, 2)), axis=1).astype(np.float32)


def unsure_decision(products=False):
    thresholds = Thresholds(np.full(5, 0.3), "by hand").with_groups({"garment": 0.4}, WEAR)
    rule = ProductRule("mean", Thresholds(np.full(5, 0.2), "by hand").with_groups({"garment": 0.6}, WEAR))
    return Decision(Policy.parse("fbeta:2"), thresholds, Calibration.none(5), products=rule if products else None)


@pytest.mark.parametrize("products", [False, True])
def test_thresholds_of_groups_travel_and_stand_where_labels_have_theirs(products, tmp_path):
    made = unsure_decision(products)
    made.write(tmp_path / "d.json", WEAR)
    content = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert content["groups"] == {"garment": 0.4}
    assert [content["thresholds"][label] for label in WEAR.ids] == [0.4, 0.4, 0.4, 0.3, 0.3]
    assert not products or content["products"]["groups"] == {"garment": 0.6}
    back = Decision.read(tmp_path / "d.json", WEAR)
    assert (back.key, back.thresholds_key) == (made.key, made.thresholds_key)
    raw = choosing(0, 100)[1]
    np.testing.assert_array_equal(back.apply(raw, WEAR).decisions, made.apply(raw, WEAR).decisions)
    pairs = np.arange(100) // 2
    two = back.apply_products(raw, pairs, WEAR)
    limit = 0.6 if products else 0.4
    np.testing.assert_array_equal(two.decisions[:, :3].any(axis=1), two.probs[:, :3].max(axis=1) > np.float32(limit))


def test_a_group_edited_by_hand_is_what_is_applied_and_shown(tmp_path):
    content = json.loads(json.dumps(unsure_decision().to_dict(WEAR)))
    content["groups"]["garment"] = 0.8
    back = Decision.from_dict(content, WEAR, "decision.json")
    assert back.thresholds.values[:3].tolist() == np.float32([0.8] * 3).tolist()
    assert back.thresholds_key != unsure_decision().thresholds_key and back.key != unsure_decision().key


def test_files_of_an_earlier_modiste_always_say_the_most_probable_and_keep_their_keys():
    content = json.loads(json.dumps(unsure_decision().to_dict(WEAR)))
    del content["groups"]
    back = Decision.from_dict(content, WEAR, "decision.json")
    raw = choosing(1, 200)[1]
    assert (back.apply(raw, WEAR).decisions[:, :3].sum(axis=1) == 1).all()
    assert back.to_dict(WEAR)["groups"] is None
    # Keys as modiste 0.1 made them, before groups had thresholds.
    assert back.thresholds_key == "4f01391432a918c9"
    assert back.key[:16] == "97a5e33e3a9a4a58"


@pytest.mark.parametrize(
    ("groups", "message"), [({"hat": 0.5}, "'hat'"), ({"garment": 2}, "2"), ({"garment": "x"}, "JSON"), (3, "JSON")]
)
def test_refuses_groups_that_do_not_fit(groups, message):
    content = json.loads(json.dumps(unsure_decision().to_dict(WEAR))) | {"groups": groups}
    with pytest.raises(RunError, match=message):
        Decision.from_dict(content, WEAR, "decision.json")


def test_what_is_unsure():
    probs = np.array([[0.3, 0.35, 0.2, 0.9, 0.1], [0.1, 0.45, 0.1, 0.4, 0.55], [0.1, 0.45, 0.1, 0.5, 0.5]], np.float32)
    decided = unsure_decision().apply(probs, WEAR)
    assert unsure_decision().unsure(decided, WEAR) == [("garment",), ("casual",), ()]  # street is above both
    free = replace(unsure_decision(), thresholds=Thresholds(np.full(5, 0.6), "by hand"))
    assert free.unsure(free.apply(probs, WEAR), WEAR) == [(), ("street",), ()]
    for policy in ("fixed:0.3", "top:1"):
        untuned = Decision.untuned(policy, WEAR)
        assert untuned.unsure(untuned.apply(probs, WEAR), WEAR) == [(), (), ()]
    assert unsure_decision().unsure(unsure_decision().apply(probs[:0], WEAR), WEAR) == []


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("calibration", ["none", "auto"])
@pytest.mark.parametrize("precision", [0.7, 0.9])
def test_a_precision_holds_out_of_fold_and_covers_what_it_can(precision, calibration, kind):
    targets, raw = choosing(5, 6000, kind)
    folds = make_folds(targets, None, 5)
    config = DecideConfig(policy=f"precision:{precision}", calibration=calibration)
    decided = cross_fit_decision(config, targets, raw, folds, WEAR)
    said = decided.decisions[:, :3].any(axis=1)
    right = (decided.decisions[:, :3] & targets[:, :3]).any(axis=1)
    assert right[said].mean() == pytest.approx(precision, abs=0.02)
    # The most that can be said with that precision: photos by their highest probability, from the surest on.
    order = np.argsort(-raw[:, :3].max(axis=1), kind="stable")
    hit = targets[np.arange(6000), raw[:, :3].argmax(axis=1)][order]
    share = np.cumsum(hit) / np.arange(1, 6001)
    most = (np.flatnonzero(share >= precision)[-1] + 1) / 6000
    assert said.mean() == pytest.approx(most, abs=0.04)


def test_values_that_no_photo_to_tune_on_has_are_still_said():
    targets, raw = choosing(6, 2000)
    kept = targets[:, 2] == 0  # the third value comes only later
    fitted = fit_decision(
        DecideConfig(policy="precision:0.8"), targets[kept], raw[kept], np.arange(kept.sum()) % 5, WEAR
    ).decision
    decisions = fitted.apply(raw[~kept], WEAR).decisions
    assert decisions[:, 2].mean() > 0.3
