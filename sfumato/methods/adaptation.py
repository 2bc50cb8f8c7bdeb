"""What a method hands to the loop: what trains, the per-record loss, and how to save the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..bases import Base
from ..privacy.mechanisms.votes import Probe
from ..training.objective import Batch, denoising_losses
from .interface import LEARNING_RATE, TOKEN_LEARNING_RATE, Given
from .inversion.handover import Handover


@dataclass(frozen=True)
class Adaptation:
    """One method applied to one base.

    `base` is what is adapted. `model` holds every module that trains, `trainable` its tensors by
    name, `row_losses` the objective and `exact_losses` the same in single precision (for self-
    checks), `learning_rate` what the method trains at unless told otherwise, `learning_rate_factor`
    exceptions to the common rate, `targets` the adapted modules' full names, `save(folder)` writes
    what may leave, `rank` that of the adapters. `probe` is a ranking of `groups` (name -> matrices)
    to be paid for before training (None: nothing left to choose), with at most `probe_share` more
    training noise; until it is made, all candidates are adapted. What is chosen as one is also
    clipped as one, where clipping is per group (`clip_groups`). `inversion`: nothing trains in the
    loop, embeddings of single images are put together instead.
    """

    base: Base
    model: nn.Module
    trainable: dict[str, nn.Parameter]
    row_losses: Callable[[Batch], torch.Tensor]
    exact_losses: Callable[[Batch], torch.Tensor]
    save: Callable[[Path], None]
    targets: tuple[str, ...]
    learning_rate: float = LEARNING_RATE
    learning_rate_factor: dict[str, float] = field(default_factory=dict)
    rank: int | None = None
    probe: Probe | None = None
    probe_share: float = 0.02
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inversion: Handover | None = None

    @property
    def most_trainable(self) -> int:
        """Numbers that train, at most, once the probe has chosen; those of an aggregation."""
        if self.inversion is not None:
            return self.inversion.geometry.dimensions * len(self.inversion.placeholders)
        if self.probe is None:
            return sum(p.numel() for p in self.trainable.values())
        size = {
            group: sum(self.trainable[n].numel() for n in names)
            for group, names in self.clip_groups.items()
        }
        rest = sum(count for group, count in size.items() if group not in self.groups)
        return rest + sum(sorted(size[group] for group in self.groups)[-self.probe.keep :])

    @property
    def clip_groups(self) -> dict[str, list[str]]:
        """Group -> names of its tensors, a partition of what trains: what is chosen as one
        (saliency), an adapted matrix, an attention block; tensors of no target go by module, which
        makes the class tokens a group of their own.
        """
        prefix = self.base.prefix
        owner = {f"{prefix}.{target}.": target for target in self.targets}
        owner |= {
            f"{prefix}.{matrix}.": group
            for group, members in self.groups.items()
            for matrix in members
        }
        found: dict[str, list[str]] = {}
        for name in self.trainable:
            group = next(
                (owner[start] for start in owner if name.startswith(start)), name.rpartition(".")[0]
            )
            found.setdefault(group, []).append(name)
        return found

    @property
    def clip_group_count(self) -> int:
        """How many groups there are once the probe has chosen: known, and public, before it has."""
        rest = [group for group in self.clip_groups if group not in self.groups]
        return len(self.clip_groups) if self.probe is None else len(rest) + self.probe.keep


def adaptation(
    base: Base,
    given: Given,
    trainable: dict[str, nn.Parameter],
    targets: list[str],
    save: Callable[[Base, Path], None],
    learning_rate: float,
) -> Adaptation:
    """Join a method's choice of denoiser tensors with the conditioning embedder, if there
    is one.
    """
    model = nn.ModuleDict({base.prefix: base.denoiser})
    named = {f"{base.prefix}.{name}": tensor for name, tensor in trainable.items()}
    for tensor in trainable.values():
        tensor.requires_grad_(True)
    prompts, empty = given.prompts, base.condition([""])
    factors: dict[str, float] = {}

    if prompts.placeholders:
        ids = base.add_tokens(prompts.placeholders, prompts.initializers)
        encoder = base.token_encoder(prompts.prompts, ids)
        model["tokens"] = encoder.tokens
        named["tokens.weight"] = encoder.tokens.weight
        factors["tokens.weight"] = TOKEN_LEARNING_RATE / learning_rate

        def embed(label: torch.Tensor) -> torch.Tensor:
            context = encoder(label.clamp(min=0))
            return torch.where((label < 0)[:, None, None], empty.to(context.dtype), context)

    else:
        table = torch.cat([base.condition(prompts.prompts), empty])

        def embed(label: torch.Tensor) -> torch.Tensor:
            return table[label]  # -1 is the last row, the empty prompt

    def save_all(folder: Path) -> None:
        if prompts.placeholders:
            base.write_embeddings(ids, encoder.tokens.weight.detach())
        save(base, folder)

    return Adaptation(
        base,
        model,
        named,
        denoising_losses(base, embed, given.precision),
        denoising_losses(base, embed, torch.float32),
        save_all,
        tuple(targets),
        learning_rate,
        factors,
    )


def save_whole(base: Base, folder: Path) -> None:
    """Save the base with what was trained in it."""
    base.save(folder)
