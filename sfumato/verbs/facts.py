"""The base that a run trained, and as it was before."""

from __future__ import annotations

from ..bases import Base, text_base
from ..methods.prompts import Prompts
from ..runs.folder import Run
from ..runs.prepared import opened, original_base


def adapted_base(run: Run) -> Base:
    """The base with the run's released changes in it."""
    return opened(run, run.model)


def public_base(run: Run) -> Base:
    """The base as it was before the private run, with its class tokens at their public start."""
    base = original_base(run.plan, run.options)
    tokens = Prompts.of(run.options["prompts"]).tokens
    if tokens:
        text_base(base).add_tokens(list(tokens), list(tokens.values()))
    return base
