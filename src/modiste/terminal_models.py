"""What a person sees of finished models in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modiste.terminal import print_table, print_words

if TYPE_CHECKING:  # needs torch
    from modiste.exporting import Written


def print_model(name: str, facts: Mapping[str, Any]) -> None:
    """What a model is, on stdout."""
    thresholds = facts["decision"]["thresholds"]
    calibration = facts["decision"]["calibration"] or {}
    top = str(facts["decision"]["policy"]).startswith("top")
    rows = []
    for group in facts["labels"]["groups"]:
        for label in group["labels"]:
            id_, names = label["id"], ", ".join(label["names"].values())
            said = "the most probable" if group["exclusive"] or top else f"above {thresholds[id_]:.3f}"
            rows.append((id_, names, group["name"], said, calibration.get(id_, {}).get("method", "none")))
    image = facts["image"]
    print_words(
        f"{name}: {', '.join(facts['backbones'])}, {facts['precision']}, {image['size']} px ({image['mode']}), "
        f"views {facts['views']}, {facts['bytes'] / 1e6:.1f} MB, {facts['ms_per_photo']:.1f} ms a photo here"
    )
    print_table(f"{facts['decision']['policy']}", ["label", "names", "group", "said where", "calibration"], rows)
    print_words(facts["card"])


def print_export(path: Path, written: Written) -> None:
    """What an exported file is like, on stdout."""
    parity, rounded = written.parity, written.rounded
    print_words(
        f"compared on {parity.photos} photos: probabilities differ by {parity.largest:.1e} at most, "
        f"{parity.flipped} decisions differ"
    )
    if rounded is not None:
        rows = []
        for cost in rounded.costs:
            scores = f"{cost.map_before:.4f}", f"{cost.map_after:.4f}", f"{cost.lost:+.2f}"
            rows.append((cost.split, cost.photos, *scores, f"{cost.flipped:,} of {cost.decisions:,}"))
        title = f"int8, {rounded.kept} of {rounded.blocks} blocks in float32"
        print_table(title, ["split", "photos", "mAP", "in int8", "points lost", "decisions that differ"], rows)
        speeds = f"{rounded.ms_before:.1f} ms a photo in float32, {rounded.ms_after:.1f} in int8"
        why = "not faster here" if not rounded.faster else "" if rounded.close else "loses too much"
        print_words(speeds + (f": {why}, so the file stays in float32" if why else ""))
    print_words(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
