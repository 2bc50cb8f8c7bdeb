"""What a run is executed with: a base with a method applied to it, and the plan that pays; built
again from the run's own files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..bases import Base, load_base
from ..compute.device import precision, seeded
from ..errors import ModelError
from ..methods import METHODS, Given, Prompts
from ..methods.adaptation import Adaptation
from ..options import Performance, Recipe
from ..privacy.ledger.public import PublicInput
from ..privacy.plan import Plan


@dataclass(frozen=True)
class Prepared:
    """A base with a method applied to it, and the plan that pays for its training. `start`: public
    rows adapters began with.

    `public_inputs`: what was taken as public beside the plan's own facts; `ancestors`: runs that
    base and public images come from.
    """

    base: Base
    adaptation: Adaptation
    plan: Plan
    recipe: Recipe
    performance: Performance
    options: dict
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    public_inputs: tuple[PublicInput, ...] = ()
    ancestors: tuple[dict, ...] = ()


def original_base(plan: Plan) -> Base:
    """The public base that the plan names; SfumatoError if it has changed since."""
    base = load_base(plan.base)
    if base.digest != plan.base_digest:
        raise ModelError(
            f"the base {plan.base} is not the one of the plan (its hash differs): put the original"
            " back"
        )
    return base


def rebuild(
    plan: Plan,
    options: dict,
    selected: Sequence[str] | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
) -> Prepared:
    """The same base and adaptation again, from a run's own plan and options; SfumatoError if the
    base has changed.

    selected: what the plan's probe has chosen, if it has; start: as in `prepare`.
    """
    base = original_base(plan)
    performance = Performance(**options["performance"])
    words = options["prompts"]
    prompts = Prompts(
        tuple(words["prompts"]), tuple(words["placeholders"]), tuple(words["initializers"])
    )
    with seeded(options["seed"]):
        own = dict(options["method_options"])
        # public images' choice stands with the method's options, a probe's in the ledger
        selected = own.pop("selected", None) or selected or None
        given = Given(prompts, precision(performance.precision), start or None, selected)
        adaptation = METHODS[plan.method](**own).apply(base, given)
    return Prepared(
        base, adaptation, plan, Recipe(**options["recipe"]), performance, options, dict(start or {})
    )


def shares_of(plan: Plan, counts: np.ndarray | None) -> list[float]:
    """Class shares for synthesis: uniform, or a noisy histogram's with negative counts as zero."""
    if counts is None:
        return [1 / len(plan.classes)] * len(plan.classes)
    positive = np.maximum(counts, 0)
    if positive.sum() == 0:
        return [1 / len(plan.classes)] * len(plan.classes)
    return (positive / positive.sum()).tolist()
