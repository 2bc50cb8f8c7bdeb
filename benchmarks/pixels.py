"""A class-conditional base on pixels beside the latent base that saw the same drawings, at equal
processor time: `python benchmarks/pixels.py --base glyphs-pixels --method full --steps 20`.

Both are adapted to MNIST's 60,000 digits, used as if they were private, at epsilon 1; then a CNN is
trained on what they draw and asked once about the 10,000 test digits, and a Frechet distance is
taken in the features of a CNN that was trained on these. Everything is judged at 28 px: of a
picture of 32 px the edge goes that `adapt` put around the digits. One JSON line per call; choose
--steps so that the `cpu_minutes` of the lines agree.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import machine, prepare_process
from rows import append

SIDE = 28


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--method", default="attention")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=1024, help="expected")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--sampler-steps", type=int, default=8)
    parser.add_argument("--classifier-steps", type=int, default=900)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    args = parser.parse_args()
    prepare_process(args.threads)
    line = measured(args) | machine("cpu")
    print(json.dumps(line), flush=True)
    if args.out:
        append(args.out, line)


def measured(args: argparse.Namespace) -> dict:
    """The settings, what they cost and what came out."""
    from sfumato import Recipe, Sampling, adapt, synthesize
    from sfumato.bases import base_info
    from sfumato.evaluation import frechet_distance, train_classifier
    from sfumato.records import bundled_digits
    from sfumato.verbs.demo import TUNING, demo_prompts
    from sfumato.verbs.real_images import images_of
    from sfumato.verbs.row_images import draw, public_base

    private, test = bundled_digits("train"), bundled_digits("test")
    digits, labels = test.images(range(test.n), SIDE), test.labels
    judge = train_classifier("cnn", digits, labels, 10, seed=0, steps=args.classifier_steps)
    rate = {} if args.learning_rate is None else {"learning_rate": args.learning_rate}
    sampling = Sampling(steps=args.sampler_steps, seed=0)
    settings = {n: v for n, v in vars(args).items() if n not in ("out", "threads")}
    found: dict = {}
    last = ""

    def entered(stage: object) -> None:
        nonlocal last
        if (name := str(getattr(stage, "what", stage))) != last:
            print(f"{spent():.0f} s: {name}", file=sys.stderr, flush=True)
        last = name

    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder), spent()
        run = adapt(
            private, output=out / "run", ledger=out / "ledger.sqlite", epsilon=args.epsilon,
            delta=1e-5, method=args.method, base=args.base, steps=args.steps,
            expected_batch_size=args.batch, noise_draws=1, anyway=True, yes_public=True,
            recipe=Recipe(**rate), tuning=TUNING, on_stage=entered,
            **demo_prompts(args.base),
        )  # fmt: skip
        adapted = spent()
        synthesize(run, args.images, out / "release", sampling=sampling)
        drawn = spent()
        resolution, classes = base_info(args.base).resolution, run.plan.classes
        rows = {
            "synthetic": images_of(out / "release", classes, resolution, "train"),
            "public_only": draw(public_base(run), run.plan.prompts, args.images, sampling),
        }
        for row, (images, own) in rows.items():
            images = within(images)
            classifier = train_classifier(
                "cnn", images, own, 10, seed=0, steps=args.classifier_steps
            )
            distance = frechet_distance(judge.features(digits), judge.features(images))
            accuracy = 100 * classifier.accuracy(digits, labels)
            found[row] = {"accuracy": round(accuracy, 2), "frechet": round(distance, 2)}
        facts = {"trainable": run.plan.trainable, "epsilon": round(run.plan.epsilon, 4)}
    minutes = {"adapt": adapted - started, "synthesize": drawn - adapted}
    return {
        "settings": settings,
        **facts,
        "cpu_minutes": {n: round(s / 60, 2) for n, s in minutes.items()},
        **found,
    }


def within(images: np.ndarray) -> np.ndarray:
    """The middle 28 px."""
    edge = (images.shape[1] - SIDE) // 2
    return images[:, edge : edge + SIDE, edge : edge + SIDE]


def spent() -> float:
    """Processor seconds of this process and of what it has started and ended."""
    own, ended = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in (own, ended))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
