"""Votes beside squares in the saliency probe: `python benchmarks/saliency_votes.py --base glyphs`.

One look at real digits (public, used as if they were private) and one at pictures of the base
itself; both scores of the same units. A row for each score and noise multiplier: how many of the
kept matrices are those of the public choice by that score, of its own choice without noise, and of
the other score's. Equal noise multipliers cost the same epsilon. Fresh noise in every draw.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from evolution import cpu_seconds
from methods import base_pictures, first

from sfumato.bases import load_base
from sfumato.gradients.scores import gradient_squares
from sfumato.methods import Saliency
from sfumato.methods.given import Given
from sfumato.methods.prompts import Prompts
from sfumato.methods.public import plain_losses
from sfumato.methods.saliency.probe import by_group, release_scores
from sfumato.privacy import accounting
from sfumato.privacy.events import Gaussian
from sfumato.privacy.mechanisms.votes import STEP, Probe
from sfumato.privacy.random.keys import RunKey
from sfumato.records import bundled_digits
from sfumato.training import LatentData, UnitBatch
from sfumato.verbs.demo import demo_prompts
from sfumato.verbs.real_images import images_of

RATIO, DRAWS, NOISY = 0.3, 2, 50
WIDE = "attention,feed-forward,residual".split(",")


def probes(groups: tuple[str, ...]) -> dict[str, Probe]:
    """The two scores on the same candidates."""
    keep = max(1, round(RATIO * len(groups)))
    return {
        "votes": Probe(groups, keep, "votes", keep, None, False, 1.0, DRAWS, 1.0),
        "squares": Probe(groups, keep, "squares", None, None, False, 1.0, DRAWS, 1.0),
    }


def totals(base_name: str, images: np.ndarray, labels: np.ndarray, prompts: list[str]):
    """Groups, and of each score the summed scores of all units, without noise."""
    base = load_base(base_name)
    adapted = Saliency(target_modules=tuple(WIDE)).apply(base, Given(Prompts(("",))))
    groups, base = adapted.groups, load_base(base_name)
    asked = probes(tuple(groups))
    names = [matrix for members in groups.values() for matrix in members]
    weights = {name: base.denoiser.get_parameter(f"{name}.weight") for name in names}
    sizes = {name: weight.numel() for name, weight in weights.items()}
    mean, std = (part.cpu().half().numpy() for part in base.encode(images))
    one = np.arange(len(mean))
    data = LatentData(mean, std, labels, one, np.arange(len(mean) + 1))
    batch = UnitBatch(data, one, RunKey.generate(), STEP, 0, DRAWS, 1.5, 0.0, base.times)
    losses = plain_losses(base, prompts, torch.float32)
    found = {name: torch.zeros(len(groups), dtype=torch.int64) for name in asked}
    for squares in gradient_squares(
        base.denoiser, weights, losses, batch, draws=DRAWS, micro_batch=32
    ):
        for name, probe in asked.items():
            found[name] += probe.unit_scores(by_group(squares, sizes, groups, probe)).sum(0)
    return asked, found


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--public", type=int, default=512)
    parser.add_argument("--noise", default="1,4,16,64")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = cpu_seconds()
    words = demo_prompts(args.base)
    known = words.get("init", {})
    texts = [t.replace("{class}", known.get(n, n)) for n, t in words["prompt"].items()]
    digits = first(bundled_digits("train"), args.units)
    classes = digits.classes
    asked, private = totals(args.base, *images_of(digits, classes, 32, "train"), texts)
    drawn = base_pictures(args.base, args.public)
    images, labels = images_of(drawn, drawn.classes, 32, "public")
    _, public = totals(args.base, images, labels, list(drawn.classes))
    best = {
        (who, name): set(probe.best(total[name].tolist()))
        for who, total in (("private", private), ("public", public))
        for name, probe in asked.items()
    }
    for name, probe in asked.items():
        other = next(one for one in asked if one != name)
        for sigma in map(float, args.noise.split(",")):
            noisy = replace(probe, noise_multiplier=sigma)
            chosen = [
                set(release_scores(noisy, private[name], RunKey.generate(), 0)[1])
                for _ in range(NOISY)
            ]

            def share(them: set[str], chosen=chosen, keep=probe.keep) -> float:
                return float(np.mean([len(one & them) / keep for one in chosen]))

            row = {
                "base": args.base,
                "units": args.units,
                "candidates": len(probe.groups),
                "kept": probe.keep,
                "score": name,
                "noise": sigma,
                "epsilon": round(accounting.epsilon_of((Gaussian(sigma),), 1e-5, grid=1e-3), 3),
                "with_public_choice": round(share(best["public", name]), 3),
                "with_own_exact": round(share(best["private", name]), 3),
                "with_exact_of_the_other": round(share(best["private", other]), 3),
                "exact_with_public": len(best["private", name] & best["public", name]) / probe.keep,
                "cpu_seconds": round(cpu_seconds() - started, 1),
            }
            print(json.dumps(row), flush=True)
            if args.out:
                with open(args.out, "a", encoding="utf-8") as table:
                    table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
