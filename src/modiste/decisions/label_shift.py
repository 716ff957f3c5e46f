"""Label shift: how frequent each label is among new photos, estimated from probabilities alone.

Source: Saerens, Latinne, Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities".
It holds where only the frequencies of labels have changed: photos that have a label must look as they did before.
The probabilities must be calibrated (`modiste.decisions.calibration`) at the old prevalence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modiste.errors import UsageError
from modiste.labels import LabelSet

FEWEST_CATALOGUE = (
    50  # photos: among these a share of one half is known to 0.14 at best, however sure the probabilities
)

# The likelihood of a weak network's probabilities is flat, and calibration on a few hundred photos makes them a
# little too sure, which drives shares to 0 and 1. Measured in benchmarks/ccp.py; 0 is the paper's estimate.
CAUTION = 0.25

_CLOSE = 1e-6  # shares that move less in a step stand; the last steps' rest stays far below chance
_STEPS = 1000  # for labels the network hardly tells: their shares creep, and are hardly known anyway


def estimate_label_shift(
    probs: np.ndarray, prevalence: np.ndarray, label_set: LabelSet, caution: float = CAUTION
) -> np.ndarray:
    """Estimate how frequent each label is among new photos, by expectation maximisation (section 2.2, eq. 2.9).

    Labels of a free group are two classes each, has it and hasn't. An exclusive group is one problem of many
    classes: probabilities and prevalence are scaled to the sum 1 within it, and so is what is returned.

    Args:
        probs: (n, labels) calibrated probabilities of the new photos.
        prevalence: (labels,) share of positives that `probs` are calibrated for. 0 and 1 stay as they are.
        label_set: names the label axis.
        caution: photos that the old shares stand for, beside each new one: a Dirichlet prior around them.

    Returns:
        (labels,) float64 shares in [0, 1].

    Raises:
        UsageError: shapes don't fit, fewer than FEWEST photos, a value outside [0, 1], or nan.
    """
    _check(probs, prevalence)
    if len(probs) < FEWEST_CATALOGUE or len(label_set) != len(prevalence):
        want = f"probs of {FEWEST_CATALOGUE} photos or more and {len(label_set)} labels"
        raise UsageError.expected(want, f"shape {probs.shape}", "more photos of one source, and their label set")
    probs, prevalence = probs.astype(np.float64), prevalence.astype(np.float64)
    shares = prevalence.copy()
    grouped = np.zeros(len(label_set), dtype=bool)
    for where in label_set.exclusive.values():
        shares[where] = _exclusive_shares(probs[:, where], prevalence[where], caution)
        grouped[where] = True
    free = ~grouped & (prevalence > 0) & (prevalence < 1)
    old, said = prevalence[free], probs[:, free]
    shares[free] = _settle(lambda new: _posterior(said, old, new).mean(axis=0), old, caution)
    return shares


def adjust(probs: np.ndarray, prevalence: np.ndarray, new: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Probabilities as they are where labels are as frequent as in `new` (eq. 2.4 for two classes).

    The order of the photos stays. A label of prevalence 0 or 1 keeps its probabilities.

    Args:
        probs: (n, labels) calibrated probabilities.
        prevalence: (labels,) share of positives that `probs` are calibrated for.
        new: (labels,) share of positives they are wanted for, such as `estimate_label_shift` returns.
        label_set: names the label axis; an exclusive group is one problem of many classes, and keeps its sum.

    Returns:
        (n, labels) float32.

    Raises:
        UsageError: shapes don't fit, a value outside [0, 1], or nan.
    """
    _check(probs, prevalence)
    _check(probs, new)
    probs = probs.astype(np.float64)
    adjusted = _posterior(probs, prevalence, new)
    for where in label_set.exclusive.values():
        old = _scaled(prevalence[where])
        ratio = np.divide(_scaled(new[where]), old, out=np.zeros(len(where)), where=old > 0)
        total = probs[:, where].sum(axis=1, keepdims=True)
        adjusted[:, where] = np.minimum(_scaled(probs[:, where] * ratio) * total, 1)
    return adjusted.astype(np.float32)


def _posterior(probs: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    has = probs * new * (1 - old)
    hasnt = (1 - probs) * (1 - new) * old
    both = has + hasnt
    known = (both > 0) & (old > 0) & (old < 1)  # both are 0 where a sure probability meets a share that excludes it
    adjusted: np.ndarray = probs.copy()
    np.divide(has, both, out=adjusted, where=known)
    return adjusted


def _exclusive_shares(probs: np.ndarray, prevalence: np.ndarray, caution: float) -> np.ndarray:
    old, said = _scaled(prevalence), _scaled(probs)
    ratio = np.divide(said, old, out=np.zeros_like(said), where=old > 0)  # eq. 2.4: what a photo adds to the old share
    return _settle(lambda new: _scaled(ratio * new).mean(axis=0), old, caution)


def _settle(step: Callable[[np.ndarray], np.ndarray], start: np.ndarray, caution: float) -> np.ndarray:
    shares = start
    for _ in range(_STEPS):
        before, shares = shares, (step(shares) + caution * start) / (1 + caution)
        if (np.abs(shares - before) < _CLOSE).all():
            break
    return shares


def _scaled(rows: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; all the same where that is 0."""
    total = rows.sum(axis=-1, keepdims=True)
    scaled: np.ndarray = np.full_like(rows, 1 / rows.shape[-1])
    np.divide(rows, total, out=scaled, where=total > 0)
    return scaled


def _check(probs: np.ndarray, shares: np.ndarray) -> None:
    if probs.ndim != 2 or shares.shape != probs.shape[1:]:
        got = f"{probs.shape} and {shares.shape}"
        raise UsageError.expected("probs (n, labels) and prevalence (labels,)", got, "those of one label set")
    for name, values in (("probabilities", probs), ("prevalences", shares)):
        outside = values[~((values >= 0) & (values <= 1))]  # this form catches nan too
        if outside.size:
            raise UsageError.expected(f"{name} in [0, 1]", f"{outside[0]}", "shares of photos, not per cent or logits")
