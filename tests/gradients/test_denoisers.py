"""The engine on every denoiser class of the installed diffusers that can be built small.

`python -m tests.gradients.test_denoisers` prints the table of docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from sfumato.gradients import Engine, ReferenceEngine, unreached

from .denoisers import DENOISERS, Denoiser

BAR = 1e-3  # of a norm, and of a tensor's sum; Kandinsky5 rotates in bfloat16
MOST = 16  # token counts up to which records are as many as tokens
METHODS = ("whole", "attention", "LoRA")
QUICK = ("DiTTransformer2DModel", "SD3Transformer2DModel", "ErnieImageTransformer2DModel")


@dataclass(frozen=True)
class Verdict:
    """What came of one class and method.

    Attributes:
        error: The largest relative error of a norm or of a tensor's sum; None where it is refused.
        left_out: Tensors without a gradient.
        refused: In the engine's words; empty where it is not.
        coincident: Whether it was also tried with as many records as tokens.
    """

    error: float | None
    left_out: int
    refused: str = ""
    coincident: int = 0

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        return f"exact; {self.left_out} left out" if self.left_out else "exact"


def trained(denoiser: Denoiser, method: str) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The model and what the method trains of it."""
    model = denoiser.build()
    parts = denoiser.attention
    if method == "LoRA":
        import peft

        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and any(part in name for part in parts)
        ]
        torch.manual_seed(0)
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=targets), model)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p, std=0.1)
        parts = ("lora_",)
    elif method == "whole":
        parts = ("",)
    model.requires_grad_(False)
    return model, {n: p for n, p in model.named_parameters() if any(part in n for part in parts)}


def tokens(model: nn.Module, rows, record: Tensor) -> list[int]:
    """How many tokens or pixels the layers see of one row, and other extents of it."""
    found: set[int] = set()

    def see(module, args, out):
        found.update(size for t in args if isinstance(t, Tensor) for size in t.shape[:-1])

    hooks = [m.register_forward_hook(see) for m in model.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        rows(record)
    for hook in hooks:
        hook.remove()
    return sorted(size for size in found if 2 <= size <= MOST)


def apart(got, right) -> float:
    """The largest relative error; of tensors below 1e-3 of the whole relative to that."""
    (sums, norms), (sums_r, norms_r) = got, right
    whole = float(torch.stack([t.norm() for t in sums_r.values()]).norm())
    errors = [((norms - norms_r).abs() / norms_r).max()]
    errors += [
        (sums[name] - value).norm() / value.norm().clamp_min(1e-3 * whole)
        for name, value in sums_r.items()
    ]
    return float(torch.stack([error.double() for error in errors]).max())


def verdict(denoiser: Denoiser, method: str) -> Verdict:
    """Compares the engine with one-record-at-a-time autograd.

    Three records of one draw, two of three, and records x draws as many as there are tokens.
    """
    model, trainable = trained(denoiser, method)
    data = denoiser.data(MOST, 1)
    near = {
        name: t * (1 + 2.0**-12) if t.is_floating_point() and name in denoiser.rows else t
        for name, t in data.items()
    }
    sides = denoiser.losses(model, data), denoiser.losses(model, near)

    def either(pair) -> Tensor:
        return sides[pair[1]](pair[0])

    records = [((torch.tensor([i]), 0), (torch.tensor([i]), 1)) for i in range(4)]
    try:
        dead = unreached(trainable, either, records)
    except ValueError as error:
        return Verdict(None, 0, str(error))
    alive = {name: p for name, p in trainable.items() if name not in dead}
    options = {"clip": torch.ones_like}
    worst, counts = 0.0, tokens(model, sides[0], torch.tensor([0]))
    try:
        as_many = [(n, 1) for n in counts] + [(n // 2, 2) for n in counts if n > 2 and n % 2 == 0]
        for records, draws in ((3, 1), (2, 3), *as_many):
            rows = denoiser.losses(model, denoiser.data(records, draws))
            i = torch.arange(records)
            with Engine(model, alive) as engine:
                got = engine.clipped_sum(rows, i, draws=draws, **options)
            with ReferenceEngine(model, alive) as slow:
                right = slow.clipped_sum(rows, i, draws=draws, **options)
            worst = max(worst, apart(got, right))
    except (ValueError, RuntimeError) as error:
        return Verdict(None, len(dead), str(error).splitlines()[0])
    return Verdict(worst, len(dead), coincident=len(counts))


# What has no exact rule today: all else is exact.
REFUSED = {
    # reads a table and projections for tokens before records, past their modules
    ("HunyuanDiT2DModel", "whole"): "time_extra_emb.pooler",
    # computes tokens before records
    ("ErnieImageTransformer2DModel", "whole"): "laid out by record",
    # experts read one parameter by matrix products
    ("NucleusMoEImageTransformer2DModel", "whole"): "experts",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in DENOISERS]
)
def test_exact_or_refused_by_name(name, method):
    found = verdict(DENOISERS[name], method)
    if (name, method) in REFUSED:
        assert REFUSED[name, method] in found.refused
    else:
        assert not found.refused
        assert found.error is not None and found.error < BAR, found.error


def table() -> None:
    """Prints the rows."""
    print("|class|whole|attention|LoRA|error|\n|---|---|---|---|---|")
    for name, denoiser in DENOISERS.items():
        found = [verdict(denoiser, method) for method in METHODS]
        errors = [v.error for v in found if v.error is not None]
        worst = f"{max(errors):.0e}" if errors else "-"
        print(f"|{name}|{'|'.join(map(str, found))}|{worst}|", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    table()
