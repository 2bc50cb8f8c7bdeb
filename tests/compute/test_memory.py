"""Memory: the peak that is measured."""

from __future__ import annotations

import torch

from sfumato.compute.memory import peak_bytes


def test_the_peak_counts_what_is_held_at_once():
    held = []

    def work():
        for _ in range(3):
            torch.ones(2**18)  # a megabyte, dropped again
        held.append(torch.ones(2**19))
        held.append(torch.ones(2**18))

    assert 3 * 2**20 <= peak_bytes(work) < 3.1 * 2**20
