"""The per-record loss is the base's own training objective, row by row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sfumato.bases import around
from sfumato.options import Recipe
from sfumato.training import Batch, denoising_losses


def batch_of(units, draws, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (units, draws, 2, 4, 4)
    return Batch(
        mean=torch.randn(shape, generator=g),
        std=torch.rand(shape, generator=g),
        label=torch.randint(0, 3, (units, draws), generator=g),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.randint(0, 1000, (units, draws), generator=g),
        drop=torch.rand(units, draws, generator=g) < 0.3,
        weight=torch.ones(units, draws),
    )


class Predicting(torch.nn.Module):
    def __init__(self, predict):
        super().__init__()
        self.predict = predict

    def forward(self, x, t, encoder_hidden_states):
        return SimpleNamespace(sample=self.predict(x, t, encoder_hidden_states))


def fake_base(predict, prediction_type):
    base = around(Predicting(predict), torch.linspace(0.999, 0.001, 1000), (2, 4, 4))
    base.scheduler.config.prediction_type = prediction_type
    return base


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_true_target_has_loss_zero_and_agrees_with_diffusers(prediction_type):
    from diffusers import DDPMScheduler

    batch = batch_of(3, 2)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    latent = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1)
    noise, time = batch.noise.flatten(0, 1), batch.time.flatten()
    right = noise if prediction_type == "epsilon" else scheduler.get_velocity(latent, noise, time)
    noisy = scheduler.add_noise(latent, noise, time)

    def predict(x, t, context):
        torch.testing.assert_close(x, noisy)
        return right

    base = fake_base(predict, prediction_type)
    base.scheduler.alphas_cumprod = scheduler.alphas_cumprod
    losses = denoising_losses(base, lambda label: label, torch.float32)(batch)
    assert losses.shape == (6,) and losses.abs().max() < 1e-9


def test_rows_are_unit_major_weighted_and_told_the_right_prompt():
    batch = batch_of(4, 3)
    batch.weight[2, 1] = 0
    asked = []

    def predict(x, t, context):
        asked.append(context)
        return torch.zeros_like(x)

    losses = denoising_losses(fake_base(predict, "epsilon"), lambda label: label, torch.float32)(
        batch
    )
    expected = batch.noise.pow(2).mean((2, 3, 4)) * batch.weight
    torch.testing.assert_close(losses, expected.flatten())
    assert asked[0].tolist() == torch.where(batch.drop, -1, batch.label).flatten().tolist()


def test_slices_are_by_unit():
    batch = batch_of(5, 2)
    assert len(batch) == 5 and len(batch[1:3]) == 2
    assert torch.equal(batch[1:3].noise, batch.noise[1:3])


def test_the_learning_rate_rises_holds_and_falls():
    recipe = Recipe(learning_rate=1.0, warmup_steps=4, decay_from=0.5)
    rates = [recipe.rate_at(step, 20) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4:11] == [1.0] * 7
    assert rates[11:] == pytest.approx([1 - 0.1 * i for i in range(1, 10)])
    assert Recipe(learning_rate=0.1, warmup_steps=0).rate_at(0, 1) == 0.1
