"""Parameters that modules read directly and broadcast over rows: exact per-record gradients, or a
refusal by name.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from sfumato.gradients import Engine, self_check

from .helpers import STRATEGIES, Case, assert_parity, assert_same, autocast, engine, flat, reference


class Reads(nn.Module):
    """One way of reading each: table, gate, scale, positions, tokens, word; a list read by its
    parent; a sum of two.
    """

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.scale_shift_table = nn.Parameter(torch.randn(6, 4))
        self.gamma = nn.Parameter(torch.randn(4))
        self.gate = nn.Parameter(torch.randn(2))
        self.temperature = nn.Parameter(torch.randn(()))
        self.positions = nn.Parameter(torch.randn(1, 9, 4))
        self.tokens = nn.Parameter(torch.randn(2, 4))
        self.word = nn.Parameter(torch.randn(4))
        self.filler = nn.Parameter(torch.randn(1, 1, 4))
        self.last = nn.ParameterList([torch.randn(4), torch.randn(1, 4)])

    def modulate(self, h, t):
        mods = self.scale_shift_table[None] + t.reshape(len(h), 6, 4)
        shift, scale, gate, *more = mods.chunk(6, dim=1)
        h = gate * (self.lin(h) * (1 + scale) + shift) + more[0] * more[1].tanh() - more[2]
        return h * self.temperature.exp() + self.gamma.to(h.dtype) * h

    def forward(self, x, t, mask):
        rows = len(x)
        x = x.clone()
        x[:, 1] = self.word
        x[:, 2:4] = self.tokens.view(2, 4)
        x = torch.where(mask[..., None], self.filler / 2, x)
        h = torch.cat([self.tokens[None].expand(rows, -1, -1), x], dim=1)
        h = h + self.positions[:, : h.shape[1]].contiguous()
        h = (
            checkpoint(self.modulate, h, t, use_reentrant=False)
            if self.training
            else self.modulate(h, t)
        )
        h = torch.addcmul(h, h, 1 - (self.gamma + self.last[0]))
        h += self.last[1].unsqueeze(0).clone()
        first, second = self.gate.unbind()
        h = h.unflatten(-1, (2, 2)) * self.gate.tanh().reshape(2, 1) * first - second
        return h.square().mean((1, 2, 3))


def setting(draws=1, dtype=torch.float64, n=5):
    torch.manual_seed(0)
    model = Reads().to(dtype).eval()
    x, t = torch.randn(n, draws, 6, 4, dtype=dtype), torch.randn(n, draws, 24, dtype=dtype)
    mask = torch.rand(n, draws, 6) < 0.3

    def rows(i):
        return model(x[i].flatten(0, 1), t[i].flatten(0, 1), mask[i].flatten(0, 1))

    return Case(model, dict(model.named_parameters()), rows, torch.arange(n), draws)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
def test_parity(draws, dtype, bar):
    case = setting(draws, dtype)
    for training in (False, True):  # training: with checkpointing
        case.model.train(training)
        assert_parity(case, bar, [(s, m) for s in STRATEGIES for m in (None, 1, 2)])
    assert_parity(case.only(lambda name: not name.startswith("lin")), bar)
    for n in (0, 1):
        case.records = torch.arange(n)
        assert_same(engine(case, 0.1), reference(case, 0.1)[:2], bar)
    assert all(type(p) is nn.Parameter for p in case.model._parameters.values())


def test_bfloat16_autocast():
    case = setting(3, torch.float32)

    *right, bound = reference(case)
    case.rows = autocast(case.rows)
    assert_same(engine(case, bound), right, 1e-2, floor=1)


def test_non_finite_record():
    case = setting(3, torch.float32)
    clean, _, bound = reference(case)
    good = torch.tensor([0, 1, 3, 4])

    def poisoned(i):
        return case.rows(i) * torch.where(i == 2, torch.nan, 1.0).repeat_interleave(3)

    with Engine(case.model, case.trainable) as one_pass:
        right, _ = one_pass.clipped_sum(poisoned, good, draws=3, clip=flat(bound))
        sums, norms = one_pass.clipped_sum(poisoned, case.records, draws=3, clip=flat(bound))
    assert norms.isfinite().tolist() == [True, True, False, True, True]
    for name in clean:
        assert torch.allclose(sums[name], right[name], rtol=1e-5, atol=1e-6 * bound)


def test_rows_without_draws():
    """A parameter that meets one row per record, before the draws are taken."""
    torch.manual_seed(0)
    word = nn.Module()
    word.vector = nn.Parameter(torch.randn(4).double())
    lin = nn.Linear(4, 3).double()
    model = nn.ModuleDict({"word": word, "lin": lin})
    x, noise = torch.randn(5, 4).double(), torch.randn(5, 3, 3).double()

    def rows(i):
        context = lin((x[i] + word.vector).tanh()).repeat_interleave(3, 0)
        return ((context - noise[i].flatten(0, 1)) * (word.vector[:3] + 1)).square().sum(1)

    assert_parity(Case(model, dict(model.named_parameters()), rows, torch.arange(5), 3), 1e-10)


def pixart():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=2,
        num_layers=2,
        cross_attention_dim=8,
        caption_channels=6,
        sample_size=4,
        patch_size=2,
        norm_num_groups=2,
        use_additional_conditions=False,
    )


@pytest.mark.parametrize("tables_only", [True, False])
def test_pixart(tables_only):
    """scale_shift_table of the blocks and of the model, read by diffusers' own forward."""
    model = pixart().double()
    x, time = torch.randn(3, 2, 2, 4, 4).double(), torch.randint(0, 1000, (3, 2))
    context = torch.randn(3, 5, 6).double()

    def rows(i):
        shared = {
            "encoder_hidden_states": context[i].repeat_interleave(2, 0),
            "timestep": time[i].flatten(),
        }
        out = model(
            x[i].flatten(0, 1),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            **shared,
        )
        return out.sample.square().mean((1, 2, 3))

    case = Case(model, dict(model.named_parameters()), rows, torch.arange(3), 2)
    if tables_only:
        case = case.only(lambda name: "scale_shift_table" in name)
        assert len(case.trainable) == 3
    assert_parity(case, 1e-10)
    model.train()
    model.enable_gradient_checkpointing()
    assert_parity(case, 1e-10, [("auto", 2)])


