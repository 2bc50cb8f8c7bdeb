"""What integer sums cost: a step's clipped sum and noise in whole grid units beside an older
checkout's in floats.

    git worktree add /somewhere/old c6fe880
    python benchmarks/integer_sums.py --old /somewhere/old          # some minutes on one core
    python benchmarks/integer_sums.py --old /somewhere/old --methods attention --draws 4 --rounds 15

Both engines take turns on the same model and the same dummy records in one process, so that a
busy machine slows both. One JSON line per base, method and K: medians of processor seconds of the
clipped sum of `units` records (forward and backward pass included) and of the noise, old and new;
the ratio of a step of the plan's expected batch size, which is `batch` / `units` sums and one
noise; and how the engine chose to sum.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median

from measure import clock, machine, prepare_process, say


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--old", required=True, help="a checkout from before sums were made of integers"
    )
    parser.add_argument("--bases", type=lambda text: text.split(","), default=["glyphs"])
    parser.add_argument(
        "--methods", type=lambda text: text.split(","), default=["attention", "lora", "full"]
    )
    parser.add_argument(
        "--draws", type=lambda text: [int(k) for k in text.split(",")], default=[4, 1]
    )
    parser.add_argument(
        "--rows", type=int, default=256, help="records x draws of a sum, which is one microbatch"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bfloat16")
    args = parser.parse_args()
    prepare_process(args.threads)
    old = old_engine(Path(args.old))
    for base in args.bases:
        for method in args.methods:
            for draws in args.draws:
                say(f"{base}, {method}, K = {draws}")
                print(
                    json.dumps(measure(old, base, method, draws, args) | machine("cpu")), flush=True
                )


def old_engine(checkout: Path):
    """The engine of another checkout, under another name: it imports nothing but torch and
    itself.
    """
    place = checkout / "sfumato" / "gradients"
    spec = importlib.util.spec_from_file_location(
        "old_gradients", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    module = sys.modules["old_gradients"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Engine


def measure(old, base: str, method: str, draws: int, args: argparse.Namespace) -> dict:
    import torch

    from sfumato.gradients import Engine
    from sfumato.options import Performance
    from sfumato.planning.facts import PublicFacts
    from sfumato.planning.prepare import prepare
    from sfumato.planning.task import task_of
    from sfumato.privacy.random.keys import RunKey
    from sfumato.privacy.random.noise import add_integer_noise
    from sfumato.training.dummy import dummy_batch
    from sfumato.verbs.demo import demo_prompts

    records = PublicFacts(n_units=60_000, classes=tuple("0123456789"))
    prepared = prepare(
        records, task_of(epsilon=10, delta=1e-5, base=base, method=method, noise_draws=draws,
        performance=Performance(precision=args.precision), **demo_prompts(base))[2])  # fmt: skip
    plan, adaptation, units = prepared.plan, prepared.adaptation, args.rows // draws
    batch, key = dummy_batch(prepared, units), RunKey(bytes(32))
    given = {"draws": draws, "clip": plan.clip().factors, "micro_batch": units}
    seconds = {name: [] for name in ("old sum", "new sum", "old noise", "new noise")}
    ways = {}
    for turn in range(args.rounds + 1):
        for name, kind, more in (("old", old, {}), ("new", Engine, {"rounding": plan.rounding})):
            # what is in the way of one engine must be in the way of the other: both are built anew
            # in every round
            with kind(adaptation.model, adaptation.trainable) as engine:
                engine.clipped_sum(adaptation.row_losses, batch, **given, **more)
                (sums, _), spent, _ = clock(
                    lambda: engine.clipped_sum(  # noqa: B023
                        adaptation.row_losses,
                        batch,
                        **given,
                        **more,  # noqa: B023
                    )
                )
                ways[name] = dict(Counter(engine.strategies.values()))
            if name == "old":
                _, noise, _ = clock(
                    lambda: float_noise(
                        sums,  # noqa: B023
                        key,
                        turn,  # noqa: B023
                        plan.noise_multiplier * plan.clip_norm,
                    )
                )
            else:
                asked = {"multiplier": plan.noise_multiplier, "bound": plan.rounding.bound}
                _, noise, _ = clock(lambda: add_integer_noise(sums, key, turn, 0, **asked))  # noqa: B023
            if turn:  # the first round fills caches and tables
                seconds[f"{name} sum"].append(spent)
                seconds[f"{name} noise"].append(noise)
    middle = {name: median(values) for name, values in seconds.items()}
    steps = {
        name: middle[f"{name} sum"] * plan.expected_batch_size / units + middle[f"{name} noise"]
        for name in ("old", "new")
    }
    return {
        "base": base,
        "method": method,
        "draws": draws,
        "units": units,
        "trainable": plan.trainable,
        "batch": plan.expected_batch_size,
        **{name.replace(" ", "_"): round(value, 5) for name, value in middle.items()},
        "sum_ratio": round(
            median(n / o for n, o in zip(seconds["new sum"], seconds["old sum"])), 4
        ),
        "noise_ratio": round(middle["new noise"] / middle["old noise"], 3),
        "step_ratio": round(steps["new"] / steps["old"], 4),
        "ways_old": ways["old"],
        "ways_new": ways["new"],
        "threads": torch.get_num_threads(),
    }


def float_noise(sums, key, step: int, stddev: float) -> dict:
    """What the loop did before: normals of the run key, cast to float32 and added in float32."""
    import torch

    noisy = {}
    for name, value in sums.items():
        noise = torch.from_numpy(
            (key.stream("noise", step, 0, name).normal(value.numel()) * stddev).astype("float32")
        )
        noisy[name] = value + noise.view(value.shape)
    return noisy


if __name__ == "__main__":
    main()
