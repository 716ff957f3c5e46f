"""Optimisers and schedules against the paper's equations in numpy and PyTorch's own schedulers."""

import numpy as np
import pytest
import torch

from modiste.config import Stage
from modiste.training.optim import learning_rate, make_optimizer, set_learning_rate

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(0, 1, (200, 5)) * 10.0 ** RNG.integers(-9, 2, (200, 5))
START = RNG.normal(0, 1, 5)


def stage(**changes):
    return Stage(**{"name": "s", "epochs": 1, "lr": 1e-2, "unlock": "all", **changes})


def descend(settings):
    parameter = torch.nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = make_optimizer(settings, [parameter])
    for gradient in GRADIENTS:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach().numpy()


def paper_adam(lr, inside):
    """Paper, eq. 4-8; `inside` puts epsilon under the root of eq. 8."""
    mu, nu, epsilon = 0.9, 0.999, 1e-8
    theta, m, n = START.copy(), np.zeros(5), np.zeros(5)
    for t, g in enumerate(GRADIENTS, 1):
        m = mu * m + (1 - mu) * g  # eq. 4
        n = nu * n + (1 - nu) * g**2  # eq. 5
        m_hat, n_hat = m / (1 - mu**t), n / (1 - nu**t)  # eq. 6 and 7
        theta -= lr * m_hat / (np.sqrt(n_hat + epsilon) if inside else np.sqrt(n_hat) + epsilon)  # eq. 8
    return theta


def test_adam_is_the_papers_with_epsilon_outside_the_root():
    ours = descend(stage(optimizer="adam"))
    np.testing.assert_allclose(ours, paper_adam(1e-2, inside=False), rtol=1e-9)
    assert np.abs(ours - paper_adam(1e-2, inside=True)).max() > 1e-4  # the place matters


def test_sgd_has_momentum():
    theta, velocity = START.copy(), np.zeros(5)
    for g in GRADIENTS:
        velocity = 0.8 * velocity + g
        theta -= 1e-2 * velocity
    np.testing.assert_allclose(descend(stage(optimizer="sgd", momentum=0.8)), theta, rtol=1e-9)


def test_weight_decay_spares_vectors_and_locked_parameters_are_left_out():
    matrix, vector, locked = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,), (2, 2)))
    locked.requires_grad = False
    optimizer = make_optimizer(stage(optimizer="adamw", weight_decay=0.1), [matrix, vector, locked])
    for parameter in (matrix, vector):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 1 - 1e-2 * 0.1))
    assert torch.equal(vector, torch.ones(2))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize("warmup", [0.1, 0.25, 0.5])
def test_one_cycle_is_pytorchs(warmup):
    steps, settings = 57, stage(schedule="one-cycle", warmup=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    for step in range(steps):
        assert learning_rate(settings, step, steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-12)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def test_cosine_is_pytorchs_and_constant_is_constant():
    steps, settings = 40, stage(schedule="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.lr)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        assert learning_rate(settings, step, steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        assert learning_rate(stage(), step, steps) == 1e-2
        optimizer.step()
        theirs.step()


def test_one_cycle_without_warmup_starts_at_the_top():
    assert learning_rate(stage(schedule="one-cycle", warmup=0), 0, 10) <= 1e-2
    set_learning_rate(optimizer := torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
