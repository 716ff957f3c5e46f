"""The last layer on frozen features, fitted until nothing is left to gain: for each L2 strength, one convex problem.

Features are standardised and turned into their principal axes, each scaled by how steep the loss can be along it, so
that L-BFGS needs tens of steps where it would need hundreds. L2 holds the weights of standardised features, biases are
free, as in scikit-learn's LogisticRegression with C = 1 / (l2 * n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modiste.training.losses import Loss

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # of L2, tried from the stiffest on
_PATIENCE = 2  # strengths without a gain on validation photos, after which weaker ones are not tried
_TOLERANCE = 1e-9  # of the loss from one step to the next, relative
_ROUGH = 1e-6  # likewise, where strengths of L2 are compared
_MOST_STEPS = 1000
_STEEPEST = 0.25  # the largest second derivative of a logistic loss, for one feature of variance 1 (Böhning 1992)
_CONSTANT = 1e-6  # a feature whose deviation is a smaller share of the largest is constant
_DOUBLE = 50_000_000  # numbers: up to so many are computed with in float64


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A last layer.

    Attributes:
        weight: (labels, features) float32, of features as they come.
        bias: (labels,) float32.
        l2: the strength of L2 that it was fitted with.
        objective: what was made small: the mean loss of a photo and L2's share.
        loss: the mean loss of a known target.
        steps: evaluations of the loss that it took.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    objective: float
    loss: float
    steps: int


class HeadProblem:
    """Frozen features and targets, in the axes that make fitting fast.

    Args:
        features: (n, features) float16 or float32.
        targets: (n, labels) float, 1, 0 or nan = unknown.
        loss: as `make_loss` makes it.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, loss: Loss) -> None:
        self._loss, self._photos = loss, len(features)
        kind = torch.float64 if features.size <= _DOUBLE else torch.float32
        rows = torch.from_numpy(features).to(kind)
        self._targets = torch.from_numpy(targets).to(kind)
        self._mean = rows.mean(dim=0)
        rows -= self._mean
        deviation = rows.square().mean(dim=0).sqrt()
        alive = deviation > _CONSTANT * deviation.max().clamp(min=torch.finfo(kind).tiny)
        self._scale = torch.where(alive, 1 / deviation, 0)
        rows *= self._scale
        self._spread, self._axes = torch.linalg.eigh((rows.T @ rows / len(rows)).double())
        self._rows = rows @ self._axes.to(kind)

    def fit(self, l2: float, start: FittedHead | None = None, tolerance: float = _TOLERANCE) -> FittedHead:
        """The best head at one strength of L2.

        Args:
            l2: strength, above 0.
            start: where to begin; None begins with no weights and each label's share of the photos.
            tolerance: relative gain of a step below which it ends.
        """
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        kind, labels = self._rows.dtype, self._targets.shape[1]
        steepness = (_STEEPEST * self._spread.clamp(min=0) + l2).sqrt()
        weight, bias = (
            self._turned(start) if start is not None else (torch.zeros(labels, len(steepness)), self._prior())
        )
        first = torch.cat([(weight.double() * steepness).flatten(), bias.double()]).numpy()

        def at(point: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = torch.from_numpy(point[:-labels]).reshape(labels, -1) / steepness
            bias = torch.from_numpy(point[-labels:])
            logits = (self._rows @ scaled.T.to(kind) + bias.to(kind)).requires_grad_()
            total, _ = self._loss(logits, self._targets)
            (slope,) = torch.autograd.grad(total, logits)
            down = (slope.T @ self._rows).double() / self._photos + l2 * scaled
            gradient = torch.cat([(down / steepness).flatten(), slope.sum(dim=0).double() / self._photos])
            return float(total.detach().double() / self._photos + l2 / 2 * scaled.square().sum()), gradient.numpy()

        options = {"maxiter": _MOST_STEPS, "maxfun": _MOST_STEPS, "ftol": tolerance, "gtol": 1e-7, "maxcor": 20}
        with threadpool_limits(1, user_api="blas"):  # SciPy's threads and PyTorch's would wait for each other
            found = minimize(at, first, jac=True, method="L-BFGS-B", options=options)
        weight = torch.from_numpy(found.x[:-labels]).reshape(labels, -1) / steepness
        found_bias = torch.from_numpy(found.x[-labels:])
        with torch.no_grad():
            total, known = self._loss(self._rows @ weight.T.to(kind) + found_bias.to(kind), self._targets)
        own = weight @ self._axes.T * self._scale.double()
        bias = found_bias - own @ self._mean.double()
        return FittedHead(
            own.float(), bias.float(), l2, float(found.fun), float(total / known.clamp(min=1)), int(found.nfev)
        )

    def _turned(self, head: FittedHead) -> tuple[Tensor, Tensor]:
        """A head's weights along the axes, and its bias for standardised features."""
        weight = head.weight.double()
        along = torch.where(self._scale > 0, weight / self._scale.clamp(min=1e-300), 0) @ self._axes
        return along, head.bias.double() + weight @ self._mean.double()

    def _prior(self) -> Tensor:
        """Logits of each label's share among its known photos, kept from 0 and 1."""
        known = ~self._targets.isnan()
        share = (self._targets.nan_to_num().sum(dim=0) + 0.5) / (known.sum(dim=0) + 1)
        return torch.logit(share.double())


def fit_path(
    problem: HeadProblem, judge: Callable[[FittedHead], float], strengths: Sequence[float] = STRENGTHS
) -> Iterator[tuple[FittedHead, float]]:
    """Heads from the stiffest on, fitted roughly, each from the one before, until weaker L2 no longer pays.

    Args:
        problem: what is fitted.
        judge: how good a head is on photos that it was not fitted on; more is better.
        strengths: of L2, falling.

    Yields:
        Each head and what `judge` says of it.
    """
    best, behind, head = -np.inf, 0, None
    for l2 in strengths:
        head = problem.fit(l2, head, _ROUGH)
        value = judge(head)
        yield head, value
        behind = 0 if value > best else behind + 1
        best = max(best, value)
        if behind >= _PATIENCE:
            return
