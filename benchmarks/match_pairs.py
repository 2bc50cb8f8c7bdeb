"""How often `match` names the right base: `python benchmarks/match_pairs.py --out match.jsonl`.

Pairs of candidate bases and a private set (all of them public here, so this protects nobody) whose
right base is known otherwise: from training on the bases, from the Frechet distance of public-only
pictures in features of a CNN that knows the real classes, or because the base itself drew the set.
`PAIRS` are those on which `match_spaces.py` chose the rule; on `UNSEARCHED` nothing was chosen, and
they need the base garments of the recipes (--garments) and the animals of `packed_sets.py`
(--packages). A row for each pair: how often the noisy votes put the right base first at each
epsilon, over seeds of the public pictures and draws of the noise, beside the free choices: the
first name of the alphabet, and what a public stand-in says, here 200 further pictures of the kind.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from sfumato.options import Sampling
from sfumato.privacy import calibration
from sfumato.privacy.mechanisms.histogram import NAME, VoteHistogram
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import noisy_vector
from sfumato.records import RecordSet
from sfumato.runs.matching import TODAY, bases_named, owned
from sfumato.verbs.real_images import images_of
from sfumato.verbs.row_images import draw

SIDE, PICTURES, STEPS, STAND_IN = 32, 300, 10, 200
BASES = ("glyphs", "icons", "letters", "things")
TRAINED = {  # docs/results.md: 98.01 and 97.18, 75.39 and 70.65
    ("mnist", ("glyphs", "letters")): ("glyphs", "full protocol"),
    ("fashion-mnist", ("garments", "icons")): ("garments", "small runs on both"),
}
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
UNSEARCHED = (
    ("fashion-mnist", ("garments", "icons")),
    ("letters from words", ("glyphs", "letters")),
    ("icons from words", ("icons", "things")),
    ("fashion-mnist", ("garments", "things")),
    ("fashion-mnist", ("garments", "icons", "letters", "things")),
    ("animals", ("glyphs", "icons", "letters", "things")),
    ("things from words", ("icons", "things")),
)
SUBJECTS = "cat dog car house tree ball flower fish bird cup".split()
WORDS = {
    "letters": [f"a handwritten capital letter {letter}" for letter in "ABDEGHKMR"]
    + [f"a handwritten small letter {letter}" for letter in "abdefghknr"],
    "icons": [f"icon of a {subject}, filled style" for subject in SUBJECTS]
    + [f"icon of a {subject}, outline style" for subject in SUBJECTS],
    "things": [f"a drawing of a {subject}, colour emoji style" for subject in SUBJECTS]
    + [f"silhouette of a {subject}" for subject in SUBJECTS],
}
FROM_WORDS = 700  # pictures of such a set
Rights = dict[tuple[str, tuple[str, ...]], tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """Where pictures come from; what bases draw is kept in a folder, if there is one."""

    keep: Path | None
    garments: str | None
    packages: Path | None

    def kept(self, name: str, pictures: Callable[[], np.ndarray]) -> np.ndarray:
        if self.keep is None:
            return pictures()
        place = self.keep / f"{name.replace(' ', '-')}.npy"
        if not place.exists():
            self.keep.mkdir(exist_ok=True)
            np.save(place, pictures())
        return np.load(place)

    def draw(self, base: str, prompts: Sequence[str], n: int, seed: int) -> np.ndarray:
        opened = load_base((base == "garments" and self.garments) or base)
        return draw(opened, prompts, n, Sampling(steps=STEPS, seed=seed))[0]

    def drawn(self, base: str, seed: int, n: int = PICTURES) -> np.ndarray:
        """What stands for a base, as `match` draws it."""
        return self.kept(f"{base}-{seed}-{n}", lambda: self.draw(base, [""], n, seed))

    def read(self, name: str, split: str) -> RecordSet:
        packed = (self.packages,) if name == "animals" and self.packages else ()
        return private_sets.read(name, split, *packed)

    def private(self, name: str, n: int) -> RecordSet:
        """The first `n` training pictures of a set, or as many that a base has drawn."""
        base, last = name.removeprefix("drawn by ").split()[0], name.split()[-1]
        if last == "words":
            n = FROM_WORDS
            images = self.kept(
                f"words {base} {n}", lambda: small(self.draw(base, WORDS[base], n, 7000))
            )
        elif name.startswith("drawn by "):
            images = self.kept(f"{name} {n}", lambda: small(self.draw(base, [""], n, 1000)))
        else:
            return first(self.read(name, "train"), n)
        return RecordSet(
            name, "array", ("all",), np.zeros(n, np.int64), np.arange(n), None, np.ones(n, bool),
            array=images,
        )  # fmt: skip


def small(images: np.ndarray) -> np.ndarray:
    """Pictures uint8 [n, R, R, 3] as those of SIDE pixels."""
    if images.shape[1] <= SIDE:
        return images
    wide = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    less = torch.nn.functional.interpolate(wide, size=(SIDE, SIDE), mode="area")
    return less.permute(0, 2, 3, 1).round().byte().numpy()


def distances(source: Source, name: str, bases: Sequence[str], seeds: int) -> dict[str, float]:
    """Base -> Frechet distance of public-only pictures, in features that know the classes."""
    test = source.read(name, "test")
    images, labels = images_of(test, test.classes, SIDE, "test")
    known = classifier_features(
        train_classifier("cnn", images, labels, len(test.classes), seed=0, steps=300), "cnn"
    )
    real, found = known(images[:3000]), {}
    for base in bases:
        drawn = np.concatenate([small(source.drawn(base, seed)) for seed in range(seeds)])
        found[base] = frechet_distance(real, known(drawn))
    return found


def right_of(
    name: str, bases: tuple[str, ...], known: Rights, far: Callable[[], dict[str, float]]
) -> tuple[str, str]:
    """The right base, and how it is known; `far`: its distances, where nothing else says it."""
    if (name, bases) in known:
        return known[name, bases]
    if name.startswith("drawn by ") or name.endswith(" from words"):
        return name.removeprefix("drawn by ").split()[0], "drew the set itself"
    if (name, bases) in TRAINED:
        return TRAINED[name, bases]
    return min(bases, key=far().__getitem__), "Frechet distance of public-only pictures"


def rights_of(file: Path | None) -> Rights:
    """What rows of an earlier measurement say."""
    lines = file.read_text("utf-8").splitlines() if file else []
    rows = [json.loads(line) for line in lines]
    return {(row["set"], tuple(row["bases"])): (row["right"], row["known_by"]) for row in rows}


def votes(records: RecordSet, tables: list[np.ndarray]) -> np.ndarray:
    """The units' bounded votes for each base, without noise."""
    named = bases_named(records, SIDE, TODAY.table_of(tables))
    voting = VoteHistogram(len(tables), 1, 1, TODAY.features)
    return voting.total(named[:, None], owned(records))


