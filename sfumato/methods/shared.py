"""A run whose ranks keep a share of the base each: what may, how it starts, and how it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ..compute import ranks
from ..compute.device import HOST, device, is_host, on_host, using
from ..errors import SfumatoError
from ..options import Performance

if TYPE_CHECKING:
    from ..bases import Base
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


def shares_too_large(performance: Performance) -> bool:
    """Whether a whole base may be more than this rank's device holds."""
    return performance.shard_base and ranks.world_size() > 1 and not is_host(device())


def open_to_share(performance: Performance, load: Callable[[], Base]) -> Base:
    """A base as `share_base` takes it: one that is to be shared has its denoiser on the host.

    What reads prompts and pictures is on the device, so that all that is made of it is, too.

    Args:
        performance: The options.
        load: Opens the base.
    """
    if not shares_too_large(performance):
        return load()
    with using(HOST):
        base = load()
    base.goes_to = device()
    base.move(base.goes_to, denoiser=False)
    return base


def whole_beside(performance: Performance) -> contextlib.AbstractContextManager[object]:
    """Inside, a whole base opens where it fits: beside one that ranks share, in host memory."""
    return using(HOST) if shares_too_large(performance) else contextlib.nullcontext()


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
    average = {n: on_host(state.shares.whole(n, value)) for n, value in state.average.items()}
    if ranks.rank() > 0:
        return prepared.adaptation
    adapted = cast("Adaptation", prepared.method.untrained(prepared))
    for name, tensor in adapted.trainable.items():
        tensor.data.copy_(average[name])
    return adapted
