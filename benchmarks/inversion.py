"""DPAgg-TI measured: batched inversion beside one by one, steps against the usual script, and the
released direction at each n.

    python benchmarks/inversion.py --quick --json           # a few minutes; every part, small
    python benchmarks/inversion.py --out benchmarks/results/inversion.jsonl

Private pictures are an icon pack that no base was trained on (`packs.py`); public ones are the
packs that all were.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import measure
from bench import Bench

PARTS = ("throughput", "steps", "cosine", "wall")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="only this part (repeat for several)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few images and steps: shows that it runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line per row on stdout")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    parser.add_argument("--base", default="icons")
    parser.add_argument("--pack", default="healthicons", help="private pack of packs.py")
    parser.add_argument("--prompt", default="icon, <artwork> style")
    parser.add_argument(
        "--n", default="50,150,400", help="private pictures of `cosine`, comma separated"
    )
    parser.add_argument("--epsilon", default="0.5,1,5,10", help="of `cosine`, comma separated")
    parser.add_argument(
        "--inversion-steps", type=int, help="fewer steps than the default, for `cosine`"
    )
    parser.add_argument(
        "--public-each", type=int, default=16, help="public pictures of each style, for `cosine`"
    )
    parser.add_argument(
        "--embeddings", type=Path, help="keep embeddings here, and use them again (same commit)"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="of the pictures of `steps`")
    parser.add_argument("--images", type=int, default=300, help="pictures a row of `steps`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cache", type=Path, default=Path("build/recipes/packages"), help="where packages are kept"
    )
    return parser.parse_args()


def main() -> None:
    said = arguments()
    measure.prepare_process(said.threads)
    rows = []
    for part in said.part or PARTS:
        for row in {"throughput": throughput, "steps": steps, "cosine": cosine, "wall": wall}[part](
            said
        ):
            row = {
                "part": part,
                "base": said.base,
                "pack": said.pack,
                "quick": said.quick,
                "threads": said.threads,
                **row,
            }
            rows.append(row)
            print(
                json.dumps(row) if said.json else "  ".join(f"{k} {v}" for k, v in row.items()),
                flush=True,
            )
    if said.out:
        with open(said.out, "a", encoding="utf-8") as table:
            table.writelines(json.dumps(row) + "\n" for row in rows)


def throughput(said):
    """Images a second, one at a time and many in one pass, alternating in one process; each the
    same steps on the same images.
    """
    import numpy as np

    from sfumato.methods.inversion.batch import Chunk, InversionRecipe, chunks

    bench = Bench(said)
    many = 8 if said.quick else 32
    data = bench.latents(bench.private(many))
    for draws in (1, 4):
        recipe = InversionRecipe(
            steps=4 if said.quick else 12, draws=draws, tolerance=-1.0, check_every=1000
        )
        inverter, seconds = (
            bench.inverter(bench.whole_space(), recipe),
            {
                "alone": [],
                "batched": [],
            },
        )
        layouts = {
            "alone": [Chunk(np.array([i])) for i in range(many)],
            "batched": chunks(np.arange(many), many),
        }
        for parts in layouts.values():
            inverter.with_recipe(replace(recipe, steps=1)).invert(data, parts[0], bench.key)  # warm
        for _ in range(2 if said.quick else 3):
            for name, parts in layouts.items():
                _, cpu, wall = measure.clock(
                    lambda p=parts, i=inverter: [i.invert(data, c, bench.key) for c in p]
                )
                seconds[name].append(wall)
        alone, batched = (
            min(times) / (many * recipe.steps) for times in (seconds["alone"], seconds["batched"])
        )
        yield {
            "draws": draws,
            "rows": many,
            "alone_ms_a_step": 1e3 * alone,
            "batched_ms_a_step": 1e3 * batched,
            "gain": alone / batched,
        }


def steps(said):
    """The usual script, and ours: early stop, stratified draws, a radius, an average.

    Beside the steps: the denoising loss on fresh draws, and the style of pictures drawn with the
    mean embedding (`styles.py`).
    """
    import numpy as np
    import torch
    from styles import Judge, draw

    from sfumato.methods.inversion.batch import Chunk, InversionRecipe

    bench, judge = Bench(said), Judge(said)
    known = judge.known(bench.base)
    n = 4 if said.quick else 16
    data, chunk = bench.latents(bench.private(n)), Chunk(np.arange(n))
    # the usual script knows no radius: learning rate 2e-3 in numbers, four draws a step
    free = bench.whole_space(1e3)
    usual = InversionRecipe(
        draws=4,
        step_size=2e-3 / 1e3,
        tolerance=-1.0,
        check_every=10**6,
        average=0.0,
        stratified=False,
    )
    tried = [
        (f"usual, {t} steps", free, replace(usual, steps=t))
        for t in ((60, 120) if said.quick else (300, 1000, 3000))
    ]
    ours, wide = InversionRecipe(steps=40) if said.quick else InversionRecipe(), bench.whole_space()
    # Ours again without its early stop, to find the steps that are worth the usual script's.
    longer = (
        []
        if said.quick
        else [
            (f"ours, {t} steps", wide, replace(ours, steps=t, tolerance=-1.0)) for t in (160, 600)
        ]
    )
    for name, geometry, recipe in [
        ("start", wide, replace(ours, steps=0)),
        *tried,
        ("ours", wide, ours),
        *longer,
    ]:
        inverter, started = bench.inverter(geometry, recipe), time.perf_counter()
        z, taken = inverter.invert(data, chunk, bench.key)
        seconds = time.perf_counter() - started
        loss = inverter.losses(data, chunk, bench.key, z, 128 if said.quick else 512)
        row = {
            "recipe": name,
            "loss": float(loss.mean()),
            "steps_mean": float(taken.mean()),
            "steps_most": int(taken.max()),
        }
        mean = torch.from_numpy(inverter.vectors(z, np.zeros(n, np.int64)).mean(0, keepdims=True))
        row |= {
            "passes_an_image": float(taken.mean() * recipe.draws),
            "seconds_an_image": seconds / n,
        }
        yield row | {"length_of_mean": float(mean.norm())} | judge(draw(said, mean, known))


def cosine(said):
    """Cosine of what is released to the exact mean of free embeddings, whole and as it differs from
    the public anchor.
    """
    import numpy as np
    from packs import noise_for, of_each, public_packs

    from sfumato.methods.inversion import aggregate
    from sfumato.methods.inversion.batch import InversionRecipe
    from sfumato.methods.inversion.geometry import from_public
    from sfumato.privacy.mechanisms.mean import Aggregation

    bench, sizes = Bench(said), (20, 40) if said.quick else [int(n) for n in said.n.split(",")]
    recipe = InversionRecipe(steps=said.inversion_steps or InversionRecipe().steps)
    recipe = InversionRecipe(steps=20, draws=2) if said.quick else recipe
    private = bench.latents(bench.private(max(sizes)))
    pictures, style, _ = public_packs(said.cache, 4 if said.quick else 150)
    few = of_each(style, said.public_each)
    pictures, style = pictures[few], style[few]
    wide = bench.whole_space()
    free = bench.embeddings(private, wide, recipe)
    public = bench.embeddings(bench.latents(pictures), wide, recipe)
    places = {"public": from_public(public, style, 1, 32, 1), "vocabulary": bench.words()}
    plain, centre = bench.words(), public.mean(0)
    for n in sizes:
        exact = free[:n].mean(0)
        truth = {"whole": exact, "from_anchor": exact - places["public"].anchor[0].numpy()}
        for epsilon in (1.0,) if said.quick else [float(e) for e in said.epsilon.split(",")]:
            sigma = {
                relation: noise_for(epsilon, n, relation)
                for relation in ("zero-out", "replace-one")
            }
            for name, place, relation, rule in (
                ("paper, replace-one", plain, "replace-one", "unit"),
                ("paper, zero-out", plain, "zero-out", "unit"),
                ("ours, vocabulary", places["vocabulary"], "zero-out", "clip"),
                ("ours, public images", places["public"], "zero-out", "clip"),
            ):
                agg = Aggregation(
                    rule,
                    1,
                    place.dimensions,
                    1,
                    "none" if rule == "unit" else "vocabulary",
                    rule == "clip",
                    (float(n),),
                )
                limit = 1.0 if rule == "unit" else place.radius
                label, owned = np.zeros(n, np.int64), [np.array([i]) for i in range(n)]
                said_by = aggregate.vector_of(agg, place, free[:n], label)
                total, found = (
                    aggregate.bounded_total(agg, limit, said_by, label, owned),
                    {k: [] for k in truth},
                )
                for draw in range(5 if said.quick else 50):
                    noisy = aggregate.add_noise_once(agg, sigma[relation], total, bench.key, draw)
                    released = (
                        aggregate.embeddings(agg, place, limit, sigma[relation], noisy)
                        .numpy()
                        .ravel()
                    )
                    found["whole"].append(angle(released, truth["whole"]))
                    found["from_anchor"].append(
                        angle(released - (exact - truth["from_anchor"]), truth["from_anchor"])
                    )
                row = {
                    "n": n,
                    "epsilon": epsilon,
                    "recipe": name,
                    "sigma": sigma[relation],
                    "radius": limit,
                }
                yield (
                    row
                    | {f"cosine_{k}": float(np.mean(v)) for k, v in found.items()}
                    | {f"sd_{k}": float(np.std(v)) for k, v in found.items()}
                )
            yield {
                "n": n,
                "epsilon": epsilon,
                "recipe": "public anchor alone",
                "cosine_whole": angle(places["public"].anchor[0].numpy(), exact),
            }
    yield {
        "recipe": "public statistics",
        "signal": places["public"].signal,
        "anchor_norm": float(np.linalg.norm(centre)),
    }


def wall(said):
    """Seconds of `sfumato.adapt --method inversion` at epsilon 1 on a folder of 150 pictures, from
    its first line to the token.
    """
    import tempfile

    from PIL import Image

    import sfumato

    pictures = Bench(said).private(12 if said.quick else 150)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "artwork").mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(Path(folder) / "artwork" / f"{i:04d}.png")
        options = {"inversion_steps": 4, "inversion_draws": 1} if said.quick else {}
        _, cpu, seconds = measure.clock(
            lambda: sfumato.adapt(
                Path(folder) / "artwork",
                anyway=True,
                yes_public=True,
                output=Path(folder) / "run",
                ledger=Path(folder) / "ledger.sqlite",
                epsilon=1.0,
                method="inversion",
                base=said.base,
                prompt=said.prompt.replace("<artwork>", "{class}"),
                **options,
            )
        )
    yield {"n": len(pictures), "seconds": seconds, "cpu_seconds": cpu}


def angle(a, b) -> float:
    import numpy as np

    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))


if __name__ == "__main__":
    main()