def halves(whole: RecordSet) -> tuple[RecordSet, RecordSet]:
    """The private set, and a public stand-in of the same kind."""
    n = whole.n - STAND_IN
    rest = whole.labels[n:]
    stand_in = RecordSet(
        "stand-in", "array", whole.classes, rest, np.arange(STAND_IN), None,
        np.ones(STAND_IN, bool), array=whole.array[n:],
    )  # fmt: skip
    return first(whole, n), stand_in


def row_of(
    where: int, whole: RecordSet, tables: list[list[np.ndarray]], noise: dict[float, float], n: int
) -> dict:
    """What the votes say: `tables` of each seed, `n` draws of the noise."""
    private, stand_in = halves(whole)
    hits, free, shares = dict.fromkeys(noise, 0), 0, []
    for own in tables:
        total = votes(private, own)
        shares.append(round(float(total[where] / total.sum()), 3))
        free += int(np.argmax(votes(stand_in, own)) == where)
        voting = VoteHistogram(len(own), 1, 1, TODAY.features)
        for epsilon, sigma in noise.items():
            for _ in range(n):
                key, stddev = RunKey.generate(), voting.noise_stddev(sigma)
                noisy = noisy_vector(total, stddev, key, step=0, attempt=0, name=NAME)
                hits[epsilon] += int(np.argmax(noisy) == where)
    return {
        "units": private.n,
        "votes_for_it": shares,
        "first": {f"{e:g}": found / (len(tables) * n) for e, found in hits.items()},
        "noise": {f"{e:g}": sigma for e, sigma in noise.items()},
        "stand_in": free / len(tables),
    }


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000, help="units of each private set")
    parser.add_argument("--epsilon", default="0.05,0.1,0.5")
    parser.add_argument("--seeds", type=int, default=3, help="of the public pictures")
    parser.add_argument("--draws", type=int, default=20, help="of the noise, for each seed")
    parser.add_argument("--keep", type=Path, default=None, help="folder of drawn pictures")
    parser.add_argument("--garments", default=None, help="folder of that base of the recipes")
    parser.add_argument("--packages", type=Path, default=None, help="folder of the animals")
    parser.add_argument("--known", type=Path, default=None, help="rows that say what is right")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = cpu_seconds()
    source = Source(args.keep, args.garments, args.packages)
    known = rights_of(args.known)

    @functools.cache
    def far(name: str) -> dict[str, float]:
        more = ("garments",) * (bool(args.garments) and name == "fashion-mnist")
        found = distances(source, name, (*BASES, *more), args.seeds)
        print(json.dumps({"set": name, "distances": found}), flush=True)
        return found

    asked = [
        (name, bases)
        for name, bases in PAIRS + UNSEARCHED
        if (args.garments or "garments" not in bases) and (args.packages or name != "animals")
    ]
    noise = {
        epsilon: calibration.calibrate((), 1.0, 1, epsilon, min(1e-5, args.n**-1.5))
        for epsilon in map(float, args.epsilon.split(","))
    }
    for name, bases in asked:
        right, how = right_of(name, bases, known, lambda n=name: far(n))
        tables = [
            [TODAY.of_pictures(source.drawn(base, seed)) for base in bases]
            for seed in range(args.seeds)
        ]
        whole = source.private(name, args.n + STAND_IN)
        row = {
            "set": name,
            "bases": bases,
            "right": right,
            "known_by": how,
            "searched_on": (name, bases) in PAIRS,
            **row_of(bases.index(right), whole, tables, noise, args.draws),
            "alphabetical": float(min(bases) == right),
            "rule": TODAY.rule,
            "features": TODAY.features,
            "cpu_seconds": round(cpu_seconds() - started, 1),
        }
        print(json.dumps(row), flush=True)
        if args.out:
            with open(args.out, "a", encoding="utf-8") as table:
                table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
