"""The per-record denoising loss, and the batch of units that it is computed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ..bases import Base
from ..bases.conditioning import Conditioning, each, where
from ..compute.device import pinned, to_device
from ..compute.precision import Stage, mixed_precision

NONE = torch.zeros(0, dtype=torch.bool)
READ = ("text", "captioned")  # what a batch holds of the captions that its draws read


class Trainable(Protocol):
    """What the loop needs of an adaptation (`methods.adaptation.Adaptation`)."""

    @property
    def base(self) -> Base:
        """The adapted base."""
        ...

    @property
    def model(self) -> nn.Module:
        """Holds every module that is used."""
        ...

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The tensors that train, by name."""
        ...

    @property
    def row_losses(self) -> Callable[[Batch], torch.Tensor]:
        """Batch -> losses [B*K], one per row."""
        ...

    @property
    def clip_groups(self) -> dict[str, list[str]]:
        """Group -> names of tensors that share a clip."""
        ...


@dataclass(frozen=True)
class Batch:
    """B units with K draws each; slices by unit.

    mean, std: [B, K, C, h, w] latent posterior of the image that each draw looks at. label: int64
    [B, K]. latent_noise, noise: [B, K, C, h, w] standard normal. time: int64 [B, K] diffusion
    times. drop: bool [B, K], replace the prompt by the empty one. weight: [B, K], 0 for an image
    that cannot be used. text: what the base is told by the caption that each draw reads, tensors
    [B, K, ...] by the names of its conditions, and captioned: bool [B, K], whether there is one;
    elsewhere the prompt of the class stands in its place. Empty where captions train nothing.
    """

    mean: torch.Tensor
    std: torch.Tensor
    label: torch.Tensor
    latent_noise: torch.Tensor
    noise: torch.Tensor
    time: torch.Tensor
    drop: torch.Tensor
    weight: torch.Tensor
    text: Mapping[str, torch.Tensor] = field(default_factory=dict)
    captioned: torch.Tensor = field(default_factory=lambda: NONE)

    def __post_init__(self) -> None:
        if self.captioned is NONE:
            none = torch.zeros_like(self.label, dtype=torch.bool)
            object.__setattr__(self, "captioned", none)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice | torch.Tensor) -> Batch:
        return self.each(lambda value: value[part])

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name, those of captions under names of their own."""
        found = {n: value for n, value in vars(self).items() if n != "text"}
        return found | {f"text {name}": value for name, value in self.text.items()}

    def each(self, act: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """`act` on every tensor."""
        made: dict[str, Any] = {n: each(value, act) for n, value in vars(self).items()}
        return Batch(**made)

    def pinned(self) -> Batch:
        """The batch in memory from which a device copies while the processor goes on."""
        return self.each(pinned)

    def to(self, where: torch.device) -> Batch:
        """The batch on a device; from host memory it is copied while the processor goes on."""
        return self.each(lambda value: to_device(value, where))


def denoising_losses(
    base: Base,
    prompt_embeddings: Callable[[torch.Tensor], Conditioning],
    precision: Stage | torch.dtype = "train",
) -> Callable[[Batch], torch.Tensor]:
    """The base's own training objective, one mean per row.

    Nothing in it couples two rows.

    Args:
        base: The base.
        prompt_embeddings: Labels int64 [rows] -> conditions, a row each; label -1 is the empty
            prompt.
        precision: Of the denoiser's products: a format, or the base's own for a stage.

    Returns:
        A function Batch -> row losses [B*K], unit-major, on the base's device; the batch may be in
        host memory.
    """

    def row_losses(batch: Batch) -> torch.Tensor:
        batch = batch.to(base.device)
        latent = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1)
        noise, time = batch.noise.flatten(0, 1), batch.time.flatten()
        noisy, target = base.corrupt(latent, noise, time)
        label = torch.where(batch.drop, -1, batch.label).flatten()
        with mixed_precision(base.formats.of(precision), noisy):
            condition = prompt_embeddings(label)
        if batch.text:
            condition = captioned(batch, label, condition)
        with mixed_precision(base.formats.of(precision), noisy):
            predicted = base.predict(noisy, time, condition)
        del condition  # what the backward pass needs of it, that keeps
        return (predicted.float() - target).pow(2).mean((1, 2, 3)) * batch.weight.flatten()

    return row_losses


def captioned(batch: Batch, label: torch.Tensor, otherwise: Conditioning) -> Conditioning:
    """What captions tell, and `otherwise` where a row has none, or is told nothing.

    Args:
        batch: With captions.
        label: int64 [rows], -1 for the empty prompt.
        otherwise: A row for each label.

    Returns:
        A row for each.
    """
    has = batch.captioned.flatten() & (label >= 0)
    return where(has, each(batch.text, lambda part: part.flatten(0, 1)), otherwise)
