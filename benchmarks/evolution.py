"""Private Evolution on public sets: `python benchmarks/evolution.py --data mnist --base letters`.

Beside each other: what classifiers learn from as many pictures of the public base alone, and from
the evolved population. Real test pictures are looked at, so the data must be public. `--data
font-digits` are digits of public fonts (`--fonts`, the recipe's glyphs.npz): the stand-in on which
defaults were chosen. A line of JSON for each run (one public seed, one epsilon) goes to --out.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import private_sets
import torch
from methods import first

from sfumato import verbs
from sfumato.bases import load_lora
from sfumato.evaluation.classifiers import train_classifier
from sfumato.methods import Evolution
from sfumato.options import Sampling
from sfumato.records import RecordSet, load_records
from sfumato.verbs.facts import adapted_base, public_base
from sfumato.verbs.real_images import images_of

CLASSES = private_sets.CLASSES


def cpu_seconds() -> float:
    """Of this process and its children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def judge(images: np.ndarray, labels: np.ndarray, test, names: list[str], args, seed: int) -> dict:
    """Accuracy on real test pictures of each classifier that has seen these alone."""
    return {
        name: train_classifier(
            name, images, labels, len(CLASSES), seed=seed, steps=args.classifier_steps
        ).accuracy(*test)
        for name in names
    }


def pictures_in(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels of a folder of `synthesize`."""
    return images_of(load_records(folder / "train", classes=CLASSES), CLASSES, 32, "synthetic")


def evolved(records: RecordSet, args, epsilon: float, seed: int, work: Path) -> dict:
    """One run: its plan, its time, and what its pictures and its first population are worth."""
    options = {k: v for k, v in json.loads(args.options).items()}
    before = cpu_seconds()
    run = verbs.adapt(
        records,
        output=work / f"run-{epsilon:g}-{seed}",
        ledger=work / "ledger.sqlite",
        epsilon=epsilon,
        delta=1e-5,
        method=Evolution(**options),
        base=args.base,
        seed=seed,
        anyway=True,
        yes_public=True,
        **private_sets.words(args.data, Path(args.base).name),
        on_stage=lambda line: print(line, flush=True),
    )
    out = work / f"pictures-{epsilon:g}-{seed}"
    verbs.synthesize(run, run.plan.voting.candidates, out, controls=False)
    return {"run": run, "cpu": cpu_seconds() - before, "out": out}


def drawn_from(base, run, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many pictures that a base draws for the prompts of a run."""
    from sfumato.synthesis.dataset import class_of_each
    from sfumato.synthesis.sampler import pictures

    labels = class_of_each(n, [1] * len(CLASSES))
    drawn = pictures(base, run.plan.prompts, labels, np.arange(n), Sampling(seed=seed))
    return np.concatenate([images for _, images in drawn]), labels


def tuned(run, test, names: list[str], args, seed: int) -> dict:
    """Of pictures drawn from the base as `--fine-tune` left it: as many as candidates, and more."""
    n, base = run.plan.voting.candidates, adapted_base(run)
    load_lora(base, run.model)  # a run with a population opens as the base without it
    return {
        many: judge(*drawn_from(base, run, many, seed), test, names, args, seed)
        for many in (n, args.tuned_times * n)
    }


def rows(args):
    """A row for each run."""
    source = {"source": args.fonts} if args.fonts else {}
    records = private_sets.read(args.data, "train", **source)
    if args.private:
        records = first(records, args.private)
    test = images_of(private_sets.read(args.data, "test", **source), CLASSES, 32, "test")
    for seed in map(int, args.seeds.split(",")):
        names = args.classifiers.split(",") if seed == 0 else args.classifiers.split(",")[:1]
        public = None
        for epsilon in map(float, args.epsilon.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                made = evolved(records, args, epsilon, seed, Path(folder))
                plan = made["run"].plan
                if public is None and not args.no_public:
                    base = public_base(made["run"])
                    drawn = drawn_from(base, made["run"], plan.voting.candidates, seed)
                    public = judge(*drawn, test, names, args, seed)
                found = judge(*pictures_in(made["out"]), test, names, args, seed)
                more = {}
                if "fine_tune" in json.loads(args.options):
                    more = {"tuned": tuned(made["run"], test, names, args, seed)}
            yield {
                "data": args.data,
                "base": args.base,
                "base_digest": plan.base_digest,
                "epsilon": plan.epsilon,
                "units": plan.n_units,
                "options": json.loads(args.options),
                "candidates": plan.voting.candidates,
                "rounds": plan.steps,
                "noise": plan.noise_multiplier,
                "cpu_seconds": round(made["cpu"], 1),
                "accuracy": found,
                "public_only": public,
                "classifier_steps": args.classifier_steps,
                "seed": seed,
            } | more


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default="mnist", choices=("mnist", "font-digits", "fashion-mnist")
    )
    parser.add_argument("--fonts", type=Path, default=None)
    parser.add_argument("--base", default="letters")
    parser.add_argument("--epsilon", default="1,10")
    parser.add_argument("--private", type=int, default=None, help="the first so many images")
    parser.add_argument("--options", default="{}", help="fields of Evolution, as JSON")
    parser.add_argument("--classifiers", default="cnn", help="all for seed 0, else the first")
    parser.add_argument("--classifier-steps", type=int, default=400)
    parser.add_argument("--tuned-times", type=int, default=3, help="more pictures, of --fine-tune")
    parser.add_argument("--seeds", default="0", help="public: of the base's pictures")
    parser.add_argument("--no-public", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for row in rows(args):
        print(json.dumps(row), flush=True)
        if args.out:
            with open(args.out, "a", encoding="utf-8") as table:
                table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
