"""Fitted heads against scikit-learn's logistic regression, and against SciPy on a transcription in numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch")

from scipy.optimize import minimize  # noqa: E402
from scipy.special import logsumexp  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from modiste.config import LossConfig  # noqa: E402
from modiste.labels import Group, Label, LabelSet  # noqa: E402
from modiste.training.fit_head import HeadProblem, fit_path  # noqa: E402
from modiste.training.losses import make_loss  # noqa: E402

FREE = LabelSet.free("free", ("a", "b", "c"))
KIND = LabelSet("kind", (Group("kind", tuple(map(Label, "abc")), exclusive=True),))


def drawn(n=400, size=12, seed=0):
    """Features of different sizes that hang together, one of them constant, and logits for them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) * np.geomspace(0.01, 30, size) + 3
    features[:, 4] = 7.5
    standard = (features - features.mean(axis=0)) / np.where(features.std(axis=0) > 1e-9, features.std(axis=0), 1)
    return features.astype(np.float32), standard, standard @ rng.normal(size=(size, 3)) + rng.gumbel(size=(n, 3))


def problem(features, targets, label_set, **config):
    loss = make_loss(LossConfig(**config), label_set, np.nanmean(targets, axis=0))
    return HeadProblem(features, targets, loss)


def cross_entropy(logits, target):
    return np.logaddexp(0, logits) - target * logits


@pytest.mark.parametrize("l2", [1.0, 0.01, 0.0003])
def test_sigmoids_reach_the_optimum_of_scikit_learn(l2):
    features, standard, logits = drawn()
    targets = (logits > 1).astype(np.float32)
    head = problem(features, targets, FREE).fit(l2)
    said = features.astype(np.float64) @ head.weight.double().numpy().T + head.bias.double().numpy()
    ours, theirs = 0.0, 0.0
    for k in range(3):
        peer = LogisticRegression(C=1 / (l2 * len(features)), tol=1e-10, max_iter=10_000).fit(standard, targets[:, k])
        theirs += cross_entropy(peer.decision_function(standard), targets[:, k]).mean() + l2 / 2 * (peer.coef_**2).sum()
        np.testing.assert_allclose(said[:, k], peer.decision_function(standard), atol=2e-3)
    weight = head.weight.double().numpy() * features.astype(np.float64).std(axis=0)
    ours = cross_entropy(said, targets).sum(axis=1).mean() + l2 / 2 * (weight**2).sum()
    assert abs(ours - theirs) < 1e-6 and head.objective == pytest.approx(theirs, abs=1e-6)


def test_a_group_reaches_the_optimum_of_a_plain_transcription():
    features, standard, logits = drawn(seed=1)
    kind = np.where(logits.max(axis=1) > 1, logits.argmax(axis=1), 3)  # the fourth: none of the three
    targets = np.eye(4, dtype=np.float32)[kind][:, :3]
    head = problem(features, targets, KIND, groups="softmax").fit(0.01)
    inputs = np.c_[standard, np.ones(len(standard))]

    def loss(flat):
        weight = flat.reshape(3, -1)
        scores = np.c_[inputs @ weight.T, np.zeros(len(inputs))]
        return (logsumexp(scores, axis=1) - scores[np.arange(len(kind)), kind]).mean() + 0.005 * (
            weight[:, :-1] ** 2
        ).sum()

    plain = minimize(loss, np.zeros(3 * inputs.shape[1]), method="BFGS", options={"gtol": 1e-6})
    assert head.objective == pytest.approx(plain.fun, abs=1e-6)


def test_a_constant_feature_gets_no_weight_and_unknown_targets_no_say():
    features, _, logits = drawn()
    targets = (logits > 1).astype(np.float32)
    some = targets.copy()
    some[::3, 1] = np.nan
    head = problem(features, some, FREE).fit(0.01)
    assert (head.weight[:, 4] == 0).all()
    without = problem(features, targets, FREE).fit(0.01)
    assert torch.allclose(head.weight[[0, 2]], without.weight[[0, 2]], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(head.weight[1], without.weight[1], atol=1e-3)


def test_a_label_that_every_photo_has_gets_a_bias_alone():
    features, _, logits = drawn()
    targets = (logits > 1).astype(np.float32)
    targets[:, 0] = 1
    head = problem(features, targets, FREE).fit(0.1)
    said = features @ head.weight.numpy().T + head.bias.numpy()
    assert (said[:, 0] > 3).all() and np.isfinite(said).all()


def test_fewer_photos_than_features():
    features, _, logits = drawn(n=9)
    head = problem(features, (logits > 1).astype(np.float32), FREE).fit(0.01)
    assert torch.isfinite(head.weight).all() and np.isfinite(head.objective)


def test_the_path_starts_from_the_head_before_and_ends_where_weaker_l2_no_longer_pays():
    features, _, logits = drawn(n=60)
    one = problem(features, (logits > 1).astype(np.float32), FREE)
    path = list(fit_path(one, lambda head: -abs(np.log10(head.l2) + 1.5)))
    assert [head.l2 for head, _ in path] == [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]  # 0.03 is best, two more are tried
    for head, _ in path:
        assert head.objective == pytest.approx(one.fit(head.l2).objective, rel=1e-3)
