"""What integer noise costs a number, beside float noise: the same tensor, interleaved rounds, one
thread, one JSON line per width.

    python benchmarks/integer_noise.py [--numbers 1000000] [--rounds 9] [--device cuda] [--out FILE]

`float`: float64 normals of the run key, scaled, cast to float32 and added in float32, which is what
training added before its sums were integers. `integer`: `add_integer_noise` on an int64 tensor.
`words`: the keystream alone, as many words as the integers take. `table`: making the sampler's
table, once for a run. `tensors`: the same integers by plain tensor operations. Process CPU time,
minimum (and median) over the rounds.

With `--device` the same integers are made on a device as well: `fused` by Triton's kernels, where
it is installed, `tensors` by plain operations; wall time until the device is done.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from measure import clock, machine, prepare_process
from rows import append

from sfumato.privacy.random.gaussian import DiscreteGaussian
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import add_integer_noise, variance_of
from sfumato.privacy.random.on_device import TENSORS, Way, fused, integers_on

CHUNK = 1 << 20
WIDTHS = (80, 4_000, 100_000, 1_000_000, 10_000_000, 1_000_000_000, 1_000_000_000_000)


def float_noise(value: torch.Tensor, key: RunKey, step: int, stddev: float) -> torch.Tensor:
    """The float noise of earlier versions."""
    stream, noise = key.stream("noise", step, 0, "w"), np.empty(value.numel(), dtype=np.float32)
    for start in range(0, value.numel(), CHUNK):
        count = min(CHUNK, value.numel() - start)
        noise[start : start + count] = stream.normal(count) * stddev
    return value + torch.from_numpy(noise).reshape(value.shape)


def there(way: Way, width: int, numbers: int, key: RunKey, device: str, step: int) -> None:
    """The integers of a step on a device, all of them there."""
    place, variance = torch.device(device), variance_of(1.0, width)
    integers_on(place, variance, {"w": (0, numbers)}, key, "noise", step, 0, way)
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def on_a_device(width: int, numbers: int, rounds: int, device: str) -> dict:
    """Nanoseconds a number of every way that the device has."""
    key, row = RunKey(bytes(range(32))), {"device": torch.cuda.get_device_name(device)}
    for way in filter(None, (fused(), TENSORS)):
        took = []
        for step in range(rounds + 1):
            started = time.perf_counter()
            there(way, width, numbers, key, device, step)
            took.append((time.perf_counter() - started) / numbers * 1e9)
        row[f"{way.name}_device_ns"] = min(took[1:])
        row[f"{way.name}_device_ns_median"] = statistics.median(took[1:])
    return row


def measure(width: int, numbers: int, rounds: int) -> dict:
    """One row: nanoseconds a number for noise of standard deviation `width` grid units."""
    key = RunKey(bytes(range(32)))
    whole, single = torch.zeros(numbers, dtype=torch.int64), torch.zeros(numbers)
    sampler, table, _ = clock(lambda: DiscreteGaussian(variance_of(1.0, width)))
    ways = {
        "integer": lambda step: add_integer_noise(
            {"w": whole}, key, step, 0, multiplier=1.0, bound=width
        ),
        "tensors": lambda step: there(TENSORS, width, numbers, key, "cpu", step),
        "float": lambda step: float_noise(single, key, step, float(width)),
        "words": lambda step: key.stream("noise", step, 0, "w").words(numbers * sampler.terms),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for step in range(rounds + 1):
        for name, way in ways.items():
            _, cpu, _ = clock(lambda way=way, step=step: way(step))
            if step:  # the first is for caches
                seconds[name].append(cpu)
    row = {
        "sd": width,
        "terms": sampler.terms,
        "base_sd": float(sampler.base) ** 0.5,
        "table_seconds": table,
    }
    for name, found in seconds.items():
        row[f"{name}_ns"], row[f"{name}_ns_median"] = (
            f(found) / numbers * 1e9 for f in (min, statistics.median)
        )
    return row | {
        "ratio": row["integer_ns"] / row["float_ns"],
        "ratio_median": row["integer_ns_median"] / row["float_ns_median"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--widths", default=",".join(map(str, WIDTHS)), help="standard deviations in grid units"
    )
    parser.add_argument("--device", help="a GPU of torch's, cuda or cuda:N")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    prepare_process(threads=1)
    for width in map(int, args.widths.split(",")):
        row = measure(width, args.numbers, args.rounds) | {
            "numbers": args.numbers,
            "rounds": args.rounds,
        }
        if args.device:
            row |= on_a_device(width, args.numbers, args.rounds, args.device)
        row |= {"machine": machine()}
        print(json.dumps(row), flush=True)
        if args.out:
            append(args.out, row)


if __name__ == "__main__":
    main()
