"""The prompts beside a record in a pass: they shape its computation only where a family says so.

Kernels round by the shape of what they are given, so a neighbour's prompt that sets a shape tells
of itself in the last bits of a record's gradient: on some machines, for some tensors. Shapes are
the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.bases import Base, load_base
from sfumato.bases.conditioning import Conditioning, concatenate, rows
from sfumato.gradients import Engine
from sfumato.training import denoising_losses
from sfumato.training.dummy import dummy_rows
from tests.bases.text_families import EACH

SHORT, LONG = "cross", "a picture of a circle"
RAGGED = {"lumina_2", "z_image"}
FolderOf = Callable[[str], Path]


def told(base: Base) -> Conditioning:
    """Of the short prompt, the long one and the empty one."""
    return concatenate([base.condition([SHORT, LONG]), base.condition([""])])


def shapes(base: Base, labels: list[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Of all tensors that a layer of the denoiser is given, in their order."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    def hook(name: str) -> Callable[..., None]:
        def see(layer: Any, given: tuple[Any, ...]) -> None:
            seen.extend((name, tuple(x.shape)) for x in given if isinstance(x, torch.Tensor))

        return see

    layers = [(n, m) for n, m in base.denoiser.named_modules() if not list(m.children())]
    hooks = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    noisy = torch.zeros(len(labels), *base.latent_shape)
    with torch.no_grad():
        base.predict(noisy, torch.full((len(labels),), 500), rows(told(base), torch.tensor(labels)))
    for one in hooks:
        one.remove()
    assert len(seen) > 3
    return seen


@pytest.mark.parametrize("name", EACH)
def test_a_longer_prompt_beside_it_shapes_a_pass_only_where_the_family_says_so(
    name: str, folder_of: FolderOf
) -> None:
    base = load_base(folder_of(name))
    assert base.ragged == (name in RAGGED)
    assert (shapes(base, [0, 0, 0]) != shapes(base, [0, 1, 0])) == base.ragged


@pytest.mark.parametrize("name", sorted(RAGGED))
def test_alone_in_a_pass_a_record_has_its_own_gradient_to_the_bit(
    name: str, folder_of: FolderOf
) -> None:
    base = load_base(folder_of(name))
    query = next(n for n in base.learnable() if n.startswith("layers.") and "to_q.weight" in n)
    trainable = {query: dict(base.denoiser.named_parameters())[query].requires_grad_()}
    table, batch = told(base), dummy_rows(base, 2, 4, 1)
    losses = denoising_losses(base, lambda label: rows(table, label), torch.float32)

    def norm(beside: int, units: int | None) -> float:
        label = torch.full_like(batch.label, beside)
        label[0] = 0
        some, plain = replace(batch, label=label), torch.ones_like
        with Engine(base.denoiser, trainable) as engine:
            found = engine.clipped_sum(losses, some, draws=1, clip=plain, micro_batch=units)
        return float(found[1][0])

    assert norm(1, 1) == norm(0, 1) > 0
    assert norm(1, None) == pytest.approx(norm(0, None), rel=1e-4)  # no more than rounding
