"""What a run is executed with, built again from its own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bases import Base, open_adapted
from ..methods import METHODS, Method
from ..methods.interface import Prepared
from ..methods.prepared import as_kept, original_base, prepare_again
from ..methods.shared import whole_beside
from ..options import Performance
from ..privacy.plan import Plan
from .folder import Run

__all__ = ["method_of", "opened", "original_base", "public_side", "rebuild", "shares_of"]


def method_of(plan: Plan, options: dict[str, Any]) -> Method:
    """The run's method with its own options."""
    own = {name: v for name, v in options["method_options"].items() if name != "selected"}
    return METHODS[plan.method](**own)


def opened(run: Run, folder: Path) -> Base:
    """What was saved in `folder`, on the run's base and with the number formats of the run."""
    with whole_beside(Performance(**run.options["performance"])):
        base = open_adapted(folder, lambda: original_base(run.plan, run.options))
    return as_kept(base, run.options)


def rebuild(
    plan: Plan,
    options: dict[str, Any],
    selected: Sequence[str] | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    *,
    to_share: bool = False,
) -> Prepared[Any]:
    """The same base and adaptation again, from a run's own plan and options.

    SfumatoError if the base has changed. selected: what the plan's probe has chosen, if it has;
    start: as in `prepare`; to_share: as in `prepare_again`.
    """
    return prepare_again(
        method_of(plan, options), plan, options, selected, start, to_share=to_share
    )


def public_side(run: Run) -> Prepared[Any] | None:
    """What a run was prepared with, from its plan and public start alone.

    For a method whose report shows controls; None for another.
    """
    shows = METHODS[run.plan.method].compares
    return rebuild(run.plan, run.options, None, run.start) if shows else None


def shares_of(plan: Plan, counts: np.ndarray | None) -> list[float]:
    """Class shares for synthesis: uniform, or a noisy histogram's with negative counts as zero."""
    if counts is None:
        return [1 / len(plan.classes)] * len(plan.classes)
    positive = np.maximum(counts, 0)
    if positive.sum() == 0:
        return [1 / len(plan.classes)] * len(plan.classes)
    return (positive / positive.sum()).tolist()
