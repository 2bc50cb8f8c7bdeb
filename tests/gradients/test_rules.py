"""Further kinds of layers and reads, each against one-at-a-time autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfumato.gradients import Engine
from sfumato.gradients.scores import gradient_squares

from .helpers import STRATEGIES, Case, assert_parity, reference

RUNS = [(s, m) for s in STRATEGIES for m in (None, 2)]


def case_of(
    model: nn.Module, use: Callable[[nn.Module, Tensor], Tensor], shape: tuple[int, ...], draws: int
) -> Case:
    """Five records of `shape`, float64, whose loss is a bent mean of what `use` makes of a row."""
    model = model.double()
    x = torch.randn(5, draws, *shape, dtype=torch.float64)

    def rows(i):
        out = use(model, x[i].flatten(0, 1))
        return out.reshape(len(i) * draws, -1).sin().mean(1)

    return Case(model, dict(model.named_parameters()), rows, torch.arange(5), draws)


CONVOLUTIONS = {
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 6, 5)),
    "grouped 1x1": (nn.Conv2d(4, 6, 1, groups=2, bias=False), (4, 5, 3)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding="same", groups=4), (4, 5, 6)),
    "depthwise, more out": (nn.Conv2d(3, 6, 3, stride=2, groups=3), (3, 7, 5)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2, padding="same"), (3, 6, 6)),
    "transposed": (nn.ConvTranspose2d(3, 4, 2, stride=2), (3, 3, 4)),
    "transposed, wide": (
        nn.ConvTranspose2d(4, 6, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2),
        (4, 3, 3),
    ),
    "transposed, dilated": (nn.ConvTranspose2d(2, 3, 3, dilation=2, bias=False), (2, 4, 3)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("draws", [1, 3])
def test_convolutions(kind, draws):
    torch.manual_seed(0)
    module, shape = CONVOLUTIONS[kind]
    case = case_of(nn.ModuleList([module]), lambda m, x: m[0](x), shape, draws)
    assert_parity(case, 1e-10, RUNS)


def test_a_transposed_convolution_whose_call_names_the_size_and_one_called_twice():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)])

    def use(m, x):
        return m[0](m[0](x, output_size=(6, 6)))

    assert_parity(case_of(model, use, (2, 3, 3), 2), 1e-10, RUNS)


def test_scores_of_a_grouped_convolution():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Conv2d(4, 6, 3, groups=2, bias=False)])
    case = case_of(model, lambda m, x: m[0](x), (4, 5, 5), 2)
    _, norms, _ = reference(case)
    found = torch.cat(
        list(gradient_squares(model, case.trainable, case.rows, case.records, draws=2))
    )
    assert torch.allclose(found[:, 0], norms.square(), rtol=1e-10)


class Float32Norm(nn.LayerNorm):
    """As diffusers' FP32LayerNorm: a forward of its own around the function."""

    def forward(self, inputs):
        weight, bias = self.weight.float(), self.bias.float()
        shape = self.normalized_shape
        return F.layer_norm(inputs.float(), shape, weight, bias, self.eps).to(inputs.dtype)


class RootNorm(nn.Module):
    """A weight about one, read by the function (Krea)."""

    def __init__(self, weight=(4,)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(weight))

    def forward(self, x):
        return F.rms_norm(x, tuple(self.weight.shape), weight=self.weight + 1.0, eps=1e-5)


class GroupedNorm(nn.GroupNorm):
    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps) * 2


class DoubleNorm(nn.LayerNorm):
    def forward(self, x):
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-3)


class OwnRoot(nn.RMSNorm):
    def forward(self, x):
        return torch.rms_norm(x, self.normalized_shape, self.weight, 1e-3)


