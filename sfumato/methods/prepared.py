"""A method applied once more to a plan's own base, from what a run keeps of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..bases import Base, load_base
from ..compute.device import seeded
from ..errors import ModelError
from ..options import Performance, Recipe
from ..privacy.plan import Plan
from .formats import kept_formats
from .given import Given
from .interface import Method, Prepared
from .prompts import Prompts
from .reach import apply_noted
from .shared import open_to_share, whole_beside


def original_base(plan: Plan, options: Mapping[str, Any]) -> Base:
    """The public base that the plan names, with the number formats that its run has kept.

    SfumatoError if it has changed since.
    """
    base = load_base(plan.base)
    if base.digest != plan.base_digest:
        raise ModelError(
            f"the base {plan.base} is not the one of the plan (its hash differs): put the original"
            " back"
        )
    return as_kept(base, options)


def as_kept(base: Base, options: Mapping[str, Any]) -> Base:
    """The base with the number formats and the buckets that a run has kept."""
    base.formats = kept_formats(options)
    base.use_buckets(Recipe(**options["recipe"]).sizes)
    return base


def prepare_again(
    method: Method,
    plan: Plan,
    options: dict,
    selected: Sequence[str] | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    *,
    to_share: bool = False,
) -> Prepared[Any]:
    """The same base and adaptation again, from a run's own plan and options.

    Args:
        method: The run's method with its own options.
        plan: The run's plan.
        options: What the run keeps of its task.
        selected: What the plan's probe has chosen, if it has.
        start: Public tensors that adapters or a geometry began with.
        to_share: `share_base` follows; otherwise the base is whole, as it is drawn from or saved.

    Raises:
        SfumatoError: The base has changed.
    """
    performance = Performance(**options["performance"])
    if to_share:
        base = open_to_share(performance, lambda: original_base(plan, options))
    else:
        with whole_beside(performance):
            base = original_base(plan, options)
    prompts = Prompts.of(options["prompts"])
    # public images' choice stands with the method's options, a probe's in the ledger
    selected = options["method_options"].get("selected") or selected or None
    with seeded(options["seed"]):
        given = Given(prompts, start or None, selected)
        adapted = apply_noted(method.apply(base, given), options)
    if performance.gradient_checkpointing:
        base.checkpoint_gradients()
    recipe = Recipe(**options["recipe"])
    return Prepared(method, base, adapted, plan, recipe, performance, options, dict(start or {}))
