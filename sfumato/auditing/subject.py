"""What is audited: a plan without a price, a model with its losses, and dummy latents.

Nothing here is private.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ..bases import around
from ..compute.device import device, seeded
from ..methods.adaptation import Adaptation
from ..options import Performance, Recipe
from ..privacy.events import PoissonGaussian
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..privacy.rounding import Rounding
from ..training import LatentData, denoising_losses
from ..training.dummy import made_up_texts
from . import models


@dataclass(frozen=True)
class Subject:
    """One mechanism on one model.

    `shape`: of a latent; `exact`: losses in single precision, so that oracles can be compared.
    """

    name: str
    plan: Plan
    adaptation: Adaptation
    shape: tuple[int, ...]
    recipe: Recipe = Recipe(learning_rate=4e-3, ema_decay=0.9)
    performance: Performance = Performance(micro_batch=3, precision="float32")
    exact: bool = True

    @property
    def groups(self) -> list[list[str]]:
        """The tensors' names as they are clipped: all together, or group by group."""
        per_group = self.plan.clipping.startswith("per-group")
        return (
            list(self.adaptation.clip_groups.values())
            if per_group
            else [list(self.adaptation.trainable)]
        )

    def with_plan(self, **changes) -> Subject:
        """The same with other fields of the plan."""
        return replace(self, plan=changed(self.plan, **changes))

    def with_performance(self, **changes) -> Subject:
        """The same with other fields of `Performance`."""
        return replace(self, performance=replace(self.performance, **changes))


def changed(plan: Plan, **changes) -> Plan:
    """The plan with other fields and without one-shot queries, reserve or price.

    The loop reads none of these.
    """
    fields = {"n_units": plan.n_units, "expected_batch_size": plan.expected_batch_size} | changes
    rate = fields["expected_batch_size"] / fields["n_units"]
    sigma, steps = (
        changes.get(name, getattr(plan, name)) for name in ("noise_multiplier", "steps")
    )
    unpriced = {
        "sampling_rate": rate,
        "events": (PoissonGaussian(rate, sigma, steps),),
        "epsilon": 0.0,
        "delta": min(plan.delta, 0.5 / fields["n_units"]),
        "histogram_noise_multiplier": None,
        "probe": None,
        "base_vote": None,
        "moments": None,
        "retry_steps": 0,
        "rounding": None,
    }
    bare = replace(plan, **unpriced | fields)
    return replace(bare, rounding=Rounding.of(bare.clip().sensitivity, bare.trainable))


def clipped(plan: Plan, kind: str, groups: int) -> dict:
    """The fields of `Plan` for a clipping of `kind` over `groups` groups of tensors."""
    per_group = kind.startswith("per-group")
    fields = {"clipping": kind, "gamma": None, "clip_norm": plan.clip_norm}
    if kind.endswith("normalised"):
        fields |= {"gamma": 1e-4 if per_group else 0.01, "clip_norm": 1.0}
    return fields | ({"clip_groups": groups if per_group else None})


def dummy_plan(**changes) -> Plan:
    """Nine units, half of them in a step on average.

    The divisor is not an integer, so that rounding it would show.
    """
    units, batch = changes.pop("n_units", 9), changes.pop("expected_batch_size", 4.5)
    sigma, steps = changes.pop("noise_multiplier", 0.01), changes.pop("steps", 1000)
    fields = {
        "method": "dummy",
        "unit": "record",
        "relation": "zero-out",
        "n_units": units,
        "max_per_unit": 1,
        "classes": tuple("abcd"),
        "prompts": tuple("abcd"),
        "epsilon_target": 1.0,
        "delta": 0.5 / units,
        "sampling_rate": batch / units,
        "expected_batch_size": batch,
        "steps": steps,
        "noise_draws": 1,
        "clip_norm": 0.5,
        "clipping": "flat",
        "gamma": None,
        "noise_multiplier": sigma,
        "histogram_noise_multiplier": None,
        "retry_steps": 0,
        "events": (PoissonGaussian(batch / units, sigma, steps),),
        "epsilon": 0.0,
        "base": "dummy",
        "base_digest": "",
        "trainable": 1,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "ema_decay": 0.9,
        "target_modules": (),
        "rank": None,
        "grid": 1e-3,
    }
    plan = Plan(**fields | changes)
    return replace(plan, rounding=Rounding.of(plan.clip().sensitivity, plan.trainable))


def dummy_subject(family: str = "linear", clipping: str = "flat", seed: int = 0, **plan) -> Subject:
    """A denoiser of `family` and a trainable table of class tokens, with the package's loss."""
    with seeded(seed):
        denoiser = (models.FAMILIES | {"wide": models.Wide})[family]()
        tokens = nn.Embedding(models.LABELS, models.WIDTH)
        with torch.no_grad():
            tokens.weight.mul_(0.3)
    base = around(denoiser, models.ALPHAS, models.SHAPE)
    base.move(device())
    tokens.to(device())
    model = nn.ModuleDict({base.prefix: denoiser, "tokens": tokens})
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def embed(label: torch.Tensor) -> torch.Tensor:
        return tokens(label.clamp(min=0))[:, None] * (label >= 0)[:, None, None]

    losses = denoising_losses(base, embed, torch.float32)
    targets = tuple(
        sorted({name.split(".")[1] for name in trainable if name.startswith(f"{base.prefix}.")})
    )
    adaptation = Adaptation(
        base,
        model,
        trainable,
        lambda folder: None,
        targets,
        row_losses=losses,
        exact_losses=losses,
    )
    groups = len(adaptation.clip_groups)
    made = dummy_plan(**plan)
    numbers = sum(p.numel() for p in trainable.values())
    made = changed(made, trainable=numbers, **clipped(made, clipping, groups))
    return Subject(f"{clipping}, {family}", made, adaptation, models.SHAPE)


def latents(subject: Subject, units: int, seed: int = 0, per_unit: int = 1) -> LatentData:
    """`units` units with `per_unit` random latents each and random labels.

    The last label belongs to the last unit alone. With made-up captions where captions train.
    """
    rng, n, classes = np.random.default_rng(seed), units * per_unit, len(subject.plan.classes)
    label = rng.integers(0, max(1, classes - 1), n)
    label[-per_unit:] = classes - 1
    texts = made_up_texts(subject.adaptation.base, n, seed) if subject.plan.captions else None
    return LatentData(
        rng.standard_normal((n, *subject.shape)).astype(np.float16),
        np.full((n, *subject.shape), 0.1, np.float16),
        label,
        np.arange(n),
        np.arange(0, n + 1, per_unit),
        texts,
    )


def zeroed(data: LatentData, units) -> LatentData:
    """The neighbour: `units` have their slots and nothing in them (zero-out)."""
    images = np.concatenate(
        [data.order[data.first[u] : data.first[u + 1]] for u in units] or [[]]
    ).astype(np.int64)
    mean, std, label = data.mean.copy(), data.std.copy(), data.label.copy()
    mean[images], std[images], label[images] = 0, 0, -1
    texts = data.texts
    if texts is not None:
        told = {name: rows.clone() for name, rows in texts.told.items()}
        for image in images.tolist():
            for rows in told.values():
                rows[texts.first[image] : texts.first[image + 1]] = 0
        texts = replace(texts, told=told)
    return replace(data, mean=mean, std=std, label=label, texts=texts)


def key_of(seed: int, name: str) -> RunKey:
    """A run key for dummy data, from a public seed: it protects nobody."""
    return RunKey(hashlib.sha256(f"audit {seed} {name}".encode()).digest())
