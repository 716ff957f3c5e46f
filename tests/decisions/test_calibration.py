import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from modiste.decisions.calibration import (
    CALIBRATION_METHODS,
    Calibration,
    LabelCalibration,
    fit_calibration,
    fit_label,
)
from modiste.errors import RunError, UsageError
from modiste.labels import Group, Label, LabelSet
from modiste.metrics.scores import average_precision


def fit_free(targets, probs, folds, method="auto"):
    """All labels free."""
    return fit_calibration(targets, probs, folds, LabelSet.free("free", map(str, range(targets.shape[1]))), method)


def photos(seed: int, n: int = 4000, slope: float = 1.0, shift: float = 0.0, middle: float = -2.0):
    """Targets and probs of one label whose true logit is slope * logit + shift."""
    rng = np.random.default_rng(seed)
    z = rng.normal(middle, 2, n)
    return (rng.random(n) < expit(slope * z + shift)).astype(np.int8), expit(z).astype(np.float32)


def softened(target: np.ndarray) -> np.ndarray:
    positives, negatives = (target == 1).sum(), (target == 0).sum()
    return np.where(target == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


@pytest.mark.parametrize("method, slope, shift", [("temperature", 0.4, 0), ("platt", 0.6, 1.5), ("isotonic", 1.5, -1)])
def test_a_distorted_sigmoid_is_recovered(method, slope, shift):
    target, prob = photos(0, 60_000, slope, shift)
    truth = expit(slope * logit(prob.astype(np.float64)) + shift)
    off = np.abs(fit_label(target, prob, method).apply(prob) - truth)
    assert off.mean() < 0.005
    assert np.abs(prob - truth).mean() > 0.05


@pytest.mark.parametrize("n", [60, 5000])
def test_platt_is_the_logistic_regression_of_scikit_learn(n):
    target, prob = photos(1, n, 0.5, 0.7)
    z = logit(prob.astype(np.float64))[:, None]
    soft = softened(target)
    # A soft target t is a positive of weight t beside a negative of weight 1 - t.
    twice = np.repeat([1, 0], n), np.concatenate([soft, 1 - soft])
    theirs = LogisticRegression(C=np.inf, tol=1e-8).fit(np.concatenate([z, z]), *twice)
    ours = fit_label(target, prob, "platt")
    assert (ours.slope, *ours.y) == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=2e-3)


@pytest.mark.parametrize("n", [60, 5000])
def test_temperature_is_the_minimum_of_the_log_loss(n):
    target, prob = photos(2, n, 0.5)
    z, soft = logit(prob.astype(np.float64)), softened(target)
    found = minimize_scalar(
        lambda t: np.mean(np.logaddexp(0, z / t) - soft * z / t), bounds=(0.1, 10), options={"xatol": 1e-8}
    )
    ours = fit_label(target, prob, "temperature")
    assert 1 / ours.slope == pytest.approx(found.x, rel=2e-3)
    assert (ours.x, ours.y) == ((0,), (0,))


def test_isotonic_goes_through_the_centres_of_the_blocks_of_scikit_learn():
    rng = np.random.default_rng(3)
    prob = rng.choice(np.linspace(0.05, 0.95, 25).astype(np.float32), 800)
    target = (rng.random(800) < 0.2 + 0.6 * (prob > 0.4)).astype(np.int8)
    z = logit(prob.astype(np.float64))
    fitted = IsotonicRegression().fit(prob, target).predict(prob)
    blocks = [fitted == value for value in np.unique(fitted)]
    smooth = [(target[block].sum() + target.mean()) / (block.sum() + 1) for block in blocks]
    assert (np.diff(smooth) < 0).any()  # so that some blocks have to be joined once more
    sizes = [block.sum() + 1 for block in blocks]
    again = IsotonicRegression().fit(np.arange(len(blocks)), smooth, sizes).predict(np.arange(len(blocks)))
    share = {value: sum(block for block, own in zip(blocks, again, strict=True) if own == value) for value in again}
    ours = fit_label(target, prob, "isotonic")
    assert 4 <= len(ours.x) < len(blocks) < 25
    assert ours.x == pytest.approx([z[block == 1].mean() for block in share.values()])
    assert expit(ours.y) == pytest.approx(list(share), abs=1e-6)
    assert ours.apply(np.array([0.001], np.float32)) == pytest.approx(expit(ours.y[0] + logit(0.001) - ours.x[0]))


