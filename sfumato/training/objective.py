"""The per-record denoising loss, and the batch of units that it is computed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from ..bases import Base, caption_base
from ..bases.conditioning import Conditioning, where
from ..compute.device import pinned, to_device
from ..compute.precision import Stage, mixed_precision

NO_TEXT = torch.zeros(0, dtype=torch.int64)


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
    that cannot be used. text: int64 [B, K, L], the token ids of the caption that each draw reads,
    -1 where there is none and the prompt of the class stands in its place; L is 0 where captions
    train nothing.
    """

    mean: torch.Tensor
    std: torch.Tensor
    label: torch.Tensor
    latent_noise: torch.Tensor
    noise: torch.Tensor
    time: torch.Tensor
    drop: torch.Tensor
    weight: torch.Tensor
    text: torch.Tensor = field(default_factory=lambda: NO_TEXT)

    def __post_init__(self) -> None:
        if self.text is NO_TEXT:
            none = self.label.new_zeros(*self.label.shape, 0)
            object.__setattr__(self, "text", none)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice | torch.Tensor) -> Batch:
        return self.each(lambda value: value[part])

    def each(self, act: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """`act` on every tensor."""
        return Batch(**{n: act(value) for n, value in vars(self).items()})

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
        if batch.text.shape[-1]:
            # in single precision, as the prompts of classes are read
            told = caption_base(base)
            condition = captioned(told, batch.text.flatten(0, 1), label, condition)
        with mixed_precision(base.formats.of(precision), noisy):
            predicted = base.predict(noisy, time, condition)
        del condition  # what the backward pass needs of it, that keeps
        return (predicted.float() - target).pow(2).mean((1, 2, 3)) * batch.weight.flatten()

    return row_losses


def captioned(
    base: Base, text: torch.Tensor, label: torch.Tensor, otherwise: Conditioning
) -> Conditioning:
    """Conditions of captions, and `otherwise` where a row has none, or is told nothing.

    Args:
        base: A base that reads captions.
        text: int64 [rows, L], -1 without a caption.
        label: int64 [rows], -1 for the empty prompt.
        otherwise: A row for each label.

    Returns:
        A row for each.
    """
    has = (text[:, 0] >= 0) & (label >= 0)
    return where(has, base.condition_of_tokens(text.clamp(min=0)), otherwise)
