"""How far one unit moves the integer sum of clipped gradients, in shares of its bound: every layer
kind and way of summing, many units, hostile inputs. One JSON line per case; exit code 1 if one
moves it by more than the bound C (1 + rho).

    python benchmarks/sensitivity.py [--units 8 1000 65536 1000000] [--inputs "huge" "not finite"]

Where units are many, every 61st has the hostile inputs and 4 tokens, and the others pull alike: one
hostile unit and an ordinary one are taken out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from sfumato.gradients import Engine
from sfumato.privacy.clipping import flat
from sfumato.privacy.rounding import Rounding

CLIP, TOKENS, WIDTH = 0.05, 16, 8
LAYERS = {
    "linear": ("keep", "ghost", "lean"),
    "convolution": ("keep", "ghost", "lean"),
    "embedding": ("auto",),
    "normalisation": ("auto",),
}
# what all units have in common
OF_ALL = ("aligned", "random", "one coordinate", "cancelling units", "at the clip")
HOSTILE = ("near-equal tokens", "cancelling tokens", "huge", "tiny", "not finite")
# above so many units every so many are hostile, and records have so many tokens
FEW, EVERY, SHORT = 1000, 61, 4


@dataclass
class Units:
    """Inputs x [B, T, W] and gradients g [B, T, W] at the layer's output, made slice by slice;
    weight 0 for `gone`.
    """

    kind: str
    start: int
    stop: int
    gone: int | None
    tokens: int = TOKENS
    every: int = 1  # how many are hostile, if the kind is: the others are aligned
    scale: float = 1.0  # brings the gradients of "at the clip" there

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Units:
        return replace(self, start=self.start + part.start, stop=self.start + part.stop)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        size, place = (len(self), self.tokens, WIDTH), torch.arange(self.start, self.stop)
        x, g = torch.full(size, 0.37), torch.full(size, 0.91)
        if self.kind == "random" or self.kind in HOSTILE:
            g_ = torch.Generator().manual_seed(self.start)
            x, g = torch.randn(size, generator=g_), torch.randn(size, generator=g_)
        if self.kind == "one coordinate":
            x[..., 1:], g[..., 1:] = 0, 0
        if self.kind == "cancelling units":
            g *= torch.where(place % 2 == 0, 1.0, -1.0).view(-1, 1, 1)
        if self.kind == "at the clip":  # a last place below it, on it, above it
            g *= self.scale * (1 + (place % 3 - 1) * 2.0**-23).view(-1, 1, 1)
        if self.kind == "near-equal tokens":
            x, g = x[:, :1] + 0.01 * x, g[:, :1] + 0.01 * g
        if self.kind == "cancelling tokens":
            sign = torch.tensor([1.0, -1.0]).repeat(self.tokens // 2)[:, None]
            x, g = x[:, :1].expand(size).clone(), g[:, :1] * sign + 1e-4 * g
        if self.kind in ("huge", "tiny"):
            g = g * (1e15 if self.kind == "huge" else 1e-15)
        if self.kind == "not finite":
            bad = torch.tensor([float("nan"), float("inf"), float("-inf")])[place % 3]
            few = max(len(self) // 3, 1) if self.every == 1 else self.every
            g = torch.where((place % few == 0).view(-1, 1, 1), bad.view(-1, 1, 1), g)
        if self.every > 1:
            hostile = (place % self.every == 0).view(-1, 1, 1)
            x, g = torch.where(hostile, x, 0.37), torch.where(hostile, g, 0.91)
        weight = torch.ones(len(self))
        if self.gone is not None and self.start <= self.gone < self.stop:
            weight[self.gone - self.start] = 0
        return x, g, weight


class Layer(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        makers = {
            "linear": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
            "convolution": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            "embedding": lambda: nn.Embedding(4, WIDTH),
            "normalisation": lambda: nn.LayerNorm(WIDTH),
        }
        self.layer = makers[kind]()

    def losses(self, batch: Units) -> torch.Tensor:
        """Row losses whose gradient at the layer's output is g, and 0 for a unit that is gone."""
        x, g, weight = batch.tensors()
        if self.kind == "embedding":
            out = self.layer((x.abs() * 10).long()[..., 0] % 4)
        elif self.kind == "convolution":
            side = int(x.shape[1] ** 0.5)
            out = (
                self.layer(x.transpose(1, 2).reshape(len(x), WIDTH, side, side))
                .flatten(2)
                .transpose(1, 2)
            )
        else:
            out = self.layer(x)
        live = weight.view(-1, 1, 1) > 0
        return torch.where(live, out * torch.where(live, g, 0.0), 0.0).flatten(1).sum(1)


def measure(kind: str, way: str, inputs: str, units: int) -> dict:
    """The largest move of the sum over a few units, in shares of C and of the bound."""
    torch.manual_seed(0)
    model = Layer(kind)
    trainable = dict(model.named_parameters())
    numbers = sum(p.numel() for p in trainable.values())
    rounding, started = Rounding.of(CLIP, numbers), time.monotonic()
    micro, many = min(units, 1024), units > FEW and inputs not in ("aligned", "random")
    made = Units(
        inputs,
        0,
        units,
        None,
        SHORT if many else TOKENS,
        EVERY if many and inputs in HOSTILE else 1,
    )
    with Engine(model, trainable, strategy=way) as engine:
        if inputs == "at the clip":
            _, norms = engine.clipped_sum(model.losses, made[1:2], clip=flat(CLIP).factors)
            made = replace(made, scale=CLIP / float(norms[0]))

        def total(gone: int | None) -> torch.Tensor:
            ask = {"clip": flat(CLIP).factors, "micro_batch": micro, "rounding": rounding}
            sums, _ = engine.clipped_sum(model.losses, replace(made, gone=gone), **ask)
            return torch.cat([value.flatten() for value in sums.values()])

        whole = total(None)
        picked = (0, units - 1) if units > FEW else (0, units // 2, units - 1)
        # squares in whole numbers, so that what is compared with the bound is exact
        square = max(sum(v * v for v in (whole - total(gone)).tolist()) for gone in picked)
    return {
        "layer": kind,
        "way": way,
        "inputs": inputs,
        "units": units,
        "tokens": made.tokens,
        "numbers": numbers,
        "rho": rounding.slack,
        "of_clip": round(square**0.5 * rounding.step / CLIP, 6),
        "of_bound": round(square**0.5 / rounding.bound, 6),
        "within": square <= rounding.bound**2,
        "seconds": round(time.monotonic() - started, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[8, 1000, 65536, 1_000_000])
    parser.add_argument("--inputs", nargs="+", choices=OF_ALL + HOSTILE, default=OF_ALL + HOSTILE)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for units in asked.units:
        for kind, ways in LAYERS.items():
            for way in ways:
                for inputs in asked.inputs:
                    rows.append(measure(kind, way, inputs, units))
                    print(json.dumps(rows[-1]), flush=True)
    print(
        json.dumps(
            {
                "cases": len(rows),
                "largest_of_bound": max(r["of_bound"] for r in rows),
                "all_within": all(r["within"] for r in rows),
            }
        )
    )
    return int(not all(row["within"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
