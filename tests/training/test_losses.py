"""The losses against a direct numpy transcription of their equations, in float64."""

import numpy as np
import pytest
import torch

from modiste.config import LossConfig
from modiste.labels import Group, Label, LabelSet
from modiste.training.losses import make_loss

LABELS = LabelSet("both", (Group("kind", (Label("a"), Label("b"), Label("c")), True), Group("style", (Label("d"),))))
PREVALENCE = np.array([0.1, 0.5, 0.0, np.nan])


def logits_and_targets(scale=5.0, unknown=0.3):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, scale, (50, 4))
    logits[0] = (1e4, -1e4, 1e4, -1e4)
    targets = rng.integers(0, 2, (50, 4)).astype(float)
    targets[0] = (1, 1, 0, 0)
    targets[rng.random(targets.shape) < unknown] = np.nan
    targets[0] = (1, 1, 0, 0)
    return logits, targets


def paper_cross_entropy(y, t):
    """Paper, eq. 2 rewritten as eq. 3: max(y, 0) - y t + log(1 + exp(-|y|))."""
    return np.maximum(y, 0) - y * t + np.log1p(np.exp(-np.abs(y)))


def run(config, logits, targets):
    loss = make_loss(config, LABELS, PREVALENCE)
    total, known = loss(torch.from_numpy(logits), torch.from_numpy(targets))
    return float(total), int(known)


def test_cross_entropy_is_the_papers_with_logits_of_ten_thousand():
    logits, targets = logits_and_targets()
    known = ~np.isnan(targets)
    total, count = run(LossConfig(groups="sigmoid"), logits, targets)
    assert count == known.sum()
    assert total == pytest.approx(paper_cross_entropy(logits, targets)[known].sum(), rel=1e-12)
    assert total > 2e4  # the two wrong certain answers cost 1e4 each


def test_cross_entropy_equals_the_unstable_definition_where_that_is_safe():
    logits, targets = logits_and_targets(scale=2.0, unknown=0.0)
    logits, targets = logits[1:], targets[1:]
    prob = 1 / (1 + np.exp(-logits))
    naive = -(targets * np.log(prob) + (1 - targets) * np.log(1 - prob)).sum()
    assert run(LossConfig(groups="sigmoid"), logits, targets)[0] == pytest.approx(naive, rel=1e-10)


def test_unknown_targets_have_no_gradient():
    logits, targets = logits_and_targets()
    x = torch.from_numpy(logits).requires_grad_()
    total, _ = make_loss(LossConfig(groups="sigmoid"), LABELS, PREVALENCE)(x, torch.from_numpy(targets))
    total.backward()
    assert (x.grad[torch.from_numpy(np.isnan(targets))] == 0).all()
    assert torch.isfinite(x.grad).all()


def test_smoothing_shares_evenly_inside_an_exclusive_group():
    logits, targets = logits_and_targets(unknown=0.0)
    smooth = targets * 0.9 + 0.1 * np.array([1 / 3, 1 / 3, 1 / 3, 1 / 2])
    expected = paper_cross_entropy(logits, smooth).sum()
    assert run(LossConfig(groups="sigmoid", label_smoothing=0.1), logits, targets)[0] == pytest.approx(
        expected, rel=1e-6
    )


def test_balanced_weight_is_negatives_over_positives_at_most_a_hundred():
    logits, targets = logits_and_targets(unknown=0.0)
    weight = np.array([9.0, 1.0, 100.0, 1.0])
    expected = (paper_cross_entropy(logits, 0 * targets) * (1 - targets)).sum()
    expected += (weight * paper_cross_entropy(logits, 0 * targets + 1) * targets).sum()
    assert run(LossConfig(groups="sigmoid", positive_weight="balanced"), logits, targets)[0] == pytest.approx(
        expected, rel=1e-6
    )


def test_asymmetric_loss_is_ridniks():
    logits, targets = logits_and_targets(unknown=0.0)
    logits = np.clip(logits, -30, 30)
    config = LossConfig(groups="sigmoid", name="asymmetric", gamma_positive=1, gamma_negative=4, margin=0.05)
    p = 1 / (1 + np.exp(-logits))
    shifted = np.maximum(p - 0.05, 0)
    expected = -(targets * (1 - p) * np.log(p) + (1 - targets) * shifted**4 * np.log(1 - shifted)).sum()
    assert run(config, logits, targets)[0] == pytest.approx(expected, rel=1e-9)


def test_asymmetric_loss_without_focus_and_margin_is_cross_entropy():
    logits, targets = logits_and_targets()
    plain = LossConfig(groups="sigmoid", name="asymmetric", gamma_positive=0, gamma_negative=0, margin=0)
    assert run(plain, logits, targets)[0] == pytest.approx(
        run(LossConfig(groups="sigmoid"), logits, targets)[0], rel=1e-12
    )


def group_loss(z, t):
    """Of one photo: minus the log of what a softmax over values and a 0 says of them; unknown values are possible."""
    p = np.exp([*z, 0.0])
    p /= p.sum()
    if (t == 1).any():
        return -np.log(p[:-1][t == 1].sum())
    return -np.log(p[-1] + p[:-1][np.isnan(t)].sum())


def test_a_group_is_the_softmax_of_its_values_and_none_of_them():
    logits, _ = logits_and_targets()
    targets = np.eye(4)[np.random.default_rng(1).integers(0, 4, 50)]  # the fourth in a group of three: none of them
    targets[:6, :3] = [
        (np.nan,) * 3,
        (0, np.nan, np.nan),
        (1, np.nan, 0),
        (0, 0, np.nan),
        (0, 0, 0),
        (np.nan, 1, np.nan),
    ]
    targets[:, 3] = np.random.default_rng(2).integers(0, 2, 50)
    logits = np.clip(logits, -20, 20)
    total, count = run(LossConfig(groups="softmax"), logits, targets)
    free = paper_cross_entropy(logits[:, 3], targets[:, 3]).sum()
    groups = sum(group_loss(z[:3], t[:3]) for z, t in zip(logits, targets, strict=True))
    assert total == pytest.approx(free + groups, rel=1e-12)
    assert count == 50 + 49  # of the first photo's group nothing is known


def test_mixed_photos_share_a_groups_loss():
    logits = np.clip(logits_and_targets(scale=2)[0], -20, 20)
    targets = np.tile([0.3, 0.0, 0.5, 0.2], (50, 1))  # 0.2 is of a photo with none of the values
    p = np.exp(np.c_[logits[:, :3], np.zeros(50)])
    p /= p.sum(axis=1, keepdims=True)
    expected = -(np.log(p) @ [0.3, 0.0, 0.5, 0.2]).sum() + paper_cross_entropy(logits[:, 3], targets[:, 3]).sum()
    assert run(LossConfig(groups="softmax"), logits, targets)[0] == pytest.approx(expected, rel=1e-12)


def test_unknown_groups_have_no_gradient_and_wide_logits_a_finite_one():
    logits, _ = logits_and_targets()
    targets = np.full((50, 4), np.nan)
    targets[0, :3], targets[1, :2] = (0, 0, 1), (0, 0)
    x = torch.from_numpy(logits).requires_grad_()
    total, count = make_loss(LossConfig(groups="softmax"), LABELS, PREVALENCE)(x, torch.from_numpy(targets))
    total.backward()
    assert count == 2
    assert torch.isfinite(x.grad).all() and (x.grad[:2, :3] != 0).any() and (x.grad[2:] == 0).all()
