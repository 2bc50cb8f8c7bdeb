"""Tiny diffusers models with the three trainable sets: everything, attention modules,
peft's LoRA.
"""

from __future__ import annotations

import pytest
import torch

from sfumato.gradients import self_check

from .helpers import STRATEGIES, assert_parity, assert_same, autocast, engine, reference, whole
from .models import MODELS, denoiser

SETS = ("whole", "attention", "lora")
RUNS = (*((strategy, None) for strategy in STRATEGIES), ("auto", 3))

pytestmark = pytest.mark.parametrize("kind", MODELS)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("draws", [1, 3])
def test_float64(kind, which, draws):
    assert_parity(denoiser(kind, which, draws, torch.float64), 1e-10, RUNS)


@pytest.mark.parametrize("which", SETS)
def test_float32(kind, which):
    assert_parity(denoiser(kind, which, 3), 5e-5, RUNS)


@pytest.mark.parametrize("which", ["whole", "lora"])
def test_bfloat16_autocast(kind, which):
    """Against fp32 the network's own rounding is in it (8 wide: 3 %); against the reference in bf16
    it is not.
    """
    case = denoiser(kind, which, 3)
    full = reference(case)
    case.rows = autocast(case.rows)
    for (sums_r, norms_r, bound), bar in ((full, 3e-2), (reference(case), 1e-2)):
        for strategy in STRATEGIES:
            sums, norms = engine(case, bound, strategy)
            assert torch.allclose(norms, norms_r, rtol=bar)
            assert (whole(sums) - whole(sums_r)).norm() <= 3e-2 * whole(sums_r).norm()


@pytest.mark.parametrize("which", SETS)
def test_checkpointing(kind, which):
    case = denoiser(kind, which, 3, torch.float64, n=2)
    *right, bound = reference(case)
    case.model.enable_gradient_checkpointing()
    case.model.train()
    for strategy in STRATEGIES:
        assert_same(engine(case, bound, strategy), right, 1e-10)


def test_lora_variants(kind):
    """Dropout that is off, another scale, adapters on convolutions and on projections beside the
    attention.
    """
    targets = (
        ["conv1", "conv_shortcut", "time_emb_proj"]
        if kind == "unet"
        else ["linear_1", "proj_out_2", "net.2"]
    )
    case = denoiser(
        kind, "lora", 3, torch.float64, n=2, target_modules=targets, lora_alpha=6, lora_dropout=0.5
    )
    assert_parity(case, 1e-10)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_batch_sizes(kind, n):
    case = denoiser(kind, "lora", 3, n=5)
    case.records = case.records[:n]
    right = reference(case, 0.05)[:2]
    for strategy in STRATEGIES:
        assert_same(engine(case, 0.05, strategy), right, 5e-5)


def test_self_check(kind):
    """A key's bias moves all scores of a query alike: softmax does not see it."""
    for which in SETS:
        assert all(
            name.endswith("attn1.to_k.bias") and kind == "dit"
            for name in dead(denoiser(kind, which))
        )


def test_self_check_with_lora_at_its_start(kind):
    """B = 0: the gradient of A is zero, yet A is not dead."""
    case = denoiser(kind, "lora")
    for name, p in case.trainable.items():
        if "lora_B" in name:
            p.data.zero_()
    assert dead(case) == []


def dead(case) -> list[str]:
    return self_check(case.model, case.trainable, case.rows, case.records, case.draws)
