"""Methods beside each other on MNIST at equal total epsilon: `python benchmarks/methods.py
[--quick] [options]`.

Prints one JSON line per (base, epsilon, method, seed): accuracy of a small CNN trained on the
synthetic digits and tested on the 10,000 test digits, Frechet distance in the features of a CNN
trained on real digits, trainable numbers, training sigma, the probe, and CPU minutes and peak
memory of adapting (each run is a process of its own). `seed` is the public one; every run has a
fresh secret key, so noise and samples differ too. The public choice looks at pictures drawn from
the base itself.

    # the table: 2 bases, epsilon 1 and 10, 3 seeds
    python benchmarks/methods.py --out methods.jsonl
    # the same at a third of the gradients
    python benchmarks/methods.py --reduced --out reduced.jsonl
    # few units and large adapters: what a choice of matrices is for
    python benchmarks/methods.py --reduced --bases letters --epsilons 0.5 --units 1000 --batch 250
    --steps 80 --rank 32 --methods lora,saliency,saliency-public,saliency-random
    --learning-rate 0.04 --out few.jsonl
    # saliency at 10..100 % of the matrices
    python benchmarks/methods.py --ratios --bases glyphs --seeds 1 --out ratios.jsonl
    # saliency at 40..100 %, every kind of clipping
    python benchmarks/methods.py --cliff --out cliff.jsonl
    # needs matplotlib; cliff.jsonl as well
    python benchmarks/methods.py --draw ratios.jsonl -o ratios.svg

The cliff is DP-SAPF's: its quality falls off where more than 60 % of the matrices train. Its
clipping is per-group-normalised. A second rate tells an unstable optimiser from noise: `--cliff
--learning-rate 0.001`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from measure import peak_mb
from rows import append, lines

METHODS = {
    "full": {"method": "full"},
    "attention": {"method": "attention"},
    "lora": {"method": "lora", "method_options": {"rank": 4}},
    "lora-frozen": {"method": "lora", "method_options": {"rank": 8, "freeze_a": True}},
    "lora-frozen-public": {
        "method": "lora",
        "method_options": {"rank": 8, "freeze_a": True, "adapter_init": "public"},
    },
    "saliency": {"method": "saliency", "method_options": {"rank": 4}},
    "saliency-squares": {"method": "saliency", "method_options": {"rank": 4, "score": "squares"}},
    "saliency-public": {"method": "saliency", "method_options": {"rank": 4, "choose": "public"}},
    "saliency-random": {"method": "saliency", "method_options": {"rank": 4, "choose": "random"}},
    "loda": {"method": "loda", "method_options": {"rank": 4}},
    "loda-frozen": {"method": "loda", "method_options": {"rank": 8, "freeze_a": True}},
    "loda-silu": {"method": "loda", "method_options": {"rank": 4, "activation": "silu"}},
}
RATIOS = {
    f"saliency-{10 * i}": {"method": "saliency", "method_options": {"rank": 4, "keep": i / 10}}
    for i in range(1, 11)
}
CLIFF = {
    name: RATIOS[name] for name in ("saliency-40", "saliency-60", "saliency-80", "saliency-100")
}
CLIPPINGS = ("flat", "normalised", "per-group", "per-group-normalised")
QUICK = {
    "steps": 2,
    "expected_batch_size": 32,
    "images": 40,
    "public": 16,
    "classifier_steps": 10,
    "private": 512,
    "test": 200,
}
WHOLE = {
    "steps": 60,
    "expected_batch_size": 1024,
    "images": 5000,
    "public": 2048,
    "classifier_steps": 900,
    "private": 60_000,
    "test": 10_000,
}

# A third of the gradients.
REDUCED = {
    **WHOLE,
    "steps": 40,
    "expected_batch_size": 512,
    "images": 2000,
    "classifier_steps": 400,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", default=None, help="default glyphs,letters, with --cliff glyphs")
    parser.add_argument("--epsilons", default=None, help="default 1,10, with --cliff 10")
    parser.add_argument("--methods", default=None, help=f"some of {', '.join(METHODS)}")
    parser.add_argument(
        "--ratios", action="store_true", help="saliency at 10..100 %% instead of the methods"
    )
    parser.add_argument(
        "--cliff",
        action="store_true",
        help="saliency at 40, 60, 80, 100 %%, every clipping, sizes reduced",
    )
    parser.add_argument("--seeds", type=int, default=None, help="default 3, with --cliff 1")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--batch", type=int, default=None, help="expected batch size")
    parser.add_argument("--units", type=int, default=None, help="private digits")
    parser.add_argument("--rank", type=int, default=None, help="of every method that has one")
    parser.add_argument(
        "--clipping",
        default=None,
        help=f"some of {', '.join(CLIPPINGS)} (default flat, with --cliff all)",
    )
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument(
        "--reduced", action="store_true", help="the sizes of --cliff: a third of the gradients"
    )
    parser.add_argument(
        "--out", type=Path, help="append to this file, and skip the rows that it holds"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute on tiny sizes: does everything run?"
    )
    parser.add_argument(
        "--draw", type=Path, default=None, help="lines of --ratios or --cliff to draw into -o"
    )
    parser.add_argument("-o", type=Path, default=Path("ratios.svg"))
    parser.add_argument("--child", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        return child(**json.loads(args.child))
    if args.draw is not None:
        return draw_ratios(args.draw, args.o)
    sizes = QUICK if args.quick else REDUCED if args.cliff or args.reduced else WHOLE
    own = {"steps": args.steps, "expected_batch_size": args.batch, "private": args.units}
    sizes = sizes | {name: value for name, value in own.items() if value}
    table = CLIFF if args.cliff else RATIOS if args.ratios else METHODS
    if args.rank:
        table = {name: of_rank(how, args.rank) for name, how in table.items()}
    names = args.methods.split(",") if args.methods else list(table)
    bases = (args.bases or ("glyphs" if args.cliff else "glyphs,letters")).split(",")
    epsilons = [float(e) for e in (args.epsilons or ("10" if args.cliff else "1,10")).split(",")]
    seeds = args.seeds or (1 if args.cliff else 3)
    clippings = (
        args.clipping.split(",") if args.clipping else CLIPPINGS if args.cliff else ("flat",)
    )
    if not set(clippings) <= set(CLIPPINGS):
        parser.error(f"--clipping takes some of {', '.join(CLIPPINGS)}")
    if args.quick:
        bases, epsilons, seeds = bases[:1], epsilons[:1], 1
    judge, known = Judge(sizes), lines(args.out) if args.out else []
    # seeds outermost: a run that is stopped early leaves whole tables
    for seed, base, epsilon, clipping, name in product(
        range(seeds), bases, epsilons, clippings, names
    ):
        row = {"base": base, "epsilon": epsilon, "seed": seed, "clipping": clipping}
        asked = {**row, "method": name, "learning_rate": args.learning_rate, "sizes": sizes}
        asked |= {"rank": args.rank} if args.rank else {}
        if any(asked.items() <= line.items() for line in known):
            continue
        row = asked | judge.measure(
            {**row, **table[name], "sizes": sizes, "learning_rate": args.learning_rate}
        )
        print(json.dumps(row), flush=True)
        if args.out:
            append(args.out, row)


def of_rank(how: dict, rank: int) -> dict:
    """A method's options with another rank, where it has one."""
    options = how.get("method_options", {})
    return how | {"method_options": options | {"rank": rank}} if "rank" in options else how


