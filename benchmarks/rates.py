"""Which learning rate small sets bear: `python benchmarks/rates.py --units 250 --epsilons 1,10`.

One JSON line for each (epsilon, method, share of the method's own rate) on the first digits of
MNIST, with the schedule that the tool proposes for so many: noise over signal of the whole run
(`noise_over_signal` of `sfumato/planning/forecast.py`) and the accuracy, on real test digits, of a
small CNN that has seen the run's pictures alone; with --public-only of the base as it comes. One
process for all, so that hours on a busy machine are not spent on starting.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from methods import METHODS, first, of_rank
from rows import append, lines

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.evaluation import train_classifier
from sfumato.methods import METHODS as CLASSES
from sfumato.options import Recipe, Sampling
from sfumato.planning.forecast import noise_over_signal
from sfumato.records import bundled_digits
from sfumato.verbs.demo import demo_prompts
from sfumato.verbs.real_images import images_of
from sfumato.verbs.row_images import draw

DIGITS = tuple("0123456789")


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="letters")
    parser.add_argument("--units", type=int, default=250)
    parser.add_argument("--epsilons", default="1")
    parser.add_argument("--methods", default="lora", help=f"some of {', '.join(METHODS)}")
    parser.add_argument("--rank", type=int, default=None, help="default the tool's")
    parser.add_argument("--shares", default="1,0.333,0.1", help="of the method's own rate")
    parser.add_argument("--schedule", default="{}", help="steps, expected_batch_size, as JSON")
    parser.add_argument("--public-only", action="store_true", help="nothing trains")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classifier-steps", type=int, default=300)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="append, and skip the rows that it holds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = bundled_digits("test")
    some = np.arange(args.test)
    judge = test.images(some, 32), test.labels[some]
    records = first(bundled_digits("train"), args.units)
    if args.public_only:
        network = train_classifier(
            "cnn", *of_the_base(args.base, args.images), 10, seed=0, steps=args.classifier_steps
        )
        row = {"base": args.base, "images": args.images, "method": None, "test": args.test}
        row |= {"classifier_steps": args.classifier_steps, "accuracy": accuracy(network, judge)}
        print(json.dumps(row))
        return append(args.out, row) if args.out else None
    asked = product(
        map(float, args.epsilons.split(",")),
        args.methods.split(","),
        map(float, args.shares.split(",")),
    )
    for epsilon, method, share in asked:
        row = {
            **{name: getattr(args, name) for name in ("base", "units", "rank", "images", "test")},
            "classifier_steps": args.classifier_steps,
            "schedule": json.loads(args.schedule),
            **{"epsilon": epsilon, "method": method, "share": share},
        }
        if args.out and any(row.items() <= line.items() for line in lines(args.out)):
            continue
        row |= measure(row, records, judge)
        print(json.dumps(row), flush=True)
        if args.out:
            append(args.out, row)


def accuracy(network, judge: tuple) -> float:
    """In percent, on real digits."""
    return round(100 * network.accuracy(*judge), 2)


def of_the_base(base: str, n: int) -> tuple:
    """Pictures of the public words, in equal shares, and the digits that they stand for."""
    said = demo_prompts(base)
    starts = said.get("init", {})
    texts = [t.replace("{class}", starts.get(c, c)) for c, t in said["prompt"].items()]
    return draw(load_base(base), texts, n, Sampling(steps=8))


def measure(row: dict, records, judge: tuple) -> dict:
    """One run at a share of its method's rate, and what a CNN learns from its pictures."""
    how = dict(METHODS[row["method"]])
    if row["rank"]:
        how = of_rank(how, row["rank"])
    elif "rank" in how.get("method_options", {}):
        options = {k: v for k, v in how["method_options"].items() if k != "rank"}
        how = how | {"method_options": options}
    rate = row["share"] * CLASSES[how["method"]].learning_rate
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run = verbs.adapt(
            records,
            output=work / "run",
            ledger=work / "ledger.sqlite",
            epsilon=row["epsilon"],
            delta=1e-5,
            base=row["base"],
            method=how["method"],
            **how.get("method_options", {}),
            **row["schedule"],
            recipe=Recipe(learning_rate=rate),
            precision="bfloat16",
            samples_every=0,
            anyway=True,
            yes_public=True,
            **demo_prompts(row["base"]),
        )
        adapted = time.process_time() - before
        sampling = Sampling(steps=8)
        verbs.synthesize(run, row["images"], work / "out", controls=False, sampling=sampling)
        pictures = images_of(work / "out", DIGITS, 32, "train")
        plan = run.plan
    network = train_classifier("cnn", *pictures, 10, seed=0, steps=row["classifier_steps"])
    return {
        "rate": plan.learning_rate,
        "trainable": plan.trainable,
        "sigma": plan.noise_multiplier,
        "steps": plan.steps,
        "batch": plan.expected_batch_size,
        "noise_over_signal": round(noise_over_signal(plan), 3),
        "accuracy": accuracy(network, judge),
        "cpu_seconds_adapt": round(adapted, 1),
        "cpu_seconds": round(time.process_time() - before, 1),
    }


if __name__ == "__main__":
    main()
