"""Threads inside one operation."""

from __future__ import annotations

import torch

from sfumato.compute import threads


def test_threads_asked_for_count_and_torchs_own_where_none_are():
    assert threads.threads(3) == 3 and threads.threads() == torch.get_num_threads()


def test_threads_are_set_and_left_alone():
    before = torch.get_num_threads()
    try:
        threads.use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        threads.use_threads(None)
        threads.use_threads(0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
