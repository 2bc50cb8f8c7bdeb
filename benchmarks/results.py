"""The protocol on a public data set used as if it were private: `python benchmarks/results.py
[--quick] [options]`.

Adapt, synthesize, release; then train classifiers on the pictures alone, choose their checkpoints
on pictures held out of the same, and ask each once about the real test set. One JSON line per
(base, epsilon, method, run), printed and appended to --out, which keeps what it has: a line with
the same settings is not measured again.

    # MNIST, glyphs, epsilon 1
    python benchmarks/results.py --out benchmarks/results/protocol.jsonl
    python benchmarks/results.py --base glyphs,letters --epsilon 0.2,1,10 --out protocol.jsonl
    python benchmarks/results.py --data fashion-mnist --base icons --epsilon 1,10 --out
    protocol.jsonl
    # sets that the base has not seen, read from their packages (packed_sets.py)
    python benchmarks/results.py --data animals --base things,icons --epsilon 8 --out unseen.jsonl
    # the same run, judged more
    python benchmarks/results.py --rows synthetic,real --classifiers wrn

Rows: `synthetic` (the release alone), `synthetic+public` (as many public pictures mixed in),
`public_only` (those alone), `non_private` (drawn from the same base, recipe and passes without
clipping and noise), `reconstructed` (the private pictures through the base's autoencoder) and
`real` (the private pictures themselves). Public pictures are drawn by the base as it came, unless
--public names others. --judge-on train asks about the first --test private pictures instead, for a
search. Run folders, releases, pictures and every classifier's score
stay under --work and are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from measure import clock, machine, prepare_process, say
from methods import METHODS, first
from packed_sets import FILES as PACKED
from rows import append, lines
from stages import short, stage

# Those that look at public pictures first have a program of their own: methods.py.
KNOWN = {
    name: how
    for name, how in METHODS.items()
    if "public" not in how.get("method_options", {}).values()
}
ROWS = ("synthetic", "synthetic+public", "public_only", "non_private", "reconstructed", "real")
OF_PRIVATE = ("reconstructed", "real")  # rows whose pictures are the private ones
PUBLIC_WORDS = ("prompt", "init", "embedder")
OPTIONS = frozenset(
    (*PUBLIC_WORDS, "method_options", "clip_norm", "clipping", "histogram", "retry_fraction")
)
LEARNERS = ("logistic", "cnn", "resnet", "wrn")
WHOLE = {"private": 60_000, "test": 10_000, "images": 60_000, "seeds": 3}
QUICK = {
    "private": 512,
    "test": 200,
    "images": 40,
    "seeds": 1,
    "steps": 2,
    "batch": 32,
    "classifier_steps": 10,
}
TUNING = (
    "A public data set, used as if it were private: this measures, it protects nobody. The defaults"
    " were looked at with MNIST while sfumato was written; that search is not covered."
)


def main() -> None:
    args = arguments()
    prepare_process(args.threads)
    from sfumato.errors import SfumatoError

    try:
        every(args)
    except SfumatoError as error:
        say(f"results.py: {error}")
        sys.exit(error.exit_code)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    some = lambda text: text.split(",")  # noqa: E731
    parser.add_argument(
        "--data",
        choices=("mnist", "fashion-mnist", "font-digits", *PACKED),
        default="mnist",
    )
    parser.add_argument(
        "--base", type=some, default=["glyphs"], help="bundled bases or folders (default: glyphs)"
    )
    parser.add_argument(
        "--words", help="the bundled base whose words --base knows (default: --base itself)"
    )
    parser.add_argument(
        "--epsilon", type=lambda text: [float(e) for e in text.split(",")], default=[1.0]
    )
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument(
        "--method", type=some, default=["attention"], help=f"some of {', '.join(KNOWN)}"
    )
    parser.add_argument(
        "--runs", type=int, default=1, help="adaptations of each, each with noise of its own"
    )
    parser.add_argument(
        "--steps", type=int, help="of adapting; batch, draws and this are the plan's own by default"
    )
    parser.add_argument("--batch", type=int, help="expected batch size")
    parser.add_argument("--draws", type=int, help="noise draws K of a record")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument(
        "--recipe",
        type=json.loads,
        default={},
        help='more of training, as JSON: {"ema_decay": 0.95}',
    )
    parser.add_argument(
        "--options", type=json.loads, default={}, help='more of adapt, as JSON: {"clip_norm": 0.1}'
    )
    parser.add_argument(
        "--tuning", default=TUNING, help="what the certificate says of how settings were chosen"
    )
    parser.add_argument("--images", type=int, help="synthetic pictures (default: 60,000)")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--sampler-steps", type=int, default=10)
    parser.add_argument(
        "--class-moments",
        type=int,
        default=0,
        help="as of `synthesize`, of runs with class moments (default: 0)",
    )
    parser.add_argument(
        "--control-steps",
        type=int,
        default=0,
        help="of the row non_private (default: those of the run)",
    )
    parser.add_argument(
        "--rows", type=some, default=list(ROWS[:3]), help=f"some of {', '.join(ROWS)}"
    )
    parser.add_argument(
        "--public",
        type=Path,
        help="public pictures: class folders 0 to 9, idx, npz, or a glyphs.npz",
    )
    parser.add_argument(
        "--classifiers", type=some, default=["cnn", "resnet", "wrn"], help=", ".join(LEARNERS)
    )
    parser.add_argument(
        "--classifier-steps", type=int, help="of every classifier (default: each one's own)"
    )
    parser.add_argument("--seeds", type=int, help="of every classifier, from 0 (default: 3)")
    parser.add_argument(
        "--private", type=int, help="private records, the first of the set (default: all)"
    )
    parser.add_argument(
        "--test", type=int, help="test records, the first of the set (default: all)"
    )
    parser.add_argument(
        "--judge-on",
        choices=("test", "train"),
        default="test",
        help="train: a search that leaves the test set unseen",
    )
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's four idx files")
    parser.add_argument(
        "--fonts", type=Path, help="glyphs.npz of the recipes, for --data font-digits"
    )
    parser.add_argument(
        "--packages",
        type=Path,
        default=Path("build/packages"),
        help="folder of the three packages that packed_sets.py names",
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--quick", action="store_true", help="a minute on tiny sizes: does everything run?"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/results"), help="what is used again (PRIVATE)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="file of JSON lines to append to; a sample of pictures goes beside it",
    )
    args = parser.parse_args()
    for name, given, known in (
        ("method", args.method, KNOWN),
        ("rows", args.rows, ROWS),
        ("classifiers", args.classifiers, LEARNERS),
    ):
        if not set(given) <= set(known):
            parser.error(f"--{name} takes some of {', '.join(known)}")
    if args.judge_on == "train" and (own := set(OF_PRIVATE) & set(args.rows)):
        parser.error(
            f"--judge-on train asks about pictures that the rows {', '.join(sorted(own))} are"
            " trained on: choose other --rows"
        )
    for name, value in (WHOLE | QUICK if args.quick else WHOLE).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def every(args: argparse.Namespace) -> None:
    """Measure what --out does not hold yet."""
    from private_sets import FASHION, GLYPHS, digest, read

    sources = {"font-digits": args.fonts or Path(GLYPHS), "fashion-mnist": args.fashion or FASHION}
    args.source = sources.get(args.data, args.packages)
    private, test = (read(args.data, split, args.source) for split in ("train", "test"))
    data = {"data": args.data, "data_sha256": digest(private, test)}
    private, test = (
        first(private, args.private),
        first(private if args.judge_on == "train" else test, args.test),
    )
    done = lines(args.out) if args.out else []
    for run, base, epsilon, method in product(
        range(args.runs), args.base, args.epsilon, args.method
    ):
        parts = [
            data | adaptation(args, base, epsilon, method, run, private.n),
            synthesis(args),
            judging(args, test.n),
        ]
        settings = json.loads(
            json.dumps({name: value for part in parts for name, value in part.items()})
        )
        if any(line["settings"] == settings for line in done):
            say(
                f"{args.out} holds {base}, epsilon {epsilon:g}, {method}, run {run} with these"
                " settings already"
            )
            continue
        row = {"settings": settings, **measure(args, *parts, private, test), **machine()}
        print(json.dumps(row), flush=True)
        if args.out:
            append(args.out, row)


def adaptation(
    args: argparse.Namespace, base: str, epsilon: float, method: str, run: int, n: int
) -> dict:
    """Every setting of adapting, the defaults by their values: a default that changes makes another
    row.
    """
    from dataclasses import asdict, fields

    from sfumato.bases import load_base
    from sfumato.errors import SfumatoError
    from sfumato.methods import METHODS as KINDS
    from sfumato.options import Recipe
    from sfumato.planning.prepare import default_ema_decay, default_schedule

    for option, given, known in (
        ("recipe", args.recipe, {field.name for field in fields(Recipe)}),
        ("options", args.options, OPTIONS),
    ):
        if not isinstance(given, dict) or not known.issuperset(given):
            raise SfumatoError(
                f"--{option} takes a JSON object with some of {', '.join(sorted(known))}"
            )
    said = {"expected_batch_size": args.batch, "steps": args.steps, "noise_draws": args.draws}
    schedule = default_schedule(n, epsilon) | {
        name: value for name, value in said.items() if value is not None
    }
    rate = (
        args.learning_rate
        or args.recipe.get("learning_rate")
        or KINDS[KNOWN[method]["method"]].learning_rate
    )
    decay = args.recipe.get("ema_decay")
    decay = default_ema_decay(schedule["steps"]) if decay is None else decay
    return {
        "private": n,
        "base": base,
        "base_digest": load_base(base).digest,
        "words": args.words or Path(base).name,
        "epsilon": epsilon,
        "delta": args.delta,
        "method_name": method,
        "method_options": {},
        **KNOWN[method],
        **schedule,
        "recipe": asdict(Recipe(**args.recipe | {"learning_rate": rate, "ema_decay": decay})),
        "options": args.options,
        "tuning": args.tuning,
        "run": run,
    }


def synthesis(args: argparse.Namespace) -> dict:
    from sfumato.options import Sampling

    sampling = Sampling(steps=args.sampler_steps, guidance_scale=args.guidance)
    return {
        "images": args.images,
        "scheduler": sampling.scheduler,
        "sampler_steps": sampling.steps,
        "guidance": sampling.guidance_scale,
        "public_seed": sampling.seed,
        # lines of before have no such setting
        **({"class_moments": args.class_moments} if args.class_moments else {}),
    }


def judging(args: argparse.Namespace, n: int) -> dict:
    from sfumato.evaluation.classifiers import STEPS

    return {
        "rows": args.rows,
        "public": args.public and args.public.name,
        "classifiers": {name: args.classifier_steps or STEPS[name] for name in args.classifiers},
        "seeds": list(range(args.seeds)),
        "test": n if args.judge_on == "test" else f"{n} of train",
        **({"control_steps": args.control_steps} if args.control_steps else {}),
    }


def measure(
    args: argparse.Namespace, adapting: dict, drawing: dict, judged: dict, private, test
) -> dict:
    """One run through all stages, each taken from --work where it was done before."""
    from sfumato.bases import load_base
    from sfumato.verbs.real_images import images_of
    from sfumato.verbs.row_images import reconstructed

    base = load_base(adapting["base"])
    resolution = base.resolution
    name = f"{adapting['data']}-{Path(adapting['base']).name}-epsilon-{adapting['epsilon']:g}"
    folder = args.work.resolve() / f"{name}-{adapting['method_name']}-{short(adapting)}"
    made, shown = folder / f"images-{short(drawing)}", None
    plain = {name: value for name, value in drawing.items() if name != "class_moments"}
    without = plain | ({"steps": args.control_steps} if args.control_steps else {})
    control = folder / f"control-{short(without)}"
    stages = {
        "adapt": stage("adapt", folder, adapting | {"source": str(args.source.resolve())}),
        "synthesize": stage("synthesize", made, drawing | {"run": str(folder / "run")}),
    }
    if {"synthetic+public", "public_only"} & set(judged["rows"]):
        of_base = {name: adapting[name] for name in ("data", "data_sha256", "base_digest", "words")}
        of_base |= {
            name: adapting["options"][name] for name in PUBLIC_WORDS if name in adapting["options"]
        }
        wanted = (
            of_base
            | plain
            | {
                "public": args.public and str(args.public.resolve()),
                "resolution": resolution,
            }
        )
        shown = args.work.resolve() / f"public-{short(wanted)}"
        stages["public"] = stage("public", shown, wanted | {"run": str(folder / "run")})
    if "non_private" in judged["rows"]:
        stages["control"] = stage("control", control, without | {"run": str(folder / "run")})
    held_out = test.images(np.arange(test.n), resolution), test.labels
    classes = len(private.classes)
    own = images_of(made / "release", private.classes, resolution, "train")

    def pictures(row: str) -> tuple[np.ndarray, np.ndarray]:
        if row == "synthetic":
            return own
        if row in OF_PRIVATE:
            images = private.images(np.arange(private.n), resolution)
            return images if row == "real" else reconstructed(base, images), private.labels
        if row == "non_private":
            drawn = np.load(control / "pictures.npz")
            return drawn["images"], drawn["labels"]
        public = np.load(shown / "pictures.npz")
        if row == "public_only":
            return public["images"], public["labels"]
        return np.concatenate([own[0], public["images"]]), np.concatenate(
            [own[1], public["labels"]]
        )

    of_data, scores = (
        {name: adapting[name] for name in ("data_sha256", "private")} | {"resolution": resolution},
        [],
    )
    of_base = of_data | {"base_digest": adapting["base_digest"]}
    places = {
        "public_only": shown,
        "non_private": control,
        "reconstructed": args.work.resolve() / f"reconstructed-{short(of_base)}",
        "real": args.work.resolve() / f"real-{short(of_data)}",
    }
    for row in judged["rows"]:
        place = places.get(row, made)
        key = {
            "row": row,
            "public": shown.name if "public" in row else None,
            "test": judged["test"],
        }
        scores += score(place, key, lambda row=row: pictures(row), held_out, judged, classes)
    picture = args.out and args.out.with_name(f"{args.out.stem}-{folder.name}-{short(drawing)}.png")
    if picture:
        sample(picture, *own, classes)
    spent = {
        name: {n: facts.pop(n) for n in ("seconds", "cpu_seconds", "peak_mb")}
        for name, facts in stages.items()
    }
    for row in judged["rows"]:
        used = [line for line in scores if line["row"] == row]
        spent[row] = {
            n: round(sum(line[n] for line in used), 1) for n in ("seconds", "cpu_seconds")
        }
    return {
        **stages["adapt"],
        **stages["synthesize"],
        "sample": picture and picture.name,
        "public": stages.get("public"),
        "pictures": {line["row"]: line["pictures"] for line in scores},
        "stages": spent,
        **summary(scores, judged),
    }


def score(
    place: Path, key: dict, load: Callable, held_out: tuple, judged: dict, classes: int
) -> Iterator[dict]:
    """A line per classifier and seed, trained on `load()`; kept in `place`, where an earlier one is
    found again.
    """
    from sfumato.evaluation import utility

    known, loaded = lines(place / "scores.jsonl"), None
    for (name, steps), seed in product(judged["classifiers"].items(), judged["seeds"]):
        wanted = key | {"classifier": name, "seed": seed, "steps": steps}
        line = next((line for line in known if wanted.items() <= line.items()), None)
        if line is None:
            say(f"{key['row']}: {name}, seed {seed}")
            loaded = loaded or load()
            how = {"classifiers": (name,), "seeds": (seed,), "steps": steps}
            (found,), cpu, wall = clock(partial(utility, *loaded, *held_out, classes, **how))
            line = wanted | {
                "accuracy": round(100 * found.accuracies[0], 2),
                "on_held_out_pictures": round(100 * found.held_out[0], 2),
                "pictures": found.n_train,
                "seconds": round(wall, 1),
                "cpu_seconds": round(cpu, 1),
            }
            append(place / "scores.jsonl", line)
        yield line


def summary(scores: list[dict], judged: dict) -> dict:
    """accuracy: row -> classifier -> one per seed; mean, deviation: row -> classifier (and "all":
    the mean of them).
    """
    accuracy, means, deviations = {}, {}, {}
    for row in judged["rows"]:
        own = [line for line in scores if line["row"] == row]
        each = {
            name: [s["accuracy"] for s in own if s["classifier"] == name]
            for name in judged["classifiers"]
        }
        accuracy[row] = each
        means[row] = {name: round(mean(values), 2) for name, values in each.items()}
        means[row]["all"] = round(mean(value for values in each.values() for value in values), 2)
        deviations[row] = {
            name: round(stdev(v), 2) if len(v) > 1 else None for name, v in each.items()
        }
    return {"accuracy": accuracy, "mean": means, "deviation": deviations}


def sample(
    file: Path, images: np.ndarray, labels: np.ndarray, classes: int, columns: int = 10
) -> None:
    """The first pictures of every class, a row per class, as one PNG: the pictures are released, so
    may this be.
    """
    from PIL import Image

    rows = [images[labels == label][:columns] for label in range(classes)]
    grid = np.zeros((classes, columns, *images.shape[1:]), np.uint8)
    for place, found in zip(grid, rows):
        place[: len(found)] = found
    side = images.shape[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.transpose(0, 2, 1, 3, 4).reshape(classes * side, columns * side, 3)).save(
        file, optimize=True
    )


if __name__ == "__main__":
    main()
