"""Devices and seeds."""

from __future__ import annotations

import pytest
import torch

from sfumato.compute import device


def test_a_tensor_for_numpy_has_no_graph():
    leaf = torch.ones(2, 3, requires_grad=True)
    found = device.on_host(leaf * 2, torch.float64)
    assert found.numpy().sum() == 12 and found.dtype == torch.float64


def test_a_seed_moves_nobody_elses_numbers():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with device.seeded(7):
        first = torch.randn(3)
    assert torch.equal(torch.randn(3), expected)
    with pytest.raises(KeyError), device.seeded(7):
        assert torch.equal(torch.randn(3), first)
        raise KeyError
    torch.manual_seed(5)
    assert torch.equal(torch.randn(3), expected)
