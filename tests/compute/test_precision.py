"""Number formats."""

from __future__ import annotations

import pytest
import torch

from sfumato.compute import device, precision
from sfumato.errors import SfumatoError


def test_a_precision_has_two_names_and_no_other():
    assert precision.precision("bfloat16") is torch.bfloat16
    assert precision.precision("float32") is torch.float32
    with pytest.raises(SfumatoError, match="float16.*choose from bfloat16, float32"):
        precision.precision("float16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_have_the_precision_that_was_asked_for(dtype):
    a = torch.randn(4, 4, device=device.device())
    with precision.mixed_precision(dtype, a):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_mixed_precision_ends_inside_another():
    a = torch.randn(4, 4)
    with precision.mixed_precision(torch.bfloat16, a), precision.mixed_precision(torch.float32, a):
        assert (a @ a).dtype == torch.float32


def test_the_quick_precision_is_one_that_the_processor_has():
    quick = precision.quick_precision(torch.zeros(1))
    has = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert quick == (torch.bfloat16 if has else torch.float32)


def test_every_stage_has_a_format_that_is_kept_by_name():
    some = precision.Formats(train=torch.bfloat16)
    assert some.names == {
        "encode": "float32",
        "train": "bfloat16",
        "invert": "float32",
        "sample": "float32",
        "decode": "float32",
    }
    assert precision.Formats.named(some.names) == some
    assert set(precision.Formats.everywhere("bfloat16").names.values()) == {"bfloat16"}
    assert some.of("train") is torch.bfloat16 and some.of(torch.float32) is torch.float32
    with pytest.raises(SfumatoError, match="float8"):
        precision.Formats.named({"train": "float8"})
