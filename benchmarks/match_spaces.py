"""Other ways to compare pictures for `match`: `python benchmarks/match_spaces.py --keep pictures`.

The pairs of `match_pairs.py`, whose right bases are read from its rows (`--known`), without noise:
for each feature space and rule, how often the right base has most votes, and its share of them,
over seeds of the public pictures. A search on public sets. Pictures that bases draw are kept in
--keep, so that all ways see the same ones. A line of JSON for each way goes to --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from evolution import cpu_seconds
from match_pairs import BASES, PAIRS, SIDE, STAND_IN, Source

from sfumato.methods.evolution.spaces import pixels
from sfumato.runs.gaussians import contrast, factors_of

NEAR = 10  # neighbours whose mean distance says how near a public picture is to all others


def area(pictures: np.ndarray, side: int) -> torch.Tensor:
    """Pictures uint8 [B, R, R, 3] as means of areas, float32 [B, 3, side, side] from 0 to 1."""
    x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255
    return F.interpolate(x, size=(side, side), mode="area") if x.shape[-1] > side else x


def grey(pictures: np.ndarray, side: int = 16) -> np.ndarray:
    """Mean of the channels."""
    return area(pictures, side).mean(1).flatten(1).numpy()


def coarse(pictures: np.ndarray) -> np.ndarray:
    """Pixels on a grid of 8 x 8."""
    return area(pictures, 8).flatten(1).numpy()


def gradients(pictures: np.ndarray) -> np.ndarray:
    """Lengths of grey gradients by 8 directions in 8 x 8 cells (Dalal and Triggs), as roots."""
    x = F.pad(area(pictures, 32).mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    along = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    angle, length = torch.atan2(down, along), torch.hypot(down, along)
    parts = [length * torch.cos(angle - k * torch.pi / 4).clamp(min=0) ** 4 for k in range(8)]
    cells = F.avg_pool2d(torch.cat(parts, 1), 4).flatten(1)
    return (cells / (cells.norm(dim=1, keepdim=True) + 0.05)).sqrt().numpy()


def waves(pictures: np.ndarray) -> np.ndarray:
    """Colours on 8 x 8 and moduli of 12 Gabor filters on 4 x 4: a first layer of scattering."""
    x = area(pictures, 32)
    parts, plain = [F.adaptive_avg_pool2d(x, 8).flatten(1)], x.mean(1, keepdim=True)
    for width in (1.2, 2.4):
        reach = round(2.7 * width)
        at = torch.arange(-reach, reach + 1)
        down, along = torch.meshgrid(at, at, indexing="ij")
        bell = torch.exp(-(along**2 + down**2) / (2 * width**2))
        padded = F.pad(plain, (reach,) * 4, mode="replicate")
        for k in range(6):
            turn = torch.tensor(k * torch.pi / 6)
            phase = (along * turn.cos() + down * turn.sin()) * torch.pi / (2 * width)
            even, odd = bell * phase.cos(), bell * phase.sin()
            even = even - bell * (even.sum() / bell.sum())
            size = even.norm()
            found = [F.conv2d(padded, (one / size)[None, None]) for one in (even, odd)]
            parts.append(F.adaptive_avg_pool2d(torch.hypot(*found), 4).flatten(1))
    return torch.cat(parts, 1).numpy()


def squares(rows: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Squared distances [rows, table]."""
    return (rows**2).sum(1)[:, None] - 2 * rows @ table.T + (table**2).sum(1)


def nearest(tables: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """To the nearest picture of each base: what `match` once did."""
    return [squares(rows, table).min(1) for table in tables]


def five(tables: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """Mean to the five nearest pictures of each base."""
    return [np.sort(squares(rows, table), 1)[:, :5].mean(1) for table in tables]


def scaled(tables: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """To the nearest, less how near that is to public pictures (CSLS, arXiv 1710.04087)."""
    every = np.concatenate(tables)
    offsets = [np.sort(squares(t, every), 1)[:, 1 : NEAR + 1].mean(1) for t in tables]
    return [(squares(rows, t) - offset).min(1) for t, offset in zip(tables, offsets)]


def gaussian(tables: list[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """Minus the log density of a Gaussian of each base's pictures: what `match` does."""
    wide = np.column_stack([rows, np.ones(len(rows))])
    return [((wide @ factor.T) ** 2).sum(1) for factor in factors_of(tables)]


SPACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels": pixels, "grey": grey, "contrast": contrast, "coarse": coarse,
    "gradients": gradients, "waves": waves,
}  # fmt: skip
RULES = {"nearest": nearest, "five": five, "scaled": scaled, "gaussian": gaussian}


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=700, help="units of each private set")
    parser.add_argument("--seeds", type=int, default=3, help="of the public pictures")
    parser.add_argument("--keep", type=Path, required=True, help="folder of drawn pictures")
    parser.add_argument("--known", type=Path, default=Path("benchmarks/results/match.jsonl"))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = Source(args.keep, "", Path())
    rows = [json.loads(line) for line in args.known.read_text("utf-8").splitlines()]
    right = {(row["set"], tuple(row["bases"])): row["right"] for row in rows}
    public: dict[tuple[str, int], np.ndarray] = {}
    for seed in range(args.seeds):
        for base in BASES:
            public[base, seed] = source.drawn(base, seed)
    sets = {}
    for name in dict.fromkeys(n for n, _ in PAIRS):  # those of match_pairs.py, without the rest
        whole = source.private(name, args.n + STAND_IN)
        sets[name] = whole.load(np.arange(args.n), SIDE)[0]
    print(json.dumps({"drawn, cpu_seconds": round(cpu_seconds(), 1)}), flush=True)
    for space, features in SPACES.items():
        tables = {one: features(pictures) for one, pictures in public.items()}
        asked = {name: features(pictures) for name, pictures in sets.items()}
        for rule, distances in RULES.items():
            hits, shares = 0, []
            for name, bases in PAIRS:
                where = bases.index(right[name, bases])
                for seed in range(args.seeds):
                    far = distances([tables[base, seed] for base in bases], asked[name])
                    votes = np.bincount(np.argmin(far, axis=0), minlength=len(bases))
                    hits += int(np.argmax(votes) == where)
                    shares.append(round(float(votes[where] / args.n), 2))
            row = {
                "space": space, "rule": rule, "units": args.n, "seeds": args.seeds,
                "right_first": round(hits / len(shares), 3), "votes_for_it": shares,
            }  # fmt: skip
            print(json.dumps(row), flush=True)
            if args.out:
                with open(args.out, "a", encoding="utf-8") as table:
                    table.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
