"""Thresholds, average precision and bootstrap intervals: modiste beside loops over scikit-learn and numpy.

    python benchmarks/decisions.py [PART...]

prints Markdown tables. PART is one or more of

    thresholds  the threshold with the best F2 and the average precision of each of 13 labels, 1,000,000 photos
    bootstrap   1,000 replicates of macro F2 and mAP, 10,000 photos; the peer does 50, and its time is multiplied.
                modiste computes every other score beside the two

Photos are drawn with the shares of the JD challenge's labels. Each side runs in a process of its own, whose peak
memory holds Python, the libraries and the photos too. Both get the same photos and draws and must agree.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, fbeta_score, precision_recall_curve

from modiste.labels import LabelSet
from modiste.metrics.bootstrap import replicate
from modiste.metrics.sweep import Sweep, best_fbeta, each_label

LABELS = LabelSet.read("jd2018")
SHARES = np.array([0.06, 0.76, 0.27, 0.01, 0.30, 0.55, 0.002, 0.12, 0.12, 0.03, 0.02, 0.01, 0.003])
PHOTOS = {"thresholds": 1_000_000, "bootstrap": 10_000}
REPLICATES, OF_PEER, SEED = 1000, 50, 0
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Values = list[list[float]]


def photos(n: int) -> Arrays:
    """Targets, probs and decisions of n photos; a positive's logit is higher by 2 on average, as AP is around 0.5."""
    rng = np.random.default_rng(1)
    targets = (rng.random((n, len(SHARES)), dtype=np.float32) < SHARES).astype(np.int8)
    logits = 1.5 * rng.standard_normal(targets.shape, dtype=np.float32) + 2 * targets - 1
    probs = 1 / (1 + np.exp(-logits - np.log(SHARES / (1 - SHARES)).astype(np.float32)))
    return targets, probs, (probs > 0.2).astype(np.int8)


def own_thresholds(targets: np.ndarray, probs: np.ndarray, _: np.ndarray) -> Values:
    def one(label: Sweep) -> list[float]:
        best = best_fbeta(label, 2)
        return [label.average_precision, best.score, best.threshold]

    return each_label(one, targets, probs)


def peer_thresholds(targets: np.ndarray, probs: np.ndarray, _: np.ndarray) -> Values:
    found = []
    for target, prob in zip(targets.T, probs.T, strict=True):
        precision, recall, thresholds = precision_recall_curve(target, prob)
        f2 = 5 * precision * recall / np.maximum(4 * precision + recall, 1e-12)
        best = int(np.argmax(f2))
        found.append([average_precision_score(target, prob), float(f2[best]), float(thresholds[best])])
    return found


def own_bootstrap(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray) -> Values:
    found = replicate(targets, probs, decisions, LABELS, replicates=REPLICATES, seed=SEED)
    return np.stack([found["macro.f2"], found["map"]], axis=1).tolist()


def peer_bootstrap(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray) -> Values:
    found = []
    for number in range(OF_PEER):
        rows = np.random.default_rng((SEED, number)).integers(len(targets), size=len(targets))
        f2 = fbeta_score(targets[rows], decisions[rows], beta=2, average="macro", zero_division=0)
        found.append([f2, average_precision_score(targets[rows], probs[rows], average="macro")])
    return found


Job = tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], Values], int]  # and how often it is timed
SIDES: dict[str, dict[str, Job]] = {
    "thresholds": {"modiste": (own_thresholds, 5), "scikit-learn": (peer_thresholds, 3)},
    "bootstrap": {"modiste": (own_bootstrap, 5), "scikit-learn": (peer_bootstrap, 1)},
}


def measure(part: str, side: str) -> None:
    """In the process of one side: seconds (median), peak MB and what came out, as JSON."""
    arrays = photos(PHOTOS[part])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work, times = SIDES[part][side]
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        values = work(*arrays)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([statistics.median(seconds), before / 1e3, peak / 1e3, values]))


def agree(part: str, own: Values, peer: Values) -> float:
    """The largest difference of a score.

    A threshold of modiste lies below the lowest probability that is said, the peer's is that probability: where
    two cuts are equally good but for the last bit, they may choose another, so that only scores are compared.
    """
    ours, theirs = np.array(own)[: len(peer)], np.array(peer)
    scores = slice(0, 2)
    difference = float(np.abs(ours[:, scores] - theirs[:, scores]).max())
    if difference > 1e-9:
        raise SystemExit(f"{part}: the two differ by {difference}")
    return difference


def compare(part: str) -> None:
    """Run both sides and print the table."""
    results = {}
    for side in SIDES[part]:
        command = [sys.executable, __file__, "--side", part, side]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[side] = json.loads(done.stdout)
    difference = agree(part, results["modiste"][3], results["scikit-learn"][3])
    print(f"\n## {part}: {PHOTOS[part]:,} photos, {len(SHARES)} labels; scores differ by at most {difference:.0e}\n")
    print("| by | seconds | times as long | peak MB | of it before |\n|---|---|---|---|---|")
    first = results["modiste"][0]
    for side, (seconds, before, peak, _) in results.items():
        scale = REPLICATES / OF_PEER if (part, side) == ("bootstrap", "scikit-learn") else 1
        note = f" ({OF_PEER} replicates in {seconds:.2f})" if scale > 1 else ""
        row = [side, f"{seconds * scale:.3g}{note}", f"{seconds * scale / first:.1f}", f"{peak:.0f}", f"{before:.0f}"]
        print("| " + " | ".join(row) + " |")


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        measure(*sys.argv[2:4])
        return
    print(f"{date.today()}, {os.cpu_count()} cores, numpy {np.__version__}, scikit-learn {sklearn.__version__}")
    for part in sys.argv[1:] or SIDES:
        compare(part)


if __name__ == "__main__":
    main()
