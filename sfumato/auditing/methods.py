"""METHODS: sensitivity, changed set and microbatches of every method of the package.

On a dummy pipeline of a few thousand numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ..bases import load_base
from ..bases.tiny import CLASSES, make_tiny_base
from ..compute.device import seeded
from ..methods import METHODS, Given, Prompts
from ..methods.adaptation import Adaptation
from . import conduct, embeddings, replay, voting
from .finding import Finding
from .subject import Subject, changed, clipped, dummy_plan

# Class tokens of one's own train beside the method's tensors, under the same clip.
PROMPTS = Prompts(
    tuple(f"<class-{i}>" for i in range(3)), tuple(f"<class-{i}>" for i in range(3)), CLASSES
)
OPTIONS = {"saliency": {"keep": 3, "choose": "random"}, "lora": {"rank": 2}, "loda": {"rank": 2}}
KINDS = {
    "full": "flat",
    "attention": "per-group",
    "lora": "normalised",
    "saliency": "per-group-normalised",
    "loda": "flat",
    "embedding": "flat",
}


def every_method(seed: int, quick: bool = False) -> Iterator[Finding]:
    """M1, M3 and M6 on each method, every one with another clipping.

    M1 and isolation for methods that invert images.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = make_tiny_base(Path(folder) / "tiny")
        for name, method in METHODS.items():
            if method.takes_steps and not method.learns_weights:  # rounds of votes
                yield from voting.on_tiny(load_base(base), seed)
                continue
            if not method.takes_steps:  # no loop: two checks of its own
                yield from embeddings.on_tiny(load_base(base), PROMPTS, seed)
                continue
            subject = on_tiny(name, base, KINDS.get(name, "flat"))
            yield replay.sensitivity(subject, seed, units=3 if quick else 5, brief=True)
            yield conduct.changed_set(subject, seed)
            if not quick:
                yield replay.micro_batches(subject, seed)


def on_tiny(method: str, base: Path, kind: str = "flat") -> Subject:
    """A method on the pipeline in `base`, in single precision, with a plan without a price."""
    with seeded(0):
        opened = load_base(base)
        given = Given(PROMPTS)
        made = METHODS[method](**OPTIONS.get(method, {})).apply(opened, given)
    assert isinstance(made, Adaptation)  # of a method that takes steps
    wake(made)
    plan = dummy_plan(classes=CLASSES, prompts=PROMPTS.prompts, method=method)
    shape = opened.latent_shape
    fields = {"trainable": made.most_trainable, **clipped(plan, kind, len(made.clip_groups))}
    return Subject(f"{method} on a tiny base, {kind}", changed(plan, **fields), made, shape)


def wake(adaptation: Adaptation, seed: int = 0) -> None:
    """Gives values to factors that start at zero.

    The factors multiplied by them would have no gradient otherwise, and nothing could be seen.
    """
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adaptation.trainable.values():
            if not bool(p.any()):
                p.copy_(torch.randn(p.shape, generator=g) * 0.05)
