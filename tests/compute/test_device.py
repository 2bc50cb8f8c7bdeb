"""Devices, precisions, threads and seeds."""

from __future__ import annotations

import pytest
import torch

from sfumato.compute import device
from sfumato.errors import SfumatoError


def test_a_precision_has_two_names_and_no_other():
    assert device.precision("bfloat16") is torch.bfloat16
    assert device.precision("float32") is torch.float32
    with pytest.raises(SfumatoError, match="float16.*choose from bfloat16, float32"):
        device.precision("float16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_have_the_precision_that_was_asked_for(dtype):
    a = torch.randn(4, 4, device=device.device())
    with device.mixed_precision(dtype, a):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_mixed_precision_ends_inside_another():
    a = torch.randn(4, 4)
    with device.mixed_precision(torch.bfloat16, a), device.mixed_precision(torch.float32, a):
        assert (a @ a).dtype == torch.float32


def test_the_quick_precision_is_one_that_the_processor_has():
    quick = device.quick_precision(torch.zeros(1))
    has = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert quick == (torch.bfloat16 if has else torch.float32)


def test_a_tensor_for_numpy_has_no_graph():
    leaf = torch.ones(2, 3, requires_grad=True)
    found = device.on_host(leaf * 2, torch.float64)
    assert found.numpy().sum() == 12 and found.dtype == torch.float64


def test_threads_asked_for_count_and_torchs_own_where_none_are():
    assert device.threads(3) == 3 and device.threads() == torch.get_num_threads()


def test_threads_are_set_and_left_alone():
    before = torch.get_num_threads()
    try:
        device.use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        device.use_threads(None)
        device.use_threads(0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


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
