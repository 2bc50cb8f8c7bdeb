"""The result of applying a method to a base: what trains, the loss per record, and how to save."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import nn

from ..bases import Base, save_embeds, text_base
from ..bases.conditioning import Conditioning, concatenate, rows, where
from ..errors import ModelError
from ..training.objective import Batch, denoising_losses
from .given import LEARNING_RATE, TOKEN_LEARNING_RATE, Given
from .prompts import Prompts


@dataclass(frozen=True)
class Adapted:
    """One method applied to one base.

    Attributes:
        base: The adapted base.
        model: Holds every module that is used.
        trainable: The tensors that train, by name.
        save: `save(folder)` writes what may be released.
        targets: The adapted modules' full names.
        learning_rate: The method's own, unless the recipe sets another.
        rank: Of the adapters.
        reads_prompts: Whether training goes through what reads prompts.
    """

    base: Base
    model: nn.Module
    trainable: dict[str, nn.Parameter]
    save: Callable[[Path], None]
    targets: tuple[str, ...]
    learning_rate: float = LEARNING_RATE
    rank: int | None = None
    reads_prompts: bool = False

    @property
    def most_trainable(self) -> int:
        """Numbers that are learnt, at most."""
        return sum(p.numel() for p in self.trainable.values())


@dataclass(frozen=True, kw_only=True)
class Adaptation(Adapted):
    """What the loop trains.

    `row_losses` is the objective and `exact_losses` the same in single precision (for self-checks);
    `learning_rate_factor` exceptions to the common rate; `condition` the denoiser's condition of
    each label int64 [B] as it is now, -1 for the empty prompt; `classes` how many labels there are.
    """

    row_losses: Callable[[Batch], torch.Tensor]
    exact_losses: Callable[[Batch], torch.Tensor]
    learning_rate_factor: dict[str, float] = field(default_factory=dict)
    condition: Callable[[torch.Tensor], Conditioning] | None = None
    classes: int = 0

    def conditions(self, classes: int) -> Conditioning:
        """The condition of each class, and last of the empty prompt, as they are now."""
        assert self.condition is not None  # what a method adapts has one
        with torch.no_grad():
            return self.condition(torch.arange(-1, classes, device=self.base.device).roll(-1))

    def without(self, names: Collection[str]) -> Self:
        """The same without tensors that nothing can teach (`reach.left_out`): they stay frozen."""
        if unknown := set(names) - set(self.trainable):
            raise ModelError(
                f"{min(unknown)} was left out of what trains, and is no tensor of this base"
            )
        for name in names:
            self.trainable[name].requires_grad_(False)
        rest = {name: p for name, p in self.trainable.items() if name not in names}
        return replace(self, trainable=rest)

    @property
    def owners(self) -> Mapping[str, str]:
        """Start of a tensor's name -> the group of tensors that it belongs to."""
        return {f"{self.base.prefix}.{target}.": target for target in self.targets}

    @property
    def clip_groups(self) -> dict[str, list[str]]:
        """Group -> names of its tensors, a partition of what trains.

        A group is an adapted matrix, an attention block, or what is chosen as one; tensors of no
        target go by module, which makes the class tokens a group of their own.
        """
        owner = self.owners
        found: dict[str, list[str]] = {}
        for name in self.trainable:
            group = next(
                (owner[start] for start in owner if name.startswith(start)), name.rpartition(".")[0]
            )
            found.setdefault(group, []).append(name)
        return found

    @property
    def clip_group_count(self) -> int:
        """How many groups train; known, and public, before any choice among them is made."""
        return len(self.clip_groups)


def adaptation(
    base: Base,
    given: Given,
    trainable: dict[str, nn.Parameter],
    targets: list[str],
    save: Callable[[Base, Path], None],
    learning_rate: float,
    *,
    whole: bool = False,
) -> Adaptation:
    """Joins a method's choice of denoiser tensors with the conditioning embedder, if any.

    Args:
        base: The adapted base.
        given: Prompts, and public or paid answers.
        trainable: The denoiser's tensors that train, by name.
        targets: Full names of the adapted modules.
        save: `save(base, folder)` writes what may be released.
        learning_rate: The method's own.
        whole: Everything of the denoiser trains: so do the rows in use of a class table.
    """
    model = nn.ModuleDict({base.prefix: base.denoiser})
    named = {f"{base.prefix}.{name}": tensor for name, tensor in trainable.items()}
    for tensor in trainable.values():
        tensor.requires_grad_(True)
    prompts, empty = given.prompts, base.condition([""])
    factors: dict[str, float] = {}

    tokens = prompts.tokens
    added = text_base(base).add_tokens(list(tokens), list(tokens.values())) if tokens else []
    ids = (whole and base.rows_of(prompts.prompts)) or prompts.ids(added)
    taught = list(dict.fromkeys(i for i in ids if i is not None))
    if taught:
        words = text_base(base)
        encoder = words.token_encoder(prompts.prompts, ids)
        vectors = encoder.get_submodule("tokens")
        model["tokens"] = vectors
        named["tokens.weight"] = vectors.get_parameter("weight")
        factors["tokens.weight"] = TOKEN_LEARNING_RATE / learning_rate

        def embed(label: torch.Tensor) -> Conditioning:
            context = encoder(label.clamp(min=0))
            return where(label < 0, empty, context)

    else:
        table = concatenate([base.condition(prompts.prompts), empty])

        def embed(label: torch.Tensor) -> Conditioning:
            return rows(table, label)  # -1 is the last row, the empty prompt

    def save_all(folder: Path) -> None:
        if taught:
            text_base(base).write_embeddings(taught, vectors.get_parameter("weight").detach())
        save(base, folder)

    return Adaptation(
        base,
        model,
        named,
        save_all,
        tuple(targets),
        learning_rate,
        row_losses=denoising_losses(base, embed),
        exact_losses=denoising_losses(base, embed, torch.float32),
        reads_prompts=bool(taught),
        learning_rate_factor=factors,
        condition=embed,
        classes=len(prompts.prompts),
    )


def save_tokens(base: Base, folder: Path, prompts: Prompts) -> None:
    """Saves the class tokens, if there are any, as `learned_embeds.safetensors`."""
    words = list(prompts.tokens)
    if words:
        held = text_base(base)
        rows, ids = held.word_vectors, held.token_ids(words)
        found = {w: rows[i][None] for w, i in zip(words, ids)}
        save_embeds(folder, found, held.token_parts)


def save_whole(base: Base, folder: Path) -> None:
    """Save the base with what was trained in it."""
    base.save(folder)
