"""A toy model, toy latents and unpriced plans: the loop without a diffusion model around it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.privacy.events import PoissonGaussian
from sfumato.privacy.plan import Plan
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.rounding import Rounding
from sfumato.training import LatentData


@pytest.fixture
def key() -> RunKey:
    return RunKey(bytes(range(32)))


@pytest.fixture
def plan_for():
    """A plan whose events fit its fields, without the seconds that pricing takes."""

    def build(n_units, batch, steps=3, draws=1, sigma=1.0, clip_norm=0.5, **more) -> Plan:
        rate = batch / n_units
        fields = {
            "method": "attention",
            "unit": "record",
            "relation": "zero-out",
            "n_units": n_units,
            "max_per_unit": 1,
            "classes": ("a", "b"),
            "prompts": ("a", "b"),
            "epsilon_target": 1.0,
            "delta": 1e-3,
            "sampling_rate": rate,
            "expected_batch_size": batch,
            "steps": steps,
            "noise_draws": draws,
            "clip_norm": clip_norm,
            "clipping": "flat",
            "gamma": None,
            "noise_multiplier": sigma,
            "histogram_noise_multiplier": None,
            "retry_steps": 0,
            "events": (PoissonGaussian(rate, sigma, steps),),
            "epsilon": 0.0,
            "base": "toy",
            "base_digest": "",
            "trainable": 1000,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
            "ema_decay": 0.9,
            "target_modules": (),
            "rank": None,
            "grid": 1e-3,
        }
        bare = Plan(**fields | more)
        return replace(bare, rounding=Rounding.of(bare.clip().sensitivity, bare.trainable))

    return build


@pytest.fixture
def latents():
    """`n` images of random latents [2, 2, 2]; `unit` says who owns each."""

    def build(n, unit=None, seed=0) -> LatentData:
        rng = np.random.default_rng(seed)
        unit = np.arange(n) if unit is None else np.asarray(unit)
        order = np.argsort(unit, kind="stable")
        return LatentData(
            rng.standard_normal((n, 2, 2, 2)).astype(np.float16),
            np.full((n, 2, 2, 2), 0.1, np.float16),
            rng.integers(0, 2, n),
            order,
            np.searchsorted(unit[order], np.arange(unit.max() + 2)),
        )

    return build


@pytest.fixture
def toy():
    """A linear denoiser of 8 numbers with `width` hidden ones; `scale` multiplies the loss."""

    def build(scale=1.0, width=16, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 8))

        def row_losses(batch):
            clean = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1).flatten(1)
            noise = batch.noise.flatten(0, 1).flatten(1)
            share = batch.time.flatten()[:, None] / 1000
            error = (
                model(clean * (1 - share) + noise * share + batch.label.flatten()[:, None]) - noise
            )
            return error.pow(2).mean(1) * batch.weight.flatten() * scale

        return SimpleNamespace(
            base=SimpleNamespace(times=1000),
            model=model,
            trainable=dict(model.named_parameters()),
            row_losses=row_losses,
            learning_rate_factor={},
            clip_groups={"first": ["0.weight", "0.bias"], "last": ["2.weight", "2.bias"]},
        )

    return build
