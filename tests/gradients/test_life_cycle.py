"""Hooks, handles and state from construction to close: nothing stale, nothing left over, also after
exceptions.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine

from .helpers import STRATEGIES, flat
from .models import denoiser, mlp


def test_foreign_backward_is_refused():
    case = mlp()
    model, trainable, rows, batch = case.model, case.trainable, case.rows, case.records
    with Engine(model, trainable) as engine:
        held = []

        def twice(i):
            held.append(rows(i))
            return rows(i) + held[0]

        engine.clipped_sum(twice, batch[:1], clip=torch.ones_like)
        with pytest.raises(RuntimeError):
            engine.clipped_sum(twice, batch[1:2], clip=torch.ones_like)

        def inner(i):
            losses = rows(i)
            torch.autograd.grad(losses.sum(), [engine._anchor], allow_unused=True)
            return losses

        with pytest.raises(RuntimeError, match="not the engine's own"):
            engine.clipped_sum(inner, batch, clip=torch.ones_like)


def test_life_cycle():
    case = mlp()
    model, trainable, rows, batch = case.model, case.trainable, case.rows, case.records
    model[0].weight.requires_grad_(False)
    hooks = [len(m._forward_hooks) for m in model]
    with pytest.raises(KeyError), Engine(model, trainable) as engine:
        assert not any(p.requires_grad for p in model.parameters())
        with pytest.raises(ValueError, match="another engine is open"):
            Engine(model, trainable)
        with pytest.raises(ValueError, match="another engine is open"):
            Engine(nn.Sequential(model), trainable)
        model(torch.randn(9, 3))  # outside a step the model is left alone
        raise KeyError
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert [len(m._forward_hooks) for m in model] == hooks
    with pytest.raises(RuntimeError, match="closed"):
        engine.clipped_sum(rows, batch, clip=torch.ones_like)
    Engine(model, trainable).close()


def test_stale_handles():
    case = mlp()
    model, trainable, rows, batch = case.model, case.trainable, case.rows, case.records
    with Engine(model, trainable) as engine:
        model[0].weight.requires_grad_(True)
        with pytest.raises(RuntimeError, match=r"0\.weight: requires_grad"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = torch.zeros(5, 3)
        with pytest.raises(RuntimeError, match=r"0\.weight: \.grad"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)
        model[0].weight.grad = None
        model[2].bias = nn.Parameter(torch.zeros(2))
        with pytest.raises(RuntimeError, match=r"2\.bias: replaced"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exceptions_leave_no_state(strategy):
    case = mlp()
    with Engine(case.model, case.trainable, strategy=strategy) as engine:
        before, _ = engine.clipped_sum(case.rows, case.records, clip=flat(0.1))

        def fail(*_):
            raise KeyError

        def in_forward(i):
            case.model(torch.randn(len(i), 3))
            fail()

        def in_backward(i):
            losses = case.rows(i)
            losses.register_hook(fail)
            return losses

        def in_the_middle(i):
            middle = case.model[0](torch.randn(len(i), 3))
            middle.register_hook(fail)
            return case.model[2](middle).sum(1)

        def in_second_part(i):
            return case.rows(i) if 0 in i else fail()

        for wrong in (in_forward, in_backward, in_the_middle, in_second_part):
            with pytest.raises(KeyError):
                engine.clipped_sum(wrong, case.records, clip=flat(0.1), micro_batch=3)
            with pytest.raises(KeyError):
                engine.clipped_sum(case.rows, case.records, clip=fail)
            after, _ = engine.clipped_sum(case.rows, case.records, clip=flat(0.1))
            assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in case.model.modules()
    )


@pytest.mark.parametrize("kind", ["unet", "dit"])
@pytest.mark.parametrize("which", ["whole", "lora"])
def test_nothing_of_the_model_changes(kind, which):
    case = denoiser(kind, which, 3)
    state = {name: t.clone() for name, t in case.model.state_dict().items()}
    seen = []
    user = next(case.model.children()).register_forward_hook(lambda *_: seen.append(1))
    facts = [
        (set(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in case.model.modules()
    ]
    required = [p.requires_grad for p in case.model.parameters()]
    plain = case.rows(case.records)
    with Engine(case.model, case.trainable) as engine:
        engine.clipped_sum(case.rows, case.records, draws=3, clip=flat(0.1))
        assert torch.equal(case.rows(case.records), plain)  # outside a step: an ordinary model
        assert all(p.grad is None for p in case.model.parameters())
    # two of them here; the rows are unknown, tried, and then known
    assert len(seen) == 2 + 3
    user.remove()
    assert all(torch.equal(t, state[name]) for name, t in case.model.state_dict().items())
    assert [p.requires_grad for p in case.model.parameters()] == required
    after = [
        (set(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in case.model.modules()
    ]
    assert [f[0] for f in after] == [f[0] for f in facts]
    assert sum(f[1] for f in after) == sum(f[1] for f in facts) - 1 and after[0][2] == facts[0][2]


def test_moved_or_retyped():
    case = mlp()
    with Engine(case.model, case.trainable) as engine:
        case.model.double()
        with pytest.raises(RuntimeError, match="replaced, moved or re-typed"):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
