"""Class moments before DP-SGD: `python benchmarks/means.py --data mnist --base none`.

One run for each epsilon and warm-up, and what a small CNN learns from its pictures; with
`--moments-alone` also what it learns from pictures of the noisy moments themselves, which cost
nothing more. One seed, one classifier; real test pictures are looked at, so the data must be
public. `--data fashion-mnist` is the stand-in on which defaults were chosen for mnist. A line of
JSON for each run goes to --out.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import private_sets
import safetensors.numpy
import torch
from methods import first

from sfumato import verbs
from sfumato.bases import base_info, load_base
from sfumato.evaluation.classifiers import train_classifier
from sfumato.methods.warm_up.pictures import pictures_of
from sfumato.options import Sampling
from sfumato.records import load_records
from sfumato.verbs.drawing import draw_as_released
from sfumato.verbs.real_images import images_of

CLASSES = private_sets.CLASSES


def cpu_seconds() -> float:
    """Of this process and its children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def judge(images: np.ndarray, labels: np.ndarray, test, steps: int) -> float:
    """Accuracy on real test pictures of a small CNN that has seen these alone."""
    model = train_classifier("cnn", images, labels, len(CLASSES), seed=0, steps=steps)
    return model.accuracy(*test)


def from_moments(run, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the noisy class moments themselves."""
    plan, base = run.plan, load_base(run.plan.base)
    blob = safetensors.numpy.load((run.folder / "moments.safetensors").read_bytes())
    noisy = [blob[f"round{i}"] for i in range(plan.moments.rounds)]
    side = round((plan.moments.numbers / base.latent_shape[0]) ** 0.5)
    found = pictures_of(plan.moments, noisy, base.latent_shape, side)
    labels = np.arange(n) % len(CLASSES)
    drawn = found.draw(torch.from_numpy(labels), torch.Generator().manual_seed(0))
    return np.concatenate([base.decode(part) for part in drawn.split(500)]), labels


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist", choices=("mnist", "fashion-mnist"))
    parser.add_argument("--base", default="none")
    parser.add_argument("--method", default="full")
    parser.add_argument("--epsilon", default="1,10")
    parser.add_argument("--warm-up", default="means", help="means, none, or both in this order")
    parser.add_argument("--private", type=int, default=None, help="the first so many images")
    parser.add_argument("--options", default="{}", help="more of adapt, as JSON")
    parser.add_argument("--warmth", default="{}", help="more with --warm-up means, as JSON")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classifier-steps", type=int, default=600)
    parser.add_argument("--moments-alone", action="store_true")
    parser.add_argument(
        "--moved", action="store_true", help="also pictures moved to the class moments"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    side = base_info(args.base).resolution
    records = private_sets.read(args.data, "train")
    if args.private:
        records = first(records, args.private)
    test = images_of(private_sets.read(args.data, "test"), CLASSES, side, "test")
    words = {} if args.base == "none" else private_sets.words(args.data, Path(args.base).name)
    for epsilon in map(float, args.epsilon.split(",")):
        for warm in args.warm_up.split(","):
            more = json.loads(args.warmth) | {"warm_up": "means"} if warm == "means" else {}
            before = cpu_seconds()
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                run = verbs.adapt(
                    records,
                    output=work / "run",
                    ledger=work / "ledger.sqlite",
                    epsilon=epsilon,
                    delta=1e-5,
                    method=args.method,
                    base=args.base,
                    seed=args.seed,
                    anyway=True,
                    yes_public=True,
                    samples_every=0,
                    **words,
                    **json.loads(args.options),
                    **more,
                    on_stage=lambda line: None,
                )
                adapted = cpu_seconds() - before
                as_drawn = Sampling(class_moments=0)
                verbs.synthesize(run, args.images, work / "out", controls=False, sampling=as_drawn)
                spent = cpu_seconds() - before
                drawn = load_records(work / "out" / "train", classes=CLASSES)
                pictures = images_of(drawn, CLASSES, side, "synthetic")
                plan = run.plan
                row = {
                    "data": args.data,
                    "base": args.base,
                    "method": args.method,
                    "warm_up": warm,
                    "epsilon": plan.epsilon,
                    "units": plan.n_units,
                    "options": json.loads(args.options) | more,
                    "steps": plan.steps,
                    "batch": plan.expected_batch_size,
                    "trainable": plan.trainable,
                    "noise": plan.noise_multiplier,
                    "moments_noise": plan.moments and plan.moments.noise_multiplier,
                    "cpu_seconds_adapt": round(adapted, 1),
                    "cpu_seconds_with_pictures": round(spent, 1),
                    "images": args.images,
                    "accuracy": judge(*pictures, test, args.classifier_steps),
                    "classifier_steps": args.classifier_steps,
                    "seed": args.seed,
                }
                if args.moments_alone and plan.moments is not None:
                    alone = from_moments(run, args.images)
                    row["moments_alone"] = judge(*alone, test, args.classifier_steps)
                if args.moved and plan.moments is not None:
                    moved = draw_as_released(run, args.images, Sampling())
                    row["moved"] = judge(*moved, test, args.classifier_steps)
            print(json.dumps(row), flush=True)
            if args.out:
                with open(args.out, "a", encoding="utf-8") as table:
                    table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
