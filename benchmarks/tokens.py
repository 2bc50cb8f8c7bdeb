"""A labelled data set from one private token a class: 500 digits on the `letters` base, which never
saw a digit, beside every control.

    # a minute or two on tiny sizes: shows that it runs
    python benchmarks/tokens.py --quick --json
    python benchmarks/tokens.py --out benchmarks/results/tokens.jsonl
    python benchmarks/tokens.py --dimensions 16 --out benchmarks/results/tokens.jsonl

Each row: pictures drawn with the row's tokens, a small CNN trained on them and asked once about the
10,000 real test digits. Every token starts from the letter that looks most like its digit, which is
also all that "public anchor alone" knows. The test digits choose nothing. MNIST is public: the
exact rows may be shown here, where a user's would be PRIVATE.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import measure

sys.path.insert(0, str(Path(__file__).parent))
EXACT = {
    "public_only": "public anchor alone",
    "one_image": "one image a class",
    "non_private": "non-private mean",
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--n",
        type=int,
        default=500,
        help="private digits: the first of the bundled training digits",
    )
    parser.add_argument("--epsilon", default="1,10", help="comma separated")
    parser.add_argument("--images", type=int, default=2000, help="synthesized per row")
    parser.add_argument(
        "--dimensions",
        type=int,
        help="axes of the vocabulary for one token (default: all of the base's 64)",
    )
    parser.add_argument(
        "--num-vectors", type=int, default=1, help="vectors of one token of the inversion"
    )
    parser.add_argument(
        "--radius",
        type=float,
        help="how far an embedding may lie from its start, which is the clip norm",
    )
    parser.add_argument("--steps", type=int, default=60, help="of DP-SGD")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of DP-SGD on embeddings")
    parser.add_argument(
        "--lora",
        action="store_true",
        help="DP-LoRA with class tokens as one more row for each epsilon",
    )
    parser.add_argument(
        "--no-dp-sgd", action="store_true", help="leave DP-SGD on one embedding a class out"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="whole repetitions, each with keys of its own"
    )
    parser.add_argument("--base", default="letters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="few digits, steps and pictures: shows that it runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line per row on stdout")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    said = parser.parse_args(given)
    if said.quick:
        said.n, said.images, said.steps, said.epsilon, said.seeds = (
            40,
            40,
            2,
            said.epsilon.split(",")[0],
            1,
        )
    return said


def main() -> None:
    said = arguments()
    measure.prepare_process(said.threads)
    rows = []
    for row in measured(said):
        row = {
            "base": said.base,
            "quick": said.quick,
            "threads": said.threads,
            "commit": measure.commit(),
            **row,
        }
        rows.append(row)
        print(
            json.dumps(row) if said.json else "  ".join(f"{k} {v}" for k, v in row.items()),
            flush=True,
        )
    if said.out:
        said.out.parent.mkdir(parents=True, exist_ok=True)
        with open(said.out, "a", encoding="utf-8") as table:
            table.writelines(json.dumps(row) + "\n" for row in rows)


def measured(said) -> Iterator[dict]:
    """Rows of facts; the rows that no epsilon changes come once a seed."""
    from methods import first

    from sfumato import verbs
    from sfumato.bases import load_base
    from sfumato.methods.inversion.cost import expectation
    from sfumato.options import Recipe
    from sfumato.records import bundled_digits
    from sfumato.runs.prepared import public_side
    from sfumato.verbs import row_images
    from sfumato.verbs.cosines import token_cosines
    from sfumato.verbs.facts import adapted_base

    private, judge = first(bundled_digits("train"), said.n), Judge(said)
    steady = {"steps": said.steps, "expected_batch_size": said.n}
    chosen = {name: getattr(said, name) for name in ("dimensions", "num_vectors", "radius")}
    for seed in range(said.seeds):
        pictures = private.images(range(private.n), load_base(said.base).resolution)
        yield {"row": "the private digits themselves", "n": said.n, "seed": seed} | judge(
            pictures, private.labels, seed
        )
        for number, epsilon in enumerate(float(e) for e in said.epsilon.split(",")):
            facts = {"n": said.n, "seed": seed, "epsilon": epsilon, **chosen}
            with tempfile.TemporaryDirectory() as folder:

                def adapted(name: str, folder=folder, epsilon=epsilon, seed=seed, **options):
                    """(run, CPU minutes), with a ledger of its own: public digits are no matter for
                    the user's.
                    """
                    place, started = Path(folder) / name, time.process_time()
                    run = verbs.adapt(
                        private,
                        anyway=True,
                        yes_public=True,
                        output=place / "run",
                        ledger=place / "ledger.sqlite",
                        epsilon=epsilon,
                        delta=1e-5,
                        base=said.base,
                        seed=seed,
                        **words(said.base),
                        **options,
                    )
                    return run, round((time.process_time() - started) / 60, 2)

                def drawn(run, base, seed=seed):
                    return judge(
                        *row_images.draw(base, run.plan.prompts, said.images, judge.sampling(seed)),
                        seed,
                    )

                given = {name: value for name, value in chosen.items() if value is not None}
                given |= {"inversion_steps": 2, "inversion_draws": 1} if said.quick else {}
                run, minutes = adapted("inversion", method="inversion", **given, controls=True)
                others = {}
                if number == 0:
                    for row, name in EXACT.items():
                        yield {"row": name, **facts, "epsilon": None} | drawn(
                            run, row_images.control_base(run, row)
                        )
                if not said.no_dp_sgd:
                    rate = Recipe(learning_rate=said.learning_rate)
                    others["DP-SGD on one embedding"] = adapted(
                        "embedding",
                        method="embedding",
                        recipe=rate,
                        noise_draws=1 if said.quick else 4,
                        **steady,
                    )
                if said.lora:
                    others["DP-LoRA"] = adapted("lora", method="lora", rank=4, **steady)
                cosines = token_cosines(run, {name: other for name, (other, _) in others.items()})
                hope, sigma = expectation(public_side(run)).cosine, run.plan.noise_multiplier
                facts |= {"spent": run.plan.epsilon}
                more = {"sigma": sigma, "cosine": cosines["noise_only"]}
                yield {"row": "noise only", **facts, **more} | drawn(
                    run, row_images.control_base(run, "noise_only")
                )
                more = {
                    "sigma": sigma,
                    "cosine": cosines["synthetic"],
                    "expected_cosine": hope,
                    "cpu_minutes": minutes,
                }
                yield {"row": "inversion", **facts, **more} | drawn(run, adapted_base(run))
                for name, (other, minutes) in others.items():
                    more = {
                        "sigma": other.plan.noise_multiplier,
                        "cosine": cosines.get(name),
                        "cpu_minutes": minutes,
                    }
                    yield {"row": name, **facts, **more} | drawn(other, adapted_base(other))


class Judge:
    """Pictures and labels -> accuracy in percent on the real test digits, of the CNN that `sfumato
    demo` uses.
    """

    def __init__(self, said) -> None:
        from sfumato.bases import load_base
        from sfumato.records import bundled_digits
        from sfumato.verbs.demo import CLASSIFIER_STEPS

        test, number = bundled_digits("test"), 200 if said.quick else 10_000
        self.images = test.images(range(number), load_base(said.base).resolution)
        self.labels, self.steps = test.labels[:number], 10 if said.quick else CLASSIFIER_STEPS
        self.sampler_steps = 2 if said.quick else 8

    def __call__(self, images, labels, seed: int) -> dict:
        from sfumato.evaluation import train_classifier

        network = train_classifier("cnn", images, labels, 10, seed=seed, steps=self.steps)
        return {
            "images": len(images),
            "accuracy": round(100 * network.accuracy(self.images, self.labels), 2),
        }

    def sampling(self, seed: int):
        from sfumato.options import Sampling

        return Sampling(steps=self.sampler_steps, seed=seed)


def words(base: str) -> dict:
    """Prompts with a place for the token, and the public letters or words that tokens start
    from.
    """
    from sfumato.verbs.demo import DIGIT_NAMES, demo_prompts

    if base == "letters":
        return demo_prompts(base)
    return {"prompt": "a {class}", "init": {str(i): name for i, name in enumerate(DIGIT_NAMES)}}


if __name__ == "__main__":
    main()
