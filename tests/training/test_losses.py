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
    total, count = run(LossConfig(), logits, targets)
    assert count == known.sum()
    assert total == pytest.approx(paper_cross_entropy(logits, targets)[known].sum(), rel=1e-12)
    assert total > 2e4  # the two wrong certain answers cost 1e4 each


def test_cross_entropy_equals_the_unstable_definition_where_that_is_safe():
    logits, targets = logits_and_targets(scale=2.0, unknown=0.0)
    logits, targets = logits[1:], targets[1:]
    prob = 1 / (1 + np.exp(-logits))
    naive = -(targets * np.log(prob) + (1 - targets) * np.log(1 - prob)).sum()
    assert run(LossConfig(), logits, targets)[0] == pytest.approx(naive, rel=1e-10)


def test_unknown_targets_have_no_gradient():
    logits, targets = logits_and_targets()
    x = torch.from_numpy(logits).requires_grad_()
    total, _ = make_loss(LossConfig(), LABELS, PREVALENCE)(x, torch.from_numpy(targets))
    total.backward()
    assert (x.grad[torch.from_numpy(np.isnan(targets))] == 0).all()
    assert torch.isfinite(x.grad).all()


def test_smoothing_shares_evenly_inside_an_exclusive_group():
    logits, targets = logits_and_targets(unknown=0.0)
    smooth = targets * 0.9 + 0.1 * np.array([1 / 3, 1 / 3, 1 / 3, 1 / 2])
    expected = paper_cross_entropy(logits, smooth).sum()
    assert run(LossConfig(label_smoothing=0.1), logits, targets)[0] == pytest.approx(expected, rel=1e-6)


def test_balanced_weight_is_negatives_over_positives_at_most_a_hundred():
    logits, targets = logits_and_targets(unknown=0.0)
    weight = np.array([9.0, 1.0, 100.0, 1.0])
    expected = (paper_cross_entropy(logits, 0 * targets) * (1 - targets)).sum()
    expected += (weight * paper_cross_entropy(logits, 0 * targets + 1) * targets).sum()
    assert run(LossConfig(positive_weight="balanced"), logits, targets)[0] == pytest.approx(expected, rel=1e-6)


def test_asymmetric_loss_is_ridniks():
    logits, targets = logits_and_targets(unknown=0.0)
    logits = np.clip(logits, -30, 30)
    config = LossConfig(name="asymmetric", gamma_positive=1, gamma_negative=4, margin=0.05)
    p = 1 / (1 + np.exp(-logits))
    shifted = np.maximum(p - 0.05, 0)
    expected = -(targets * (1 - p) * np.log(p) + (1 - targets) * shifted**4 * np.log(1 - shifted)).sum()
    assert run(config, logits, targets)[0] == pytest.approx(expected, rel=1e-9)


def test_asymmetric_loss_without_focus_and_margin_is_cross_entropy():
    logits, targets = logits_and_targets()
    plain = LossConfig(name="asymmetric", gamma_positive=0, gamma_negative=0, margin=0)
    assert run(plain, logits, targets)[0] == pytest.approx(run(LossConfig(), logits, targets)[0], rel=1e-12)
