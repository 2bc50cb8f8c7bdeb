"""How time and memory of a step grow with batch size, tokens, rank, draws and model size: JSON
lines.

    # about half an hour on one core
    python benchmarks/scaling.py --out benchmarks/results/scaling.jsonl
    python benchmarks/scaling.py --axes tokens --rounds 5

One line per point: the value on the axis, and for the non-private step, sfumato and Opacus hooks
the seconds and peak bytes. plots.py draws them.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from measure import machine, prepare_process, say

# axis -> (values, what is measured); one thing changes, the rest is in the caption
AXES: dict[str, tuple[tuple[int, ...], str]] = {
    "records": ((2, 4, 8, 16, 32), "unet16, whole model, K = 1"),
    "tokens": ((16, 64, 256, 1024), "6-block DiT 384 wide, attention, 4 records"),
    "rank": ((1, 4, 16, 64, 128), "unet16, LoRA, 8 records"),
    "draws": ((1, 2, 4, 8), "unet16, attention, 4 records"),
    "width": ((192, 384, 576, 768), "6-block DiT, 64 tokens, whole model, 8 records"),
}
SMALL = {axis: values[:2] for axis, (values, _) in AXES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axes", type=lambda text: text.split(","), default=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="the two smallest values of each axis")
    parser.add_argument("--out", help="append the JSON lines to this file too")
    args = parser.parse_args()
    prepare_process(args.threads)
    warnings.filterwarnings("ignore")
    facts = machine(args.device)
    for axis in args.axes:
        for value in SMALL[axis] if args.small else AXES[axis][0]:
            row = point(axis, value, args) | facts
            print(json.dumps(row), flush=True)
            if args.out:
                with open(args.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def point(axis: str, value: int, args: argparse.Namespace) -> dict[str, Any]:
    """One value of one axis: found -> method -> seconds, peak_bytes, max_rel_error, or error."""
    from peers import BASE, HOOKS, OURS, compare

    say(f"{axis} = {value}")
    result = compare(
        fresh(axis, value, args.device),
        dict.fromkeys((BASE, OURS, HOOKS), args.rounds),
        args.device,
    )
    head = {"axis": axis, "value": value, "what": AXES[axis][1], "clock": clock_name(args.device)}
    head |= {
        "numbers": sum(t.numel() for t in result.sums.values()),
        "strategies": result.strategies,
    }
    return head | {"found": result.found}


def clock_name(device: str) -> str:
    return "process CPU" if device == "cpu" else "wall"


def fresh(axis: str, value: int, device: str) -> Callable:
    """A function that makes the case of a point."""
    from models import MODELS, assemble, dit

    unet16 = MODELS["unet16"]
    if axis == "records":
        return partial(assemble, "unet16", unet16, "whole", value, 1, device=device)
    if axis == "tokens":
        return partial(
            assemble,
            "dit",
            partial(dit, 2 * round(value**0.5), 6, 6),
            "attention",
            4,
            1,
            device=device,
        )
    if axis == "rank":
        return partial(assemble, "unet16", unet16, f"lora{value}", 8, 1, device=device)
    if axis == "draws":
        return partial(assemble, "unet16", unet16, "attention", 4, value, device=device)
    return partial(assemble, "dit", partial(dit, 16, value // 64, 6), "whole", 8, 1, device=device)


if __name__ == "__main__":
    main()
