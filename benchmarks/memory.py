"""What keeping freed memory is worth: the same training steps with and without it, in processes of their own.

    python benchmarks/memory.py [backbone] [size] [batch]

The peer is plain PyTorch with glibc's defaults. Each way runs three times, in turn; medians and their
ratio are printed. Random weights and pixels: speed doesn't depend on them.
"""

import os
import platform
import statistics
import subprocess
import sys
from datetime import date

PROGRAM = """
import sys, time, torch
from modiste.config import ModelConfig
from modiste.training.memory import keep_freed_memory
from modiste.models.tagger import Tagger
backbone, size, batch, keep = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "kept"
if keep:
    assert keep_freed_memory()
model = Tagger(ModelConfig(backbone=backbone, weights="none"), 13).train()
optimizer = torch.optim.Adam(model.parameters())
photos = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
for step in range(8):
    if step == 3:
        began = time.perf_counter()
    optimizer.zero_grad()
    model(photos).square().mean().backward()
    optimizer.step()
print((time.perf_counter() - began) / 5 / batch * 1000)
"""


def measure(arguments: list[str], way: str) -> float:
    """Milliseconds a photo."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments, way], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    arguments = [*sys.argv[1:], *["mobilenetv2_100", "256", "32"][len(sys.argv) - 1 :]]
    times: dict[str, list[float]] = {"given back": [], "kept": []}
    for _ in range(3):
        for way, measured in times.items():
            measured.append(measure(arguments, way))
    medians = {way: statistics.median(measured) for way, measured in times.items()}
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; training step, ms a photo\n")
    print("| backbone, size, batch | freed memory given back | kept | ratio |\n|---|---|---|---|")
    ratio = medians["given back"] / medians["kept"]
    print(f"| {', '.join(arguments)} | {medians['given back']:.1f} | {medians['kept']:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
