"""Frozen weights in the precision that they are stored in: the same numbers, half the memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sfumato.compute.stored import Stored, copied, halved, pack, unpack, unpacked

HALVES = (torch.float16, torch.bfloat16)


class Small(nn.Module):
    """One of each kind of layer that keeps its weight, two of which share one, and a norm."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.register_buffer("table", torch.linspace(0, 1, 8), persistent=False)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.second(torch.relu(self.first(self.words(ids) + x))) * self.table)
        return self.conv(y.view(-1, 2, 2, 2)).flatten(1)


def pair(half: torch.dtype) -> tuple[Small, Small]:
    """A model whose numbers half precision holds, in single precision; and the same kept so."""
    torch.manual_seed(0)
    plain = Small().to(half).float().requires_grad_(False)
    packed = copy.deepcopy(plain).to(half)
    pack(packed)
    packed.get_buffer("table").copy_(plain.get_buffer("table"))
    return plain, packed


def passed(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What it computes, and the gradient at its input."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(5, 8, generator=g, requires_grad=True)
    y = model(torch.arange(5), x)
    return y.detach(), torch.autograd.grad(y.float().square().sum(), x)[0]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("products", [None, *HALVES])
def test_passes_are_the_same_to_the_last_bit(half, products):
    plain, packed = pair(half)
    mixed = torch.autocast("cpu", products or torch.float32, enabled=products is not None)
    with mixed:
        for a, b in zip(passed(plain), passed(packed), strict=True):
            assert torch.equal(a, b)


def test_matrices_stay_as_stored_and_all_else_is_single():
    _, packed = pair(torch.bfloat16)
    stored = {n for n, p in packed.named_parameters(remove_duplicate=False) if type(p) is Stored}
    assert stored == {"words.weight", "first.weight", "second.weight", "conv.weight"}
    assert packed.first.weight is packed.second.weight
    assert {t.dtype for t in (*packed.parameters(), *packed.buffers())} == {torch.float32}
    assert not any(p.requires_grad for p in packed.parameters())


def test_numbers_that_half_precision_rounds_are_left_alone():
    model = Small().requires_grad_(False)
    with torch.no_grad():
        model.conv.weight.copy_(model.conv.weight.half())
    before = copy.deepcopy(model.state_dict())
    pack(model, [torch.float16])
    assert type(model.conv.weight) is Stored and type(model.first.weight) is nn.Parameter
    for name, value in model.state_dict().items():
        assert torch.equal(unpacked(value), before[name])


def test_the_graph_holds_the_stored_numbers_and_no_copy():
    held = []
    _, packed = pair(torch.float16)
    x = torch.randn(3, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        packed.first(x)
    weights = [t for t in held if t.shape == (8, 8)]
    assert weights and all(isinstance(t, Stored) for t in weights)
    assert weights[0].kept.data_ptr() == packed.first.weight.kept.data_ptr()


@pytest.mark.parametrize("write", ["add_", "mul_", "zero_", "copy_"])
def test_writing_into_them_is_refused(write):
    _, packed = pair(torch.float16)
    weight = packed.first.weight
    given = {"add_": (1.0,), "mul_": (2.0,), "zero_": (), "copy_": (torch.zeros(8, 8),)}[write]
    for target in (weight, weight.data, weight[0]):
        with torch.no_grad(), pytest.raises(RuntimeError, match="unpack it first"):
            getattr(target, write)(*given if write != "copy_" else (torch.zeros(target.shape),))


WRITES = {
    "out=": lambda weight: torch.add(torch.ones(8, 8), 1, out=weight),
    "many at a time": lambda weight: torch._foreach_add_([weight], 1.0),
    "after others": lambda weight: torch._foreach_mul_([torch.ones(2), weight], [1.0, 2.0]),
    "data": lambda weight: setattr(weight, "data", torch.zeros(8, 8)),
    "its own half precision": lambda weight: weight.half().mul_(2),
    "a part in half precision": lambda weight: weight[1:].to(torch.float16).zero_(),
    "a part": lambda weight: weight.unbind(0)[0].zero_(),
    "a diagonal": lambda weight: weight.diagonal().zero_(),
}


@pytest.mark.parametrize("way", WRITES)
def test_no_way_of_writing_is_lost_or_reaches_the_stored_numbers(way):
    _, packed = pair(torch.float16)
    weight = packed.first.weight
    before = weight.kept.clone()
    with torch.no_grad(), pytest.raises(RuntimeError, match="unpack it first"):
        WRITES[way](weight)
    assert torch.equal(weight.kept, before)


def test_an_optimiser_that_is_given_one_is_refused_and_not_ignored():
    _, packed = pair(torch.float16)
    weight = packed.first.weight.requires_grad_(True)
    weight.grad = torch.ones(8, 8)
    with pytest.raises(RuntimeError, match="unpack it first"):
        torch.optim.AdamW([weight], lr=1e-3, foreach=True).step()


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.unbind(0)[3],
        lambda w: w.diagonal(),
        lambda w: w.unfold(0, 2, 2),
        lambda w: w.split([3, 5])[1],
        lambda w: w.flatten(),
        lambda w: w.half().t(),
        lambda w: w.view(torch.int32),
    ],
)
def test_views_are_those_of_plain_weights(view):
    plain, packed = pair(torch.float16)
    found, right = unpacked(view(packed.first.weight)), view(plain.first.weight)
    assert found.dtype == right.dtype and torch.equal(found, right)


def test_unpacked_ones_are_the_same_objects_and_train():
    plain, packed = pair(torch.float16)
    weight = packed.first.weight
    unpack(packed.parameters())
    assert packed.first.weight is weight is packed.second.weight and type(weight) is nn.Parameter
    assert torch.equal(weight, plain.first.weight)
    optimiser = torch.optim.AdamW([weight.requires_grad_(True)], lr=1e-3)
    packed(torch.arange(2), torch.ones(2, 8)).sum().backward()
    optimiser.step()
    assert not torch.equal(weight, plain.first.weight)


def test_what_is_written_to_a_disk_is_what_plain_weights_would_be():
    for half in HALVES:
        plain, packed = pair(half)
        for (name, a), (_, b) in zip(
            plain.to(torch.float16).state_dict().items(), halved(packed).state_dict().items()
        ):
            assert type(b) is torch.Tensor and torch.equal(a, b), name
    assert type(packed.first.weight) is Stored  # the model itself is as it was


def test_a_copy_converts_each_tensor_once():
    seen = []
    _, packed = pair(torch.float16)
    made = copied(packed, lambda t: seen.append(t) or unpacked(t).clone())
    assert (
        len(seen) == len(list(packed.parameters())) + 1 and made.first.weight is made.second.weight
    )
