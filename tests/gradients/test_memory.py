"""Memory: how many records fit."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.compute.memory import peak_bytes
from sfumato.gradients import Engine, fitting_records


def test_fitting_records_never_promise_too_much():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 8))
    trainable = dict(model.named_parameters())
    asked = []

    def synthetic(records):
        asked.append(records)
        return torch.randn(records, 16, 64)

    def losses(x):
        return model(x).pow(2).mean((1, 2))

    with Engine(model, trainable) as engine:

        def fit(budget, most):
            found, one = fitting_records(
                engine, losses, synthetic, 1, budget, most=most, peak_bytes=peak_bytes
            )
            assert abs(one - peak(1)) < 0.02 * one
            return found

        def peak(records):
            batch = torch.randn(records, 16, 64)
            return peak_bytes(lambda: engine.clipped_sum(losses, batch, clip=torch.ones_like))

        for budget in (2**19, 2**22, 2**24):
            found = fit(budget, most=10_000)
            assert not found or peak(found) <= budget
        assert fit(2**40, most=7) == 7
        assert fit(1, most=7) == 0
    assert max(asked) < 10_000