class One(nn.Module):
    def __init__(self, use, shape=(4,)):
        super().__init__()
        self.use, self.lin = use, nn.Linear(4, 4)
        self.p = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        return self.use(self, self.lin(x))


REFUSED = {
    "matmul": (lambda m, x: x @ m.p, (4,), "`matmul`, which has no rule"),
    "linear": (lambda m, x: F.linear(x, m.p), (4, 4), "`linear`, which has no rule"),
    "norm": (lambda m, x: x * F.layer_norm(m.p, (4,)), (4,), "`layer_norm`, which normalises it"),
    "sum": (lambda m, x: x * m.p.sum(), (4,), "`sum`, which has no rule"),
    "softmax": (lambda m, x: x * m.p.softmax(0), (4,), "`softmax`, which has no rule"),
    "detach": (lambda m, x: x * m.p.detach() + m.p, (4,), "`detach`, which has no rule"),
    "data": (lambda m, x: x * m.p.data, (4,), "`data`, which has no rule"),
    "in place": (lambda m, x: x * m.p.mul_(2), (4,), "`mul`, which changes a tensor in place"),
    "own rows": (lambda m, x: x[:, 0] + m.p, (5, 4), "lays its dimension 0 .* along the rows"),
    "own rows, joined": (
        lambda m, x: torch.cat([x, m.p], 1),
        (5, 2, 4),
        "lays its dimension 0 .* along the rows",
    ),
    "other rows": (
        lambda m, x: (x.transpose(0, 1) + m.p).transpose(0, 1),
        (4,),
        "meets a tensor with 2 rows for 5",
    ),
    "wider": (lambda m, x: x[:, 0] + m.p, (1, 1, 4), "beside row tensors of 2 dimensions"),
    "two kinds": (lambda m, x: torch.addcmul(x, m.p, x[0, 0]), (4,), "which dimension is the rows"),
    "a weight": (lambda m, x: x * (m.p * m.lin.bias), (4,), "which dimension is the rows"),
    "row join": (
        lambda m, x: torch.cat([x, m.p[None, None].expand(5, 2, 4)]),
        (4,),
        "joins along the rows",
    ),
    "bare join": (lambda m, x: x + torch.cat([m.p, m.p])[:4], (4,), "joins it to no row tensor"),
    "mask": (lambda m, x: x + m.p[torch.ones(4).bool()], (4,), "`getitem`, which failed"),
    "index and number": (
        lambda m, x: x + m.p[0, :, torch.arange(4)],
        (2, 2, 4),
        "`getitem`, which failed",
    ),
    "ids of rows": (
        lambda m, x: x + m.p[torch.arange(5)][:, None],
        (7, 4),
        "lays its dimension 0 .* along the rows",
    ),
    "batch dimension": (
        lambda m, x: x + m.p.unbind(-2)[0],
        (4,),
        "`unbind`, which failed: dimension -2",
    ),
    "write": (
        lambda m, x: m.p.__setitem__(0, 1.0),
        (4,),
        "`setitem`, which changes a tensor in place",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_uses_name_parameter_module_and_function(case):
    use, shape, message = REFUSED[case]
    model = nn.ModuleDict({"block": One(use, shape)})
    x = torch.randn(5, 2, 4)
    with Engine(model, dict(model.named_parameters())) as one_pass:
        with pytest.raises(
            ValueError, match=rf"block: the broadcast parameter block\.p .*{message}"
        ):
            one_pass.clipped_sum(
                lambda i: model["block"](x[i]).sum((1, 2)), torch.arange(5), clip=torch.ones_like
            )
        assert "p" not in model["block"].__dict__ and type(model["block"].p) is nn.Parameter


def test_expanded_parameter():
    """One number in memory for four entries: each entry still has a gradient of its own."""
    model = nn.Module()
    model.p = nn.Parameter(torch.ones(1).expand(4))
    x = torch.randn(4, 4)
    case = Case(model, {"p": model.p}, lambda i: (x[i] * model.p).square().sum(1), torch.arange(4))
    assert_parity(case, 5e-5)
    case.rows = lambda i: (torch.zeros(len(i), 4) + model.p[:, None])[:, 0]
    with (
        Engine(model, case.trainable) as one_pass,
        pytest.raises(ValueError, match="along the rows"),
    ):
        one_pass.clipped_sum(case.rows, torch.arange(4), clip=torch.ones_like)


def test_read_past_the_attribute_is_refused():
    model = nn.ModuleDict({"block": One(lambda m, x: x * held)})
    held = model["block"].p
    x = torch.randn(3, 4)

    def rows(i):
        return model["block"](x[i]).sum(1)

    with Engine(model, dict(model.named_parameters())) as one_pass:
        with pytest.raises(RuntimeError, match=r"block\.p: not reached"):
            one_pass.clipped_sum(rows, torch.arange(3), clip=torch.ones_like)


def test_self_check_finds_a_second_read_past_the_attribute():
    model = nn.ModuleDict({"block": One(lambda m, x: (x + m.p) * held)})
    held = model["block"].p
    x = torch.randn(3, 4)

    def rows(i):
        return model["block"](x[i]).square().sum(1)

    with pytest.raises(RuntimeError, match="self-check"):
        self_check(model, dict(model.named_parameters()), rows, torch.arange(3), 1)


def test_self_check_finds_a_constant_taken_for_rows():
    """The constant [5, 4] agrees with 5 rows by chance; the self-check has two."""
    constant = torch.randn(5, 4)
    model = nn.ModuleDict({"block": One(lambda m, x: x + (constant * m.p))})
    x = torch.randn(6, 5, 4)

    def rows(i):
        return model["block"](x[i]).square().sum((1, 2))

    with pytest.raises(ValueError, match="meets a tensor with 5 rows for 2 records"):
        self_check(model, dict(model.named_parameters()), rows, torch.arange(6), 1)


def test_restored_after_failure_and_hidden_parameters():
    model = nn.ModuleDict({"block": One(lambda m, x: x * m.p)})
    with Engine(model, dict(model.named_parameters())) as one_pass:

        def fail(i):
            assert type(model["block"].p) is not nn.Parameter
            raise KeyError

        with pytest.raises(KeyError):
            one_pass.clipped_sum(fail, torch.arange(3), clip=torch.ones_like)
        assert type(model["block"].p) is nn.Parameter
        model["block"].p = nn.Parameter(torch.zeros(4))
        with pytest.raises(RuntimeError, match=r"block\.p: replaced"):
            one_pass.clipped_sum(fail, torch.arange(3), clip=torch.ones_like)
    model["block"].__dict__["p"] = 1.0
    with pytest.raises(ValueError, match=r"block: the parameter p of One is hidden"):
        Engine(model, {"p": model["block"]._parameters["p"]})
