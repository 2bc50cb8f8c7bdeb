"""Style fidelity of a released token against every control, and the picture: the same prompts in
each row.

    python benchmarks/styles.py --quick --json python benchmarks/styles.py --n 50,150,400 --epsilon
    0.5,1,5,10 --out benchmarks/results/styles.jsonl --picture benchmarks/results/styles.png

A classifier is trained on the public styles and on a part of the private pack that takes no other
part; scored on generated pictures are its share of "the private style" and the kernel distance of
its features to held-out private pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import measure

# private pictures for the classifier, as many to compare with, and as many for the row `real`
HELD_OUT = 99


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", default="150", help="private pictures, comma separated")
    parser.add_argument("--epsilon", default="1", help="comma separated")
    parser.add_argument(
        "--quick", action="store_true", help="few images and steps: shows that it runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line per row on stdout")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    parser.add_argument("--picture", type=Path, help="write the rows' pictures here")
    parser.add_argument("--base", default="icons")
    parser.add_argument("--pack", default="healthicons", help="private pack of packs.py")
    parser.add_argument("--prompt", default="icon, <artwork> style")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=300, help="generated per row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--no-dp-sgd", action="store_true", help="leave the ordinary loop's baseline out"
    )
    parser.add_argument(
        "--dp-sgd-epsilon", help="epsilons of that baseline, comma separated (default: all)"
    )
    parser.add_argument(
        "--embeddings", type=Path, help="keep embeddings here, and use them again (same commit)"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("build/recipes/packages"), help="where packages are kept"
    )
    return parser.parse_args()


def main() -> None:
    said = arguments()
    measure.prepare_process(said.threads)
    from sfumato.bases import load_base

    base, judge = load_base(said.base), Judge(said)
    pictures, known = judge.private, judge.known(base)
    rows, strips = [], []

    def score(name: str, drawn, **facts) -> None:
        row = {
            "row": name,
            "base": said.base,
            "pack": said.pack,
            "quick": said.quick,
            **facts,
            **judge(drawn),
        }
        rows.append(row)
        strips.append(
            (
                " ".join([name, *(f"{k}={v}" for k, v in facts.items() if k in ("n", "epsilon"))]),
                drawn[:5],
            )
        )
        print(
            json.dumps(row) if said.json else "  ".join(f"{k} {v}" for k, v in row.items()),
            flush=True,
        )

    score("real, held out", pictures[-3 * HELD_OUT : -2 * HELD_OUT])
    sizes = [20] if said.quick else [int(n) for n in said.n.split(",")]
    most = min(max(sizes), len(pictures) - 3 * HELD_OUT)
    made = Embedded(said, base, pictures[:most], judge.public, judge.kinds_of)
    for n in sizes:
        for name, token, facts in tokens(said, made, min(n, most)):
            score(name, draw(said, token, known), n=min(n, most), **facts)
    if said.out:
        with open(said.out, "a", encoding="utf-8") as table:
            table.writelines(json.dumps(row) + "\n" for row in rows)
    if said.picture:
        sheet(strips, said.picture)


class Judge:
    """How much pictures look like the private pack, by a classifier of styles and private pictures
    that take no other part.
    """

    def __init__(self, said):
        import numpy as np
        from packs import private_pack, public_packs

        from sfumato.evaluation.classifiers import train_classifier

        self.private, self.subjects = private_pack(said.pack, said.cache)
        self.public, self.kinds_of, kinds = public_packs(said.cache, 20 if said.quick else 150)
        # one style among many, and the one that is asked about
        own = np.repeat(self.private[-HELD_OUT:], 3, axis=0)
        self.wanted = len(kinds)
        self.classifier = train_classifier(
            "cnn",
            np.concatenate([self.public, own]),
            np.concatenate([self.kinds_of, np.full(len(own), self.wanted)]),
            self.wanted + 1,
            steps=30 if said.quick else None,
        )
        self.real = features(self.classifier, self.private[-2 * HELD_OUT : -HELD_OUT])

    def known(self, base) -> list[str]:
        """Subjects of held-out private pictures that the base has words for."""

        return [
            s
            for s in self.subjects[-3 * HELD_OUT :]
            if not base.unknown_words([s]) and len(s.split()) <= 2
        ]

    def __call__(self, drawn) -> dict:
        from sfumato.evaluation.distances import kernel_distance

        return {
            "style_share": float((self.classifier.predict(drawn) == self.wanted).mean()),
            "kernel_distance": (
                kernel_distance(self.real, features(self.classifier, drawn), blocks=1).mean
            ),
        }


def features(classifier, images):
    """Penultimate activations at length sqrt(d), where the cubic kernel is neither flat nor ruled
    by a few large numbers.
    """
    import numpy as np

    found = classifier.features(images)
    return found * (found.shape[1] ** 0.5 / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9))


class Embedded:
    """Embeddings of the private pictures, and the public axes: no row depends on another, so the
    first n are those of n.
    """

    def __init__(self, said, base, private, public, kinds_of):
        from bench import Bench
        from packs import of_each

        from sfumato.methods.inversion.batch import InversionRecipe
        from sfumato.methods.inversion.geometry import from_public

        self.private, self.bench = private, Bench(said, base)
        recipe = InversionRecipe(steps=10, draws=2) if said.quick else InversionRecipe()
        wide, self.plain = self.bench.whole_space(), self.bench.words()
        few = of_each(kinds_of, 4 if said.quick else 16)
        known = self.bench.embeddings(self.bench.latents(public[few]), wide, recipe)
        self.place = from_public(known, kinds_of[few], 1, 32, 1)
        self.free = self.bench.embeddings(self.bench.latents(private), wide, recipe)


def tokens(said, made: Embedded, n: int):
    """(row, token vector [1, D], facts): every control, then what is released at each epsilon."""
    import numpy as np
    import torch
    from packs import noise_for

    from sfumato.methods.inversion import aggregate
    from sfumato.privacy.mechanisms.mean import Aggregation

    place, free = made.place, made.free[:n]
    label, owned = np.zeros(n, np.int64), [np.array([i]) for i in range(n)]

    def released(at, rule, relation, epsilon, name="sum", nothing=False):
        shrink, sigma = rule == "clip", noise_for(epsilon, n, relation)
        agg = Aggregation(
            rule, 1, at.dimensions, 1, "none" if rule == "unit" else "public", shrink, (float(n),)
        )
        limit = 1.0 if rule == "unit" else at.radius
        total = aggregate.bounded_total(
            agg, limit, aggregate.vector_of(agg, at, free, label), label, owned
        )
        noisy = aggregate.add_noise_once(agg, sigma, total * (not nothing), made.bench.key, 0, name)
        return aggregate.embeddings(agg, at, limit, sigma, noisy)[0]

    as_token = lambda vector: torch.from_numpy(vector).float()[None]  # noqa: E731
    yield "public anchor alone", place.anchor[0][None], {}
    yield "one image", as_token(free[0]), {}
    yield "non-private mean", as_token(free.mean(0)), {}
    for epsilon in (1.0,) if said.quick else map(float, said.epsilon.split(",")):
        facts = {"epsilon": epsilon}
        yield (
            "noise only",
            released(place, "clip", "zero-out", epsilon, "control", nothing=True),
            facts,
        )
        yield "paper", released(made.plain, "unit", "replace-one", epsilon), facts
        yield "ours", released(place, "clip", "zero-out", epsilon), facts
        if not said.no_dp_sgd and epsilon in [
            float(e) for e in (said.dp_sgd_epsilon or said.epsilon).split(",")
        ]:
            yield "DP-SGD on one embedding", dp_sgd(said, made.private[:n], epsilon), facts


def dp_sgd(said, private, epsilon: float):
    """The paper's baseline through `sfumato.adapt --method embedding`, its ledger beside
    its run.
    """
    from PIL import Image
    from safetensors.torch import load_file

    import sfumato
    from sfumato.options import Recipe

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "artwork").mkdir()
        for i, picture in enumerate(private):
            Image.fromarray(picture).save(Path(folder) / "artwork" / f"{i:04d}.png")
        run = sfumato.adapt(
            Path(folder) / "artwork",
            anyway=True,
            yes_public=True,
            output=Path(folder) / "run",
            ledger=Path(folder) / "ledger.sqlite",
            epsilon=epsilon,
            method="embedding",
            base=said.base,
            prompt=said.prompt.replace("<artwork>", "{class}"),
            steps=3 if said.quick else 60,
            expected_batch_size=len(private),
            noise_draws=1 if said.quick else 4,
            recipe=Recipe(learning_rate=1e-3),
        )
        return load_file(run.model / "learned_embeds.safetensors")["<artwork>"]


def draw(said, token, subjects: list[str]):
    """`--images` pictures of known subjects with the token: the base is opened anew, since a
    token's name can be taught once.
    """
    import numpy as np

    from sfumato.bases import load_base, load_embeds, save_embeds
    from sfumato.options import Sampling
    from sfumato.synthesis.sampler import pictures

    base = load_base(said.base)
    with tempfile.TemporaryDirectory() as folder:
        save_embeds(Path(folder), {"<artwork>": token})
        load_embeds(base, Path(folder))
    prompts = [f"icon of a {subject}, <artwork> style" for subject in subjects]
    count = 20 if said.quick else said.images
    labels = np.arange(count) % len(prompts)
    sampling = Sampling(guidance_scale=said.guidance, steps=4 if said.quick else 12)
    return np.concatenate(
        [part for _, part in pictures(base, prompts, labels, np.arange(count), sampling)]
    )


def sheet(strips, path: Path) -> None:
    """One row per token with its name, five pictures of the same prompts and seeds."""
    import numpy as np
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (260 + 5 * 68, 68 * len(strips)), "white")
    pen = ImageDraw.Draw(page)
    for row, (name, drawn) in enumerate(strips):
        pen.text((4, 68 * row + 26), name, fill="black")
        for column, picture in enumerate(np.asarray(drawn)):
            page.paste(
                Image.fromarray(picture).resize((64, 64), Image.Resampling.NEAREST),
                (260 + 68 * column, 68 * row + 2),
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    page.convert("L").quantize(16).save(path, optimize=True)


if __name__ == "__main__":
    main()
