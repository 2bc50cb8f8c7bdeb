"""How far one unit moves the integer sum of clipped gradients, in shares of its bound: every layer kind and way of summing, many units, hostile
inputs. One JSON line per case; exit code 1 if one moves it by more than the bound C (1 + rho).

    python benchmarks/sensitivity.py [--units 8 1000 65536 1000000]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass

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
INPUTS = ("aligned", "random", "near-equal tokens", "cancelling tokens", "huge", "tiny", "not finite")
MANY = 2  # inputs looked at where units are many


@dataclass
class Units:
    """Inputs x [B, T, W] and gradients g [B, T, W] at the layer's output, made slice by slice; weight 0 for `gone`."""

    kind: str
    start: int
    stop: int
    gone: int | None

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Units:
        return Units(self.kind, self.start + part.start, self.start + part.stop, self.gone)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        size = (len(self), TOKENS, WIDTH)
        if self.kind == "aligned":
            x, g = torch.full(size, 0.37), torch.full(size, 0.91)
        else:
            g_ = torch.Generator().manual_seed(self.start)
            x, g = torch.randn(size, generator=g_), torch.randn(size, generator=g_)
        if self.kind == "near-equal tokens":
            x, g = x[:, :1] + 0.01 * x, g[:, :1] + 0.01 * g
        if self.kind == "cancelling tokens":
            sign = torch.tensor([1.0, -1.0]).repeat(TOKENS // 2)[:, None]
            x, g = x[:, :1].expand(size).clone(), g[:, :1] * sign + 1e-4 * g
        if self.kind in ("huge", "tiny"):
            g = g * (1e15 if self.kind == "huge" else 1e-15)
        if self.kind == "not finite":
            g[:: max(len(self) // 3, 1)] = float("nan")
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
            side = int(TOKENS**0.5)
            out = self.layer(x.transpose(1, 2).reshape(len(x), WIDTH, side, side)).flatten(2).transpose(1, 2)
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
    micro = min(units, 1024)
    with Engine(model, trainable, strategy=way) as engine:

        def total(gone: int | None) -> torch.Tensor:
            ask = {"clip": flat(CLIP).factors, "micro_batch": micro, "rounding": rounding}
            sums, _ = engine.clipped_sum(model.losses, Units(inputs, 0, units, gone), **ask)
            return torch.cat([value.flatten() for value in sums.values()])

        whole = total(None)
        picked = (0, units - 1) if units > 1000 else (0, units // 2, units - 1)
        moved = max(float((whole - total(gone)).double().norm()) for gone in picked)
    return {
        "layer": kind, "way": way, "inputs": inputs, "units": units, "numbers": numbers, "rho": rounding.slack,
        "of_clip": round(moved * rounding.step / CLIP, 6), "of_bound": round(moved / rounding.bound, 6),
        "within": moved <= rounding.bound, "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[8, 1000, 65536, 1_000_000])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for units in asked.units:
        for kind, ways in LAYERS.items():
            for way in ways:
                for inputs in INPUTS[: MANY if units > 1000 else None]:
                    rows.append(measure(kind, way, inputs, units))
                    print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"cases": len(rows), "largest_of_bound": max(r["of_bound"] for r in rows), "all_within": all(r["within"] for r in rows)}))
    return int(not all(row["within"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
