"""Probabilities of logits against their definitions in numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch")

from modiste.config import LossConfig  # noqa: E402
from modiste.labels import Group, Label, LabelSet  # noqa: E402
from modiste.models.activation import Activation, softmax_groups  # noqa: E402

LABELS = LabelSet(
    "mixed",
    (
        Group("style", (Label("a"), Label("b"))),
        Group("kind", (Label("c"), Label("d"), Label("e")), exclusive=True),
        Group("season", (Label("f"),)),
        Group("colour", (Label("g"),), exclusive=True),
    ),
)


def test_groups_are_softmaxes_with_none_of_these_and_other_labels_sigmoids():
    logits = np.random.default_rng(0).normal(0, 5, (40, 7)).astype(np.float32)
    groups = softmax_groups(LossConfig(groups="softmax"), LABELS)
    probs = Activation(groups)(torch.from_numpy(logits)).numpy()
    exact = np.exp(logits.astype(np.float64))
    for where in ([2, 3, 4], [6]):
        expected = exact[:, where] / (1 + exact[:, where].sum(axis=1, keepdims=True))
        np.testing.assert_allclose(probs[:, where], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(probs[:, [0, 1, 5]], (exact / (1 + exact))[:, [0, 1, 5]], rtol=1e-5, atol=1e-7)


def test_sigmoids_alone_are_what_torch_calls_so_and_half_precision_is_widened():
    logits = torch.linspace(-9, 9, 21).reshape(3, 7)
    assert softmax_groups(LossConfig(groups="sigmoid"), LABELS) == ()
    assert torch.equal(Activation()(logits), logits.sigmoid())
    assert Activation(softmax_groups(LossConfig(groups="softmax"), LABELS))(logits.bfloat16()).dtype == torch.float32
