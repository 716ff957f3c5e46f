"""What benchmarks share: a command's time and memory, this machine's rate, networks whose weights are random."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def measured(command: list[str], **environment: str) -> tuple[dict[str, float], str]:
    """Run a command -> wall and CPU seconds, peak MB of its own process without workers; and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        began, peak = time.monotonic(), 0.0
        process = subprocess.Popen(command, stdout=output, env={**os.environ, **environment})
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            # Not ru_maxrss: it begins with what this process has.
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max(peak, *(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)
            time.sleep(0.05)
        wall = time.monotonic() - began
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        output.seek(0)
        return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mb": peak}, output.read()


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate() -> float:
    """Operations a second of a 2048 x 2048 float32 matrix product."""
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / min(timed(lambda: a @ a) for _ in range(12))


def settle(model: torch.nn.Module, photos: np.ndarray) -> None:
    """Give batch-norms the statistics of photos (n, size, size, 3) uint8, as trained ones have them."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(photos.transpose(0, 3, 1, 2).copy()))