NORMS = {
    "rms_norm": (RootNorm(), (3, 4)),
    "rms_norm over two": (RootNorm((3, 4)), (2, 3, 4)),
    "group_norm": (GroupedNorm(2, 4), (4, 3, 2)),
    "layer_norm": (DoubleNorm(4), (3, 4)),
    "an RMSNorm with its own forward": (OwnRoot(4), (3, 4)),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("draws", [1, 3])
def test_normalisations_that_read_their_weight(kind, draws):
    torch.manual_seed(0)
    module, shape = NORMS[kind]
    model = nn.ModuleList([module])
    case = case_of(model, lambda m, x: m[0](x), shape, draws)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    assert_parity(case, 1e-10, RUNS)
    for part in ("weight", "bias"):
        half = case.only(lambda name, part=part: name.endswith(part))
        if half.trainable:
            assert_parity(half, 1e-10, RUNS)


def test_a_layer_norm_in_single_precision():
    """FP32LayerNorm itself, in float32 and with what it is given in bfloat16."""
    kinds = pytest.importorskip("diffusers.models.normalization")
    torch.manual_seed(0)
    for kind in (kinds.FP32LayerNorm, Float32Norm):
        model = nn.ModuleList([kind(4)])
        x = torch.randn(5, 2, 3, 4)

        def rows(i, model=model, x=x):
            return model[0](x[i].flatten(0, 1)).sin().mean((1, 2))

        case = Case(model, dict(model.named_parameters()), rows, torch.arange(5), 2)
        assert_parity(case, 5e-5, RUNS)


class Reads(nn.Module):
    """A table [1, 9, 4] of which places are read by index, and tokens that are repeated."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 9, 4))
        self.tokens = nn.Parameter(torch.randn(1, 2, 4))
        self.flat = nn.Parameter(torch.randn(9, 4))

    def forward(self, x):
        places = torch.tensor([0, 5, 5])
        x = x + self.table[:, places] + self.flat.index_select(0, places)
        x = torch.cat([self.tokens.repeat(x.shape[0], 1, 1), x], dim=1)
        return x * self.tokens.repeat(1, 2, 1)[:, 1:].squeeze(0)[torch.tensor([0, 1, 2, 0, 1])]


@pytest.mark.parametrize("draws", [1, 3])
def test_reads_by_index_and_repeat(draws):
    torch.manual_seed(0)
    assert_parity(case_of(Reads(), lambda m, x: m(x), (3, 4), draws), 1e-10, RUNS)


class Packed(nn.Module):
    """Rows and tokens as one dimension, as text embedders and Z-Image have them."""

    def __init__(self):
        super().__init__()
        self.lin, self.norm = nn.Linear(4, 3), nn.LayerNorm(3)
        self.pad = nn.Parameter(torch.randn(1, 3))
        self.words = nn.Embedding(5, 3)

    def forward(self, x):
        rows, tokens, _ = x.shape
        packed = self.norm(self.lin(x.reshape(rows * tokens, 4)))
        packed = torch.where(x.reshape(rows * tokens, 4)[:, :1] > 0.5, self.pad, packed)
        ids = (x[..., 0].abs() * 2).long().clamp(max=4).reshape(rows * tokens)
        return (packed + self.words(ids)).view(rows, tokens, 3).square()


@pytest.mark.parametrize("draws", [1, 3])
def test_packed_rows(draws):
    torch.manual_seed(0)
    assert_parity(case_of(Packed(), lambda m, x: m(x), (6, 4), draws), 1e-10, RUNS)


@pytest.mark.parametrize("shape", [(), (4,), (4, 3)])
@pytest.mark.parametrize("padding", [None, 0, 5])
@pytest.mark.parametrize("draws", [1, 2])
def test_embeddings(shape, padding, draws):
    """Ids of one to three dimensions; the padding row learns nothing, for autograd neither."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Embedding(6, 3, padding_idx=padding)]).double()
    with torch.no_grad():
        model[0].weight.normal_()
    ids = torch.randint(0, 6, (5, draws, *shape))
    ids[:, 0] = ids[:, 0].clamp(1, 4)  # every record has something to learn

    def rows(i):
        return model[0](ids[i].flatten(0, 1)).sin().reshape(len(i) * draws, -1).mean(1)

    case = Case(model, dict(model.named_parameters()), rows, torch.arange(5), draws)
    assert_parity(case, 1e-10, RUNS)
    if padding is not None:
        with Engine(model, case.trainable) as engine:
            sums, _ = engine.clipped_sum(rows, case.records, draws=draws, clip=torch.ones_like)
        assert not sums["0.weight"][padding].any()


class Writes(nn.Module):
    """Writes into the outputs of its layers, as NCSN++ and GlmImage do."""

    def __init__(self):
        super().__init__()
        self.lin, self.conv, self.norm = nn.Linear(4, 4), nn.Conv2d(2, 2, 3), nn.LayerNorm(4)
        self.words = nn.Embedding(5, 4)
        self.act = nn.ReLU(inplace=True)

    def body(self, x):
        h = self.lin(x)
        h += x
        h.mul_(2)[:, 0] = 0.5
        h = self.act(self.norm(h))
        word = self.words(x[:, 0, :1].abs().long().clamp(max=4))
        word -= h[:, :1]
        pixels = self.conv(torch.cat([h, word], 1)[:, None].expand(-1, 2, -1, -1))
        pixels /= 3
        return pixels.flatten(1).clone().sin_()

    def forward(self, x):
        if self.training:
            return checkpoint(self.body, x, use_reentrant=False)
        return self.body(x)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_models_that_write_into_outputs(draws, training):
    torch.manual_seed(0)
    case = case_of(Writes().train(training), lambda m, x: m(x), (3, 4), draws)
    assert_parity(case, 1e-10, RUNS)


def test_a_write_into_what_the_engine_keeps_is_loud():
    """An input that is written into after the call: its weight's gradient would be another one."""
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    x = torch.randn(5, 4)

    def rows(i):
        h = model[0](x[i])
        out = model[1](h)
        h += 1
        return (out + h).square().sum(1)

    with Engine(model, dict(model.named_parameters())) as engine:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            engine.clipped_sum(rows, torch.arange(5), clip=torch.ones_like)
