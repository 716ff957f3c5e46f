import numpy as np
import pytest

from modiste.metrics.group_tops import GroupTops


def test_whether_the_most_probable_value_is_the_right_one():
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [-1, 1, -1], [-1, 0, 0], [-1, -1, -1], [1, 1, 0]], np.int8)
    probs = np.tile(np.float32([0.2, 0.5, 0.1]), (7, 1))
    tops = GroupTops.of(targets, probs)
    assert tops.right.tolist() == [0, 1, 0, 1, -1, -1, -1]
    assert tops.values.tolist() == [0, 1, -1, 1, -1, -1, -1]
    np.testing.assert_array_equal(tops.probs, np.float32(0.5))
    swept = tops.sweep()
    assert (swept.known, swept.positives, swept.missed) == (4, 2, 1)
    assert swept.recall.tolist() == [2 / 3]


def test_of_equal_probabilities_the_first_one_counts():
    tops = GroupTops.of(np.array([[0, 1], [1, 0]], np.int8), np.full((2, 2), 0.5, np.float32))
    assert tops.right.tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_weights_stand_for_repeated_photos(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 3, 200)  # -1: none of them
    targets = (values[:, None] == np.arange(3)).astype(np.int8)
    probs = np.round(rng.random((200, 3)) * 0.5 + targets * 0.3, 2).astype(np.float32)
    times = np.array([1, 2, 3, 4])[values]  # of none: 4, the last
    copies = np.repeat(np.arange(200), np.where(values < 0, 1, times))
    weights = np.array([1.0, 2.0, 3.0])
    weighted = GroupTops.of(targets, probs).sweep(weights)
    # The photos with a value keep their number, so those without one are as frequent as before.
    scale = 1 / weights[values[values >= 0]].mean()
    none = values[copies] < 0
    for cut in (0.2, 0.35, 0.5, 0.7):
        said = probs[copies].max(axis=1) > cut
        right = said & (probs[copies].argmax(axis=1) == values[copies])
        at = int((weighted.probs > np.float32(cut)).sum()) - 1
        hits, predicted = scale * right.sum(), scale * (said & ~none).sum() + (said & none).sum()
        assert weighted.hits[at] == pytest.approx(hits)
        assert weighted.predicted[at] == pytest.approx(predicted)
        assert weighted.recall[at] == pytest.approx(right.sum() / (~none).sum())


def test_no_photo_makes_an_empty_sweep():
    for weights in (None, np.ones(3)):
        swept = GroupTops.of(np.empty((0, 3), np.int8), np.empty((0, 3), np.float32)).sweep(weights)
        assert (swept.known, swept.positives, swept.missed) == (0, 0, 0)
