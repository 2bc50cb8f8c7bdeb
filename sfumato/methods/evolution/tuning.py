"""A LoRA of the base, trained on the last population: it is public, so this costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...compute.device import on_host, seeded
from ...compute.memory import peak_bytes
from ...options import Recipe
from ...training import LatentData, State, train_without_privacy
from ...training.dummy import dummy_rows
from ..adaptation import Adaptation
from ..given import Given
from ..interface import Prepared
from ..lora import Lora
from ..prepared import original_base
from ..prompts import Prompts
from ..room import budget
from .adaptation import Evolving

# Ordinary training, without noise; the usual of adapters here.
RECIPE = Recipe(learning_rate=0.002, ema_decay=0.9)
BATCH = 64
AFTERWARDS = (
    "A LoRA of the base was trained for {:,} steps on the last population, which is public by the"
    " claim: post-processing, which costs nothing."
)


def save_tuned(
    prepared: Prepared[Evolving], latents: torch.Tensor, folder: Path, steps: int
) -> None:
    """Trains and saves it, with the class tokens that train beside it.

    Args:
        prepared: What was planned.
        latents: The population [m, C, h, w], class by class.
        folder: Where it is saved, as `lora` does.
        steps: Of training; 0 saves what it starts from.
    """
    seed, classes = int(prepared.options["seed"]), len(prepared.plan.classes)
    base = original_base(prepared.plan, prepared.options)
    with seeded(seed):
        adaptation = Lora().apply(base, Given(Prompts.of(prepared.options["prompts"])))
    mean = on_host(latents.detach()).half().numpy()
    one = np.arange(len(mean))
    label = np.repeat(np.arange(classes), len(mean) // classes)
    data = LatentData(mean, np.zeros_like(mean), label, one, np.arange(len(mean) + 1))
    state = State(adaptation.trainable, adaptation.learning_rate_factor, RECIPE)
    train_without_privacy(
        adaptation,
        data,
        recipe=RECIPE,
        state=state,
        steps=steps,
        batch=min(BATCH, len(mean)),
        draws=1,
        micro_batch=rows_that_fit(adaptation, classes) if steps else 1,
        seed=seed,
    )
    if steps:
        state.use_average()
    adaptation.save(folder)


def rows_that_fit(adaptation: Adaptation, classes: int) -> int:
    """How many pictures pass together, `BATCH` at most: all rounds are paid when this is asked."""
    base, own = adaptation.base, list(adaptation.trainable.values())
    one = dummy_rows(base, classes, 1, 1)

    def work() -> None:
        with torch.enable_grad():
            torch.autograd.grad(adaptation.row_losses(one).sum(), own, allow_unused=True)

    room = budget(None, base.device, adaptation.most_trainable)
    return max(1, min(BATCH, room // max(1, peak_bytes(work, base.device))))
