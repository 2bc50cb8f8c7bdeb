"""Losses that draw numbers of their own: neither their gradients nor a replay would be defined."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import torch
from torch import nn

# Attributes in which modules of this field keep the probability of what they drop.
CHANCES = ("dropout_prob", "drop_prob", "dropout", "dropout_p", "dropout_rate", "drop_rate")
# Modules that draw whatever their attributes are.
DRAWING = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def is_random(module: nn.Module) -> bool:
    """Whether a module drops or draws something at every call, as it is now."""
    if not module.training:
        return False
    chances = [getattr(module, name, 0) for name in CHANCES]
    if isinstance(module, nn.modules.dropout._DropoutNd):
        chances.append(module.p)
    return isinstance(module, DRAWING) or any(
        isinstance(chance, (int, float)) and not isinstance(chance, bool) and 0 < chance <= 1
        for chance in chances
    )


def refuse_random(label: str, module: nn.Module) -> None:
    """Refuses dropout, and labels that are dropped, where they are switched on.

    Raises:
        ValueError: The module is random.
    """
    if is_random(module):
        raise ValueError(
            f"{label}: {type(module).__name__} is random in training mode, so a record has no"
            " gradient of its own: call eval() on the model, or set its probability to 0"
        )


@contextmanager
def no_draws(devices: Iterable[torch.device]) -> Generator[None, None, None]:
    """Inside, torch's own generators must not be drawn from; a generator of the caller's may be.

    Raises:
        RuntimeError: They were.
    """
    cuda = {device for device in devices if device.type == "cuda"}

    def states() -> list[torch.Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in cuda)]

    before = states()
    yield
    if not all(torch.equal(a, b) for a, b in zip(before, states(), strict=True)):
        raise RuntimeError(
            "self-check: the losses draw random numbers, so that a record's loss is another one"
            " each time: call eval() on the model, or draw them beforehand, by record"
        )
