"""A run whose ranks keep a share of the base each: what may, how it starts, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ..compute import ranks
from ..errors import SfumatoError
from ..options import Performance

if TYPE_CHECKING:
    from ..training import State
    from .adaptation import Adaptation
    from .interface import Method, Prepared


def require_shareable(method: Method, performance: Performance, timed: bool = False) -> None:
    """Refuses `--shard-base` where ranks could not gather the base together.

    Args:
        method: What learns.
        performance: The options.
        timed: Whether the schedule is to be solved for a time, which one process measures alone.

    Raises:
        SfumatoError: It does not go with one process, the method, `--time` or the engine.
    """
    if not performance.shard_base:
        return
    if ranks.world_size() == 1:
        raise SfumatoError(
            "--shard-base shares the base among processes, and there is one: start several with"
            " torchrun, or leave it out"
        )
    if reason := method.cannot_share:
        raise SfumatoError(f"--shard-base does not go with this method: {reason}; leave it out")
    if performance.engine != "one-pass":
        raise SfumatoError("--shard-base needs --engine one-pass: leave one of them out")
    if timed:
        raise SfumatoError(
            "--time is measured by one process, which has no whole base with --shard-base: give"
            " --steps"
        )


def share_base(prepared: Prepared[Any]) -> Prepared[Any]:
    """The same, with every rank keeping a share of the denoiser, if that was asked for.

    What trains and is in no denoiser, and adapters, which are small, stay whole on every rank.

    Raises:
        SfumatoError: As `require_shareable`.
    """
    require_shareable(prepared.method, prepared.performance)
    if not prepared.performance.shard_base:
        return prepared
    from ..compute.shares import share

    adaptation = prepared.adaptation
    adapters = list(adaptation.trainable.values()) if adaptation.rank is not None else []
    share(prepared.base.denoiser, adapters)
    held = dict(adaptation.model.named_parameters())  # shared ones are new objects
    trainable = {name: held[name] for name in adaptation.trainable}
    return replace(prepared, adaptation=replace(adaptation, trainable=trainable))


def whole_again(prepared: Prepared[Adaptation], state: State) -> Adaptation:
    """The adaptation with the averaged weights, whole on the first rank, where it is saved."""
    average = {name: state.shares.whole(name, value) for name, value in state.average.items()}
    if ranks.rank() > 0:
        return prepared.adaptation
    adapted = cast("Adaptation", prepared.method.untrained(prepared))
    for name, tensor in adapted.trainable.items():
        tensor.data.copy_(average[name])
    return adapted
