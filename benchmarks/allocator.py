"""What glibc's memory settings are worth: the same training steps with its defaults, with the
settings in the environment, and with those that the program makes for itself.

A process each, which take turns, a step at a time, so that what else the machine does hits all
alike; the first step of each is not counted. Prints JSON lines: for each way the seconds of
every step and the most memory at once, then the ratios to the defaults.

    python benchmarks/allocator.py [--base glyphs] [--units 64] [--draws 2] [--steps 8]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
WAYS = {
    "default": {"SFUMATO_MALLOC": "0"},
    "environment": MALLOC | {"SFUMATO_MALLOC": "0"},
    "program": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="glyphs", help="a bundled base or a base's folder")
    parser.add_argument("--method", default="attention")
    parser.add_argument("--units", type=int, default=64, help="of a step")
    parser.add_argument("--draws", type=int, default=2, help="of a unit")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """All ways in turn; the lines on standard output."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in MALLOC and name not in ("SFUMATO_MALLOC", "GLIBC_TUNABLES")
    }
    clean |= {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    children = {
        name: subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--child"],
            env=clean | way,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, way in WAYS.items()
    }
    rows = {name: [] for name in WAYS}
    for step in range(args.steps + 1):
        names = list(WAYS)
        for name in names[step % len(names) :] + names[: step % len(names)]:
            rows[name].append(ask(children[name]))
    for child_process in children.values():
        child_process.stdin.close()
        child_process.wait()
    seconds = {name: [row["cpu_seconds"] for row in found[1:]] for name, found in rows.items()}
    peaks = {name: found[-1]["peak_mb"] for name, found in rows.items()}
    for name in WAYS:
        row = {"way": name, "cpu_seconds": seconds[name], "peak_mb": peaks[name]}
        print(json.dumps(row | {"settings_taken": rows[name][-1]["settings_taken"]}))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name in ("environment", "program"):
        ratio = {
            "ratio_time": round(middle[name] / middle["default"], 3),
            "ratio_peak": round(peaks[name] / peaks["default"], 3),
        }
        print(json.dumps({"way": name, "of": "default"} | ratio | vars(args)))


def ask(process: subprocess.Popen) -> dict:
    """One step of a child, and what it says of it."""
    process.stdin.write("step\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def child(args: argparse.Namespace) -> None:
    """A step for each line on standard input."""
    from sfumato.compute.allocator import keep_memory

    taken = keep_memory()
    from sfumato.compute.memory import peak_resident
    from sfumato.gradients import Engine
    from sfumato.privacy.clipping import flat

    adaptation, batch = setting(args)
    with Engine(adaptation.model, adaptation.trainable) as engine:
        for _ in sys.stdin:
            started = time.process_time()
            engine.clipped_sum(
                adaptation.row_losses, batch, draws=args.draws, clip=flat(1.0).factors
            )
            row = {
                "cpu_seconds": round(time.process_time() - started, 3),
                "peak_mb": round(peak_resident() / 2**20),
                "settings_taken": taken,
            }
            print(json.dumps(row), flush=True)


def setting(args: argparse.Namespace):
    """A method on a base, and a batch of dummy latents."""
    import torch

    from sfumato.bases import load_base
    from sfumato.compute.precision import Formats
    from sfumato.methods import METHODS, Given, Prompts
    from sfumato.training import Batch

    torch.manual_seed(0)
    base = load_base(args.base)
    base.formats = Formats.everywhere("bfloat16")
    prompts = Prompts(("a handwritten digit one", "a handwritten digit two"))
    adaptation = METHODS[args.method]().apply(base, Given(prompts))
    shape = (args.units, args.draws, *base.latent_shape)
    batch = Batch(
        mean=torch.randn(shape),
        std=torch.full(shape, 0.1),
        label=torch.randint(0, 2, (args.units, args.draws)),
        latent_noise=torch.randn(shape),
        noise=torch.randn(shape),
        time=torch.randint(0, 1000, (args.units, args.draws)),
        drop=torch.zeros(args.units, args.draws, dtype=torch.bool),
        weight=torch.ones(args.units, args.draws),
    )
    return adaptation, batch


if __name__ == "__main__":
    main()
