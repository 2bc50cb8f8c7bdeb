"""Memory: the peak that is measured, and how many records fit."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.gradients import Engine, fitting_records, peak_bytes


def test_the_peak_counts_what_is_held_at_once():
    held = []

    def work():
        for _ in range(3):
            torch.ones(2**18)  # a megabyte, dropped again
        held.append(torch.ones(2**19))
        held.append(torch.ones(2**18))

    assert 3 * 2**20 <= peak_bytes(work) < 3.1 * 2**20


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

        def peak(records):
            batch = torch.randn(records, 16, 64)
            return peak_bytes(lambda: engine.clipped_sum(losses, batch, clip=torch.ones_like))

        for budget in (2**19, 2**22, 2**24):
            found = fitting_records(engine, losses, synthetic, 1, budget, most=10_000)
            assert found == 1 or peak(found) <= budget
        assert fitting_records(engine, losses, synthetic, 1, 2**40, most=7) == 7
        assert fitting_records(engine, losses, synthetic, 1, 1, most=7) == 1
    assert max(asked) < 10_000