class Judge:
    """Evaluates pictures of every run with the same test digits and the same features."""

    def __init__(self, sizes: dict):
        from sfumato.evaluation import classifier_features, train_classifier
        from sfumato.records import bundled_digits

        self.sizes, self.resolution = sizes, 32
        real, test = bundled_digits("train"), bundled_digits("test")
        some = np.arange(sizes["private"])
        self.test, self.labels = (
            test.images(np.arange(sizes["test"]), 32),
            test.labels[: sizes["test"]],
        )
        network = train_classifier(
            "cnn",
            real.images(some, 32),
            real.labels[some],
            10,
            seed=0,
            steps=sizes["classifier_steps"],
        )
        self.extractor = classifier_features(network, "cnn-on-real")

    def measure(self, asked: dict) -> dict:
        from sfumato.evaluation import train_classifier
        from sfumato.evaluation.distances import frechet_distance
        from sfumato.verbs.real_images import images_of

        with tempfile.TemporaryDirectory() as folder:
            words = json.dumps({**asked, "folder": folder})
            done = subprocess.run(
                [sys.executable, __file__, "--child", words],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            facts = json.loads(done.stdout.splitlines()[-1])
            images, labels = images_of(
                Path(folder) / "release", tuple("0123456789"), self.resolution, "train"
            )
        network = train_classifier(
            "cnn", images, labels, 10, seed=asked["seed"], steps=self.sizes["classifier_steps"]
        )
        count = min(len(images), len(self.test))
        features = self.extractor(self.test[:count]), self.extractor(images[:count])
        return {
            **facts,
            "accuracy": round(100 * network.accuracy(self.test, self.labels), 2),
            "frechet": round(frechet_distance(*features), 3),
            "features": self.extractor.name,
        }


def child(
    *, folder, base, epsilon, seed, clipping, method, sizes, learning_rate, method_options=None
) -> None:
    """One private run in a process of its own; the last line on stdout is one JSON object."""
    from sfumato import verbs
    from sfumato.options import Recipe, Sampling
    from sfumato.records import bundled_digits
    from sfumato.verbs.demo import demo_prompts

    started, options = time.process_time(), method_options or {}
    extra = {}
    if "public" in (options.get("choose"), options.get("adapter_init")):
        extra["public_data"] = base_pictures(base, sizes["public"])
    run = verbs.adapt(
        first(bundled_digits("train"), sizes["private"]),
        anyway=True,
        yes_public=True,
        output=Path(folder) / "run",
        # public digits: the user's own ledger is not for them
        ledger=Path(folder) / "ledger.sqlite",
        epsilon=epsilon,
        delta=1e-5,
        base=base,
        method=method,
        **options,
        steps=sizes["steps"],
        expected_batch_size=sizes["expected_batch_size"],
        clipping=clipping,
        recipe=Recipe(**({"learning_rate": learning_rate} if learning_rate else {})),
        seed=seed,
        **demo_prompts(base),
        **extra,
    )
    minutes = (time.process_time() - started) / 60
    peak = peak_mb()
    verbs.synthesize(
        run, sizes["images"], Path(folder) / "release", sampling=Sampling(steps=8, seed=seed)
    )
    print(json.dumps({**plan_facts(run), "cpu_minutes": round(minutes, 2), "peak_mb": peak}))


def plan_facts(run) -> dict:
    """What a finished run has trained and spent, and what its probe took and chose, if it
    had one.
    """
    selection, probe = run.selection, run.plan.probe
    facts = {
        "trainable": (selection or {}).get("trainable", run.plan.trainable),
        "sigma": run.plan.noise_multiplier,
        "spent": run.plan.epsilon,
        "steps": run.plan.steps,
        "batch": run.plan.expected_batch_size,
        "clip_groups": run.plan.clip_groups,
        "rate": run.plan.learning_rate,
    }
    if probe is not None:
        facts |= {"probe_sigma": probe.noise_multiplier, "sigma_without": probe.noise_before}
    if selection is not None:
        facts |= {
            "kept": len(selection["selected"]),
            "of": len(selection["groups"]),
            "selected": selection["selected"],
        }
    return facts


def first(records, n: int):
    """The first `n` records of a data set that is one array; all of them if there are no more."""
    from dataclasses import replace

    from sfumato.records import Facts

    parts = {name: getattr(records, name)[:n] for name in ("labels", "unit", "usable", "array")}
    return replace(records, **parts, facts=Facts())


def base_pictures(base: str, n: int):
    """Pictures that the public base draws of its own words: public, and near what it will be asked
    for.
    """
    from sfumato.bases import load_base
    from sfumato.options import Sampling
    from sfumato.records import RecordSet
    from sfumato.verbs.demo import demo_prompts
    from sfumato.verbs.row_images import draw

    words = demo_prompts(base)
    known = words.get("init", {})
    texts = [
        text.replace("{class}", known.get(name, name)) for name, text in words["prompt"].items()
    ]
    images, labels = draw(load_base(base), texts, n, Sampling(steps=8, seed=1))
    names = list(dict.fromkeys(texts))  # two digits may start from the same letter
    labels = np.array([names.index(texts[i]) for i in labels])
    return RecordSet(
        base, "drawn", tuple(names), labels, np.arange(n), None, np.ones(n, bool), array=images
    )


def draw_ratios(lines: Path, out: Path) -> None:
    """Accuracy and Frechet distance against the share of matrices that trains, one curve per base
    and epsilon.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for axis, value in zip(axes, ("accuracy", "frechet")):
        curves = [(r["base"], r["epsilon"], r["clipping"], r["rate"]) for r in rows]
        for key in dict.fromkeys(curves):
            own = [r for r, curve in zip(rows, curves) if curve == key]
            shares = sorted({r["kept"] / r["of"] for r in own})
            means = [
                np.mean([r[value] for r in own if r["kept"] / r["of"] == share]) for share in shares
            ]
            axis.plot(
                [100 * s for s in shares],
                means,
                marker="o",
                label="{}, epsilon {:g}, {}, rate {}".format(*key),
            )
        axis.set(xlabel="matrices that train, %", ylabel=value)
    axes[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main()
