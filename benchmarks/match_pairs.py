"""How often `match` names the right base: `python benchmarks/match_pairs.py --out match.jsonl`.

Pairs of candidate bases and a private set (all of them public here, so this protects nobody) whose
right base is known otherwise: from the full protocol, from the Frechet distance of public-only
pictures in features of a CNN that knows the real classes, or because the base itself drew the set.
A row for each pair: how often the noisy votes put the right base first at each epsilon, over seeds
of the public pictures and draws of the noise, beside the free choices: the first name of the
alphabet, and what a public stand-in says, here so many further pictures of the same kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import private_sets
import torch
from evolution import cpu_seconds
from methods import first

from sfumato.bases import load_base
from sfumato.evaluation.classifiers import train_classifier
from sfumato.evaluation.distances import frechet_distance
from sfumato.evaluation.features import classifier_features
from sfumato.methods.evolution.spaces import pixels
from sfumato.options import Sampling
from sfumato.privacy import accounting
from sfumato.privacy.mechanisms.histogram import NAME, VoteHistogram
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import noisy_vector
from sfumato.records import RecordSet
from sfumato.runs.matching import FEATURES, nearest_pictures, owned
from sfumato.verbs.real_images import images_of
from sfumato.verbs.row_images import draw

SIDE, PICTURES, STEPS, STAND_IN = 32, 300, 10, 200
BASES = ("glyphs", "icons", "letters", "things")
PROTOCOL = {("mnist", ("glyphs", "letters")): "glyphs"}  # docs/results.md, 98.01 and 97.18
PAIRS = (
    ("mnist", ("glyphs", "letters")),
    ("mnist", ("icons", "letters")),
    ("mnist", ("things", "glyphs")),
    ("mnist", ("icons", "letters", "glyphs", "things")),
    ("fashion-mnist", ("glyphs", "icons")),
    ("fashion-mnist", ("letters", "things")),
    ("fashion-mnist", ("glyphs", "icons", "letters", "things")),
    ("drawn by glyphs", ("glyphs", "letters")),
    ("drawn by letters", ("glyphs", "letters")),
    ("drawn by icons", ("icons", "things")),
    ("drawn by things", ("icons", "things")),
)


def arrays(name: str, n: int) -> RecordSet:
    """The first `n` training pictures of a set, or as many that a base has drawn."""
    if not name.startswith("drawn by "):
        return first(private_sets.read(name, "train"), n)
    base = name.removeprefix("drawn by ")
    images, _ = draw(load_base(base), [""], n, Sampling(steps=STEPS, seed=1000))
    if images.shape[1] > SIDE:
        wide = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        small = torch.nn.functional.interpolate(wide, size=(SIDE, SIDE), mode="area")
        images = small.permute(0, 2, 3, 1).round().byte().numpy()
    return RecordSet(
        name, "array", ("all",), np.zeros(n, np.int64), np.arange(n), None, np.ones(n, bool),
        array=images,
    )  # fmt: skip


def drawn(base: str, seed: int, n: int = PICTURES) -> np.ndarray:
    """What stands for a base, as `match` draws it."""
    return draw(load_base(base), [""], n, Sampling(steps=STEPS, seed=seed))[0]


def distances(name: str) -> dict[str, float]:
    """Base -> Frechet distance of public-only pictures, in features that know the classes."""
    classes = private_sets.CLASSES
    images, labels = images_of(private_sets.read(name, "test"), classes, SIDE, "test")
    known = classifier_features(
        train_classifier("cnn", images, labels, len(classes), seed=0, steps=300), "cnn"
    )
    real, found = known(images[:3000]), {}
    for base in BASES:
        pictures = drawn(base, 0, 1000)
        if pictures.shape[1] > SIDE:
            wide = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
            small = torch.nn.functional.interpolate(wide, size=(SIDE, SIDE), mode="area")
            pictures = small.permute(0, 2, 3, 1).round().byte().numpy()
        found[base] = frechet_distance(real, known(pictures))
    return found


def right_of(name: str, bases: tuple[str, ...], known: dict[str, dict]) -> tuple[str, str]:
    """The right base, and how it is known."""
    if name.startswith("drawn by "):
        return name.removeprefix("drawn by "), "drew the set itself"
    if (name, bases) in PROTOCOL:
        return PROTOCOL[name, bases], "full protocol"
    return min(bases, key=known[name].__getitem__), "Frechet distance of public-only pictures"


def votes(records: RecordSet, tables: list[np.ndarray]) -> np.ndarray:
    """The units' bounded votes for each base, without noise."""
    named = nearest_pictures(records, SIDE, np.concatenate(tables)) // len(tables[0])
    return VoteHistogram(len(tables), 1, 1, FEATURES).total(named[:, None], owned(records))


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000, help="units of each private set")
    parser.add_argument("--epsilon", default="0.05,0.1,0.5")
    parser.add_argument("--seeds", type=int, default=3, help="of the public pictures")
    parser.add_argument("--draws", type=int, default=20, help="of the noise, for each seed")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = cpu_seconds()
    known = {name: distances(name) for name in ("mnist", "fashion-mnist")}
    print(json.dumps({"distances": known, "cpu_seconds": cpu_seconds() - started}), flush=True)
    tables = {b: [pixels(drawn(b, seed)) for seed in range(args.seeds)] for b in BASES}
    sets = {name: arrays(name, args.n + STAND_IN) for name in dict.fromkeys(n for n, _ in PAIRS)}
    print(json.dumps({"drawn, cpu_seconds": cpu_seconds() - started}), flush=True)
    noise = {
        epsilon: accounting.calibrate((), 1.0, 1, epsilon, min(1e-5, args.n**-1.5))
        for epsilon in map(float, args.epsilon.split(","))
    }
    for name, bases in PAIRS:
        right, how = right_of(name, bases, known)
        where, hits, free, shares = bases.index(right), dict.fromkeys(noise, 0), 0, []
        private = first(sets[name], args.n)
        rest = sets[name].labels[args.n :]
        stand_in = RecordSet(
            "stand-in", "array", private.classes, rest, np.arange(len(rest)), None,
            np.ones(len(rest), bool), array=sets[name].array[args.n :],
        )  # fmt: skip
        for seed in range(args.seeds):
            own = [tables[base][seed] for base in bases]
            total = votes(private, own)
            shares.append(total[where] / total.sum())
            free += int(np.argmax(votes(stand_in, own)) == where)
            voting = VoteHistogram(len(bases), 1, 1, FEATURES)
            for epsilon, sigma in noise.items():
                for _ in range(args.draws):
                    key, stddev = RunKey.generate(), voting.noise_stddev(sigma)
                    noisy = noisy_vector(total, stddev, key, step=0, attempt=0, name=NAME)
                    hits[epsilon] += int(np.argmax(noisy) == where)
        row = {
            "set": name,
            "bases": bases,
            "right": right,
            "known_by": how,
            "units": args.n,
            "votes_for_it": [round(float(share), 3) for share in shares],
            "first": {f"{e:g}": found / (args.seeds * args.draws) for e, found in hits.items()},
            "noise": {f"{e:g}": sigma for e, sigma in noise.items()},
            "stand_in": free / args.seeds,
            "alphabetical": float(min(bases) == right),
            "cpu_seconds": round(cpu_seconds() - started, 1),
        }
        print(json.dumps(row), flush=True)
        if args.out:
            with open(args.out, "a", encoding="utf-8") as table:
                table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
