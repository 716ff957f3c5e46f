"""Stacking: for each label a logistic regression on the logits of all labels of all members.

Wolpert 1992, "Stacked Generalization". The regression starts from the mean of the members' logits and
is penalised for leaving it, so that few photos or strong regularisation give the mean back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from modiste.labels import UNKNOWN

# Variances of the normal prior on a coefficient, from "the mean of logits and nothing else" to "anything".
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

NEAREST = 1e-6  # to 0 and to 1: nearer to 1, float32 has too few steps left for a logit to mean anything


def logits_of(probs: np.ndarray) -> np.ndarray:
    """Logits (n, members * labels) float64 from probs (members, n, labels) in [0, 1], member by member.

    Nearer than NEAREST to 0 or 1, they end. They aren't standardised: members and labels share one unit, and a label
    that hardly varies shouldn't count more for it.
    """
    from scipy.special import logit

    clipped = np.clip(probs.astype(np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(logit(clipped).transpose(1, 0, 2).reshape(probs.shape[1], -1))


def fit_logits(
    targets: np.ndarray, logits: np.ndarray, folds: np.ndarray, strengths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the regressions with the strength that has the least log loss out of fold.

    One strength serves all labels: a rare one has too few positives to choose its own, and on drawn
    data did worse with it.

    Args:
        targets: (n, labels) int8: 1, 0, -1 = unknown.
        logits: (n, members * labels), as `logits_of` gives them.
        folds: (n,) fold numbers; with a single one the first strength is taken.
        strengths: prior variances of a coefficient, rising.

    Returns:
        Coefficients (labels, members * labels) and intercepts (labels,), both float64.
    """
    from threadpoolctl import threadpool_limits

    tried = strengths[:1]
    # The products are small. On a busy machine, BLAS threads that waited for each other took 40 times as long.
    with threadpool_limits(1, "blas"):
        if len(np.unique(folds)) > 1 < len(strengths):
            tried = strengths[: int(_losses(targets, logits, folds, strengths).argmin()) + 1]
        *_, fitted = _path(targets, logits, tried)
    return fitted


def _losses(targets: np.ndarray, logits: np.ndarray, folds: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Summed log loss out of fold for each strength, up to what the unknown targets add to all alike."""
    from scipy.special import log_expit

    loss = np.zeros(len(strengths))
    for fold in np.unique(folds):
        held = folds == fold
        for i, (coefficients, intercepts) in enumerate(_path(targets[~held], logits[~held], strengths)):
            margin = _signs(targets[held]) * (logits[held] @ coefficients.T + intercepts)  # 0 where unknown: a constant
            loss[i] -= log_expit(margin).sum()
    return loss


def _path(targets: np.ndarray, x: np.ndarray, strengths: Sequence[float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Coefficients (labels, features) and intercepts (labels,) for each strength, each started from the last.

    scikit-learn's LogisticRegression knows no offset and no prior mean, so the same loss is minimised
    here, all labels at once. On the principal axes of the logits, each in units of what prior and photos
    leave open, the problem is nearly round: a few dozen steps instead of hundreds.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, log_expit

    labels = targets.shape[1]
    mean = np.tile(np.eye(labels), x.shape[1] // labels) * (labels / x.shape[1])
    sign, offset, centre = _signs(targets), x @ mean.T, x.mean(axis=0)
    sign[:, ~((sign > 0).any(axis=0) & (sign < 0).any(axis=0))] = 0  # as if unknown: nothing moves it off the mean
    axes = np.linalg.eigh((x - centre).T @ (x - centre))[1]
    rows = np.column_stack([np.ones(len(x)), (x - centre) @ axes])
    share = ((sign > 0).sum(axis=0) + 1) / ((sign != 0).sum(axis=0) + 2)
    curvature = np.outer(share * (1 - share), (rows**2).sum(axis=0))  # of the loss, roughly
    deviation = np.zeros_like(curvature)
    for strength in strengths:
        penalty = np.append(0, np.full(x.shape[1], 1 / strength))  # the intercept is free
        unit = 1 / np.sqrt(curvature + penalty)

        def loss(flat: np.ndarray, penalty: np.ndarray = penalty, unit: np.ndarray = unit) -> tuple[float, np.ndarray]:
            step = flat.reshape(unit.shape) * unit
            margin = sign * (offset + rows @ step.T)
            slope = -(sign * expit(-margin)).T @ rows + penalty * step
            return float((penalty * step**2).sum() / 2 - log_expit(margin).sum()), (slope * unit).ravel()

        options = {"gtol": 1e-4, "ftol": 1e-13, "maxiter": 1000}
        found = minimize(loss, (deviation / unit).ravel(), jac=True, method="L-BFGS-B", options=options)
        deviation = found.x.reshape(unit.shape) * unit
        change = deviation[:, 1:] @ axes.T
        yield mean + change, deviation[:, 0] - change @ centre


def _signs(targets: np.ndarray) -> np.ndarray:
    """1 where a label holds, -1 where it doesn't, 0 where that is unknown."""
    return np.where(targets == UNKNOWN, 0.0, np.where(targets == 1, 1.0, -1.0))