def test_isotonic_keeps_different_probabilities_apart():
    target, prob = photos(4)
    before, after = np.unique(prob), np.unique(fit_label(target, prob, "isotonic").apply(prob))
    plain = np.unique(IsotonicRegression().fit(prob, target).predict(prob))
    assert len(after) > 0.99 * len(before)
    assert len(plain) < 0.05 * len(before)


@pytest.mark.parametrize("method", CALIBRATION_METHODS[1:])
@pytest.mark.parametrize(
    "target, prob",
    [
        ([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]),  # a threshold parts them
        ([1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # the wrong way round
        ([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]),
        ([1, 0, 1, 0], [0.0, 0.0, 1.0, 1.0]),
        ([0] * 500 + [1] * 500, [0.0] * 500 + [1.0] * 500),
    ],
)
def test_few_or_separable_photos_give_a_finite_rising_map(method, target, prob):
    label = fit_label(np.array(target, np.int8), np.array(prob, np.float32), method)
    said = label.apply(np.linspace(0, 1, 2001, dtype=np.float32))
    assert ((said > 0) & (said < 1)).all()
    assert (np.diff(said) >= 0).all() and said[-1] > said[0]


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_lines_keep_the_ranking(method):
    target, prob = photos(5, slope=2, shift=-1, middle=-4)
    said = fit_label(target, prob, method).apply(prob)
    np.testing.assert_array_equal(rankdata(said), rankdata(prob))
    assert average_precision(target, said) == average_precision(target, prob)


knots = st.lists(st.floats(-16, 16), min_size=1, max_size=6, unique_by=lambda value: round(value, 3)).map(sorted)


@given(knots, knots, st.floats(0.05, 20), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
def test_any_map_stays_inside_and_rises(x, y, slope, probs):
    size = min(len(x), len(y))
    label = LabelCalibration("isotonic", slope, tuple(x[:size]), tuple(y[:size]))
    said = label.apply(np.sort(np.array(probs, np.float32)))
    assert said.dtype == np.float32
    assert ((said > 0) & (said < 1)).all()
    assert (np.diff(said) >= 0).all()


@pytest.mark.parametrize("method", [*CALIBRATION_METHODS, "auto"])
def test_what_stands_where_the_target_is_unknown_changes_nothing(method):
    target, prob = photos(6, 1000, 0.5, 1)
    folds = np.arange(1000) % 5
    unknown = np.random.default_rng(0).random(1000) < 0.3
    target[unknown] = -1
    other = np.where(unknown, np.float32(0.7), prob)
    fits = [
        fit_free(target[keep, None], values[keep, None], folds[keep], method)
        for values, keep in [(prob, slice(None)), (other, slice(None)), (prob, ~unknown)]
    ]
    assert fits[0] == fits[1] == fits[2]
    assert method in ("auto", fits[0].labels[0].method)


def curved(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A label whose share of positives rises in two steps, which no line follows."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-8, 8, n)
    return (rng.random(n) < 0.02 + 0.48 * (z > -4) + 0.48 * (z > 4)).astype(np.int8), expit(z).astype(np.float32)


def test_auto_takes_the_stiffest_method_that_does():
    rng = np.random.default_rng(7)
    kinds = [photos(8), photos(8, slope=0.4), photos(8, slope=0.6, shift=1.5), curved(8, 4000)]
    targets, probs = (np.stack(columns, axis=1) for columns in zip(*kinds, strict=True))
    folds = rng.integers(0, 5, 4000)
    found = fit_free(targets, probs, folds)
    assert tuple(label.method for label in found.labels) == CALIBRATION_METHODS
    assert found == fit_free(targets, probs, folds)
    order = rng.permutation(4000)
    shuffled = fit_free(targets[order], probs[order], folds[order])
    np.testing.assert_allclose(shuffled.apply(probs), found.apply(probs), rtol=1e-4)


def test_auto_changes_little_that_is_right():
    folds = np.arange(400) % 5
    methods = [fit_free(t[:, None], p[:, None], folds).labels[0].method for t, p in (photos(s, 400) for s in range(40))]
    # A gain beyond one standard error comes by chance in one of six tries, and in most of these by less.
    assert methods.count("none") >= 32


def test_isotonic_needs_fifty_of_either(monkeypatch):
    rng = np.random.default_rng(9)
    z = rng.uniform(-8, 8, 180)
    target, prob = (rng.random(180) < 0.5 * (z > 0)).astype(np.int8), expit(z).astype(np.float32)
    assert 40 < target.sum() < 50
    given = target[:, None], prob[:, None], np.arange(180) % 5
    assert fit_free(*given).labels[0].method == "platt"
    monkeypatch.setattr("modiste.decisions.calibration.ENOUGH", 40)
    assert fit_free(*given).labels[0].method == "isotonic"


@pytest.mark.parametrize("value", [0, 1, -1])
@pytest.mark.parametrize("method", [*CALIBRATION_METHODS, "auto"])
def test_labels_without_positives_or_negatives_stay(value, method):
    targets, probs = np.full((60, 1), value, np.int8), photos(0, 60)[1][:, None]
    assert fit_free(targets, probs, np.arange(60) % 3, method) == Calibration.none(1)


def test_none_returns_every_bit():
    probs = np.array([[0, 1e-30, 0.3], [1, 0.999, 1e-8]], dtype=np.float32)
    np.testing.assert_array_equal(Calibration.none(3).apply(probs), probs)


def test_the_calibration_comes_back_from_json():
    labels = LabelSet.free("test", ["a", "b", "c", "d"])
    target, prob = curved(14, 300)
    found = Calibration(tuple(fit_label(target, prob, method) for method in CALIBRATION_METHODS))
    data = json.loads(json.dumps(found.to_dict(labels), allow_nan=False))
    assert data["a"] == {"method": "none", "slope": 1, "x": [0], "y": [0]}
    assert Calibration.from_dict(data, labels) == found
    assert Calibration.from_dict(dict(reversed(data.items())), labels) == found
    assert found != Calibration.none(4)
    with pytest.raises(RunError, match="calibrations of the 1 labels of 'one', but got 4"):
        found.to_dict(LabelSet.free("one", ["a"]))


GOOD = {"method": "platt", "slope": 1.5, "x": [0], "y": [-0.2]}


@pytest.mark.parametrize(
    "data, message",
    [
        ({"a": GOOD}, "b in only one of them"),
        ({"a": GOOD, "b": GOOD, "c": GOOD}, "c in only one of them"),
        ({"a": GOOD, "b": {"method": "platt"}}, "KeyError: 'x'"),
        ({"a": GOOD, "b": None}, "TypeError"),
        ({"a": GOOD, "b": GOOD | {"slope": "steep"}}, "steep"),
        ({"a": GOOD, "b": GOOD | {"slope": 0}}, "slope=0"),
        ({"a": GOOD, "b": GOOD | {"slope": float("nan")}}, "slope=nan"),
        ({"a": GOOD, "b": GOOD | {"method": "magic"}}, "magic"),
        ({"a": GOOD, "b": GOOD | {"x": []}}, "x=()"),
        ({"a": GOOD, "b": GOOD | {"x": [0, 1], "y": [1, 0]}}, "y=(1.0, 0.0)"),
        ({"a": GOOD, "b": GOOD | {"x": [0, float("nan")], "y": [0, 1]}}, "nan"),
        (["a", "b"], "TypeError"),
        (None, "TypeError"),
    ],
)
def test_malformed_calibrations_are_refused(data, message):
    with pytest.raises(RunError) as error:
        Calibration.from_dict(data, LabelSet.free("test", ["a", "b"]))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probs": np.full((4, 3), 0.5)}, r"\(4, 2\), \(4, 3\) and \(4,\)"),
        ({"folds": np.zeros(3)}, r"and \(3,\)"),
        ({"folds": np.zeros(4)}, "two folds or more"),
        ({"probs": np.full((4, 2), 1.5)}, r"in \[0, 1\]"),
        ({"probs": np.full((4, 2), np.nan)}, r"in \[0, 1\]"),
        ({"method": "magic"}, "'magic'"),
    ],
)
def test_unusable_arguments_are_refused(change, message):
    good = {
        "targets": np.eye(4, 2, dtype=np.int8),
        "probs": np.full((4, 2), 0.5),
        "folds": np.arange(4),
        "label_set": LabelSet.free("two", "ab"),
        "method": "auto",
    }
    fit_calibration(**good)
    with pytest.raises(UsageError, match=message):
        fit_calibration(**good | change)


def test_another_number_of_labels_is_refused():
    with pytest.raises(UsageError, match=r"\(n, 3\), but got shape \(4, 2\)"):
        Calibration.none(3).apply(np.full((4, 2), 0.5))


# Exclusive groups

WEAR = LabelSet(
    "wear", (Group("garment", tuple(map(Label, "abc")), exclusive=True), Group("style", (Label("casual"),)))
)


def choosing(seed: int, n: int, kind: str, temperature: float = 2.0):
    """Photos with one of three values or none, a free label, and a network that is too sure by a temperature."""
    rng = np.random.default_rng(seed)
    logits = np.append(rng.normal(size=(n, 3)) * 2, np.zeros((n, 1)), axis=1)
    weights = np.exp(logits)
    value = (rng.random((n, 1)) > np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    targets = np.append(value[:, None] == np.arange(3), rng.random((n, 1)) < 0.3, axis=1).astype(np.int8)
    sharp = np.exp(temperature * logits)
    probs = sharp / sharp.sum(axis=1, keepdims=True) if kind == "softmax" else expit(temperature * logits)
    probs[:, 3] = expit(rng.normal(size=n) - 1)
    return targets, probs.astype(np.float32)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic", "auto"])
def test_a_group_has_one_map_after_which_its_highest_probability_is_how_often_it_is_right(method, kind):
    targets, probs = choosing(1, 4000, kind)
    found = fit_calibration(targets, probs, np.arange(4000) % 5, WEAR, method)
    assert found.labels[0] == found.labels[1] == found.labels[2]
    assert found.labels[3] == fit_free(targets[:, 3:], probs[:, 3:], np.arange(4000) % 5, method).labels[0]
    targets, probs = choosing(2, 20_000, kind)
    calibrated = found.apply(probs, WEAR)
    np.testing.assert_array_equal(calibrated[:, :3].argmax(axis=1), probs[:, :3].argmax(axis=1))
    right = targets[np.arange(20_000), probs[:, :3].argmax(axis=1)]
    before, after = (np.abs(_gaps(right, one[:, :3].max(axis=1))).max() for one in (probs, calibrated))
    assert after < before
    assert after < 0.05 or method == "temperature"  # which is too stiff for independent sigmoids


def _gaps(right, top):
    """Share that is right minus mean probability, among a tenth of the photos each."""
    return [right[those].mean() - top[those].mean() for those in np.array_split(np.argsort(top), 10)]


@pytest.mark.parametrize("slope", [1.5, 20.0])
def test_the_most_probable_label_stays_so_where_float32_ends(slope):
    steep = LabelCalibration("platt", slope, y=(1.0,))
    calibration = Calibration((steep, steep, steep, LabelCalibration()))
    probs = np.random.default_rng(0).uniform(0.9, 1, (5000, 4)).astype(np.float32)
    calibrated = calibration.apply(probs, WEAR)[:, :3]
    assert slope < 20 or (calibration.apply(probs)[:, :3].argmax(axis=1) != probs[:, :3].argmax(axis=1)).any()
    np.testing.assert_array_equal(calibrated.argmax(axis=1), probs[:, :3].argmax(axis=1))
    np.testing.assert_allclose(calibrated, calibration.apply(probs)[:, :3], atol=1e-7)


@pytest.mark.parametrize("method", ["platt", "auto"])
def test_what_is_not_known_of_a_group_has_no_part_in_its_map(method):
    targets, probs = choosing(3, 600, "sigmoid")
    folds = np.arange(600) % 5
    more, noise = np.full((200, 4), -1, np.int8), np.random.default_rng(0).random((200, 4), np.float32)
    more[:100, 0] = 0  # that it isn't the first value says nothing of the most probable one
    more[:100, 1:] = np.where(np.arange(100)[:, None] % 2, -1, [0, -1, -1])
    both = np.vstack([targets, more]), np.vstack([probs, noise]), np.append(folds, np.arange(200) % 5)
    assert fit_calibration(*both, WEAR, method) == fit_calibration(targets, probs, folds, WEAR, method)


@pytest.mark.parametrize("method", ["platt", "isotonic", "auto"])
@pytest.mark.parametrize("value", [-1, 0])
def test_a_group_of_which_nothing_is_known_or_nothing_holds_stays(value, method):
    targets, probs = choosing(4, 100, "softmax")
    targets[:, :3] = value
    found = fit_calibration(targets, probs, np.arange(100) % 5, WEAR, method)
    assert found.labels[:3] == (LabelCalibration(),) * 3
