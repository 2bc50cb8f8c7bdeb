"""What idle OpenMP threads cost beside other processes: a step under several spin counts.

    python benchmarks/spinning.py          # on two free processors; two minutes

A step of the `glyphs` denoiser, forward and backward, 64 rows, on two threads; one process for each
setting of libgomp. Quiet: the processes take turns by two steps, and the ratio is the median over
rounds of its time to the default's beside it. Busy: one after the other for 20 seconds each, beside
two processes that never sleep. One JSON line per setting; milliseconds of wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

SETTINGS: dict[str, tuple[dict[str, str], int]] = {
    "default": ({}, 2),
    "GOMP_SPINCOUNT=30000": ({"GOMP_SPINCOUNT": "30000"}, 2),
    "GOMP_SPINCOUNT=10000": ({"GOMP_SPINCOUNT": "10000"}, 2),
    "GOMP_SPINCOUNT=3000": ({"GOMP_SPINCOUNT": "3000"}, 2),
    "GOMP_SPINCOUNT=1000": ({"GOMP_SPINCOUNT": "1000"}, 2),
    "OMP_WAIT_POLICY=PASSIVE": ({"OMP_WAIT_POLICY": "PASSIVE"}, 2),
    "one thread": ({}, 1),
}
ROUNDS, SECONDS, ROWS = 40, 20, 64


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
        return
    processes = {name: started(*how) for name, how in SETTINGS.items()}
    quiet: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(ROUNDS):
        for name, process in processes.items():
            time.sleep(0.02)  # the last one's threads stop spinning
            quiet[name].append(asked(process, 2))
    busy = {name: beside_others(process) for name, process in processes.items()}
    for name, process in processes.items():
        process.kill()
        ratio = median(a / b for a, b in zip(quiet[name], quiet["default"], strict=True))
        row = {"setting": name, "quiet_ms": median(quiet[name]), "ratio": ratio}
        print(json.dumps(row | {"busy_ms": median(busy[name])}))


def started(settings: dict[str, str], threads: int) -> subprocess.Popen[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    words = [sys.executable, __file__, "--serve", str(threads)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, env=own | settings, stdin=pipe, stdout=pipe, text=True)
    asked(process, 1)
    return process


def asked(process: subprocess.Popen[str], steps: int) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def beside_others(process: subprocess.Popen[str]) -> list[float]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    found: list[float] = []
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            found.append(asked(process, 1))
    finally:
        for other in others:
            other.kill()
    return found


def serve(threads: int) -> None:
    """Reads numbers of steps, and answers with milliseconds of one."""
    import torch

    from sfumato.bases import load_base

    torch.set_num_threads(threads)
    base: Any = load_base("glyphs")
    unet = base.unet.train().requires_grad_(True)
    size, width = unet.config.sample_size, unet.config.cross_attention_dim
    rows = torch.randn(ROWS, unet.config.in_channels, size, size)
    times, text = torch.randint(0, 1000, (ROWS,)), torch.randn(ROWS, 4, width)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            unet.zero_grad(set_to_none=True)
            unet(rows, times, encoder_hidden_states=text).sample.square().mean().backward()
        print((time.perf_counter() - began) / int(line) * 1e3, flush=True)


if __name__ == "__main__":
    main()
