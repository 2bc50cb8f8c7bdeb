"""What a denoiser is told, one row for each picture: a tensor, or several under the family's names.

Stable Diffusion reads one tensor of text; SDXL reads text, a pooled text and sizes; a transformer
reads text with its mask. Rows never mix: all functions here act on whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

Conditioning = torch.Tensor | Mapping[str, torch.Tensor]


def each(told: Conditioning, act: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
    """`act` on every tensor."""
    if isinstance(told, torch.Tensor):
        return act(told)
    return {name: act(part) for name, part in told.items()}


def tensors(told: Conditioning) -> dict[str, torch.Tensor]:
    """Its tensors by name; a single one has none."""
    return {"": told} if isinstance(told, torch.Tensor) else dict(told)


def rows(told: Conditioning, index: torch.Tensor | slice) -> Conditioning:
    """The rows at `index`."""
    return each(told, lambda part: part[index])


def repeat(told: Conditioning, count: int) -> Conditioning:
    """`count` times a conditioning of one row, without copying it."""
    return each(told, lambda part: part.expand(count, *part.shape[1:]))


def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
    """Rows of the first, then of the second, and so on; all of one family."""
    first = parts[0]
    if isinstance(first, torch.Tensor):
        return torch.cat([tensors(part)[""] for part in parts])
    return {name: torch.cat([tensors(part)[name] for part in parts]) for name in first}


def where(choose: torch.Tensor, yes: Conditioning, no: Conditioning) -> Conditioning:
    """Row by row `yes` where `choose` bool [B] holds, else `no`, in whose number format."""

    def of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.where(choose.view(-1, *[1] * (b.ndim - 1)), a.to(b.dtype), b)

    if isinstance(no, torch.Tensor):
        return of(tensors(yes)[""], no)
    other = tensors(yes)
    return {name: of(other[name], part) for name, part in no.items()}
