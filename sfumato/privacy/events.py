"""Events: what a mechanism did to the data, in the terms that an accountant needs.

Noise is in units of the sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


def _number(value: float, name: str, cure: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ValueError(f"{name} must be a finite number > 0: {cure}")
    return float(value)


def _count(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{name} must be an integer >= 1: leave the event out if it did not happen"
        )


@dataclass(frozen=True)
class PoissonGaussian:
    """`steps` Gaussian sums, each over a fresh Poisson sample (DP-SGD, arXiv 1607.00133).

    sampling_rate in (0, 1]; noise_multiplier = stddev / sensitivity, finite, > 0; steps >= 1.
    Raises ValueError otherwise.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self):
        rate = _number(self.sampling_rate, "sampling_rate", "it is expected_batch_size / n_units")
        if rate > 1:
            raise ValueError(
                "sampling_rate must lie in (0, 1]: it is expected_batch_size / n_units"
            )
        object.__setattr__(self, "sampling_rate", rate)
        object.__setattr__(
            self,
            "noise_multiplier",
            _number(self.noise_multiplier, "noise_multiplier", "calibrate it"),
        )
        _count(self.steps, "steps")


@dataclass(frozen=True)
class Gaussian:
    """`count` Gaussian mechanisms over all units; noise_multiplier = stddev / sensitivity.

    Raises ValueError if not finite, > 0.
    """

    noise_multiplier: float
    count: int = 1

    def __post_init__(self):
        object.__setattr__(
            self,
            "noise_multiplier",
            _number(self.noise_multiplier, "noise_multiplier", "calibrate it"),
        )
        _count(self.count, "count")


@dataclass(frozen=True)
class Laplace:
    """One Laplace mechanism of scale sensitivity / epsilon.

    Raises ValueError if epsilon is not finite, > 0.
    """

    epsilon: float

    def __post_init__(self):
        object.__setattr__(
            self, "epsilon", _number(self.epsilon, "epsilon", "it is sensitivity / scale")
        )


Event = PoissonGaussian | Gaussian | Laplace
_TYPES = {"poisson_gaussian": PoissonGaussian, "gaussian": Gaussian, "laplace": Laplace}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def to_json(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Returns the events as plain objects, in order.

    One object is, for example, {"type": "gaussian", "noise_multiplier": 20.0, "count": 1}.
    """
    return [{"type": _NAMES[type(event)], **asdict(event)} for event in events]


def from_json(items: Iterable[Mapping[str, Any]]) -> tuple[Event, ...]:
    """The inverse of `to_json`.

    Args:
        items: One object per event.

    Returns:
        The events, in order.

    Raises:
        ValueError: An unknown type, a missing or unknown field, or a number out of range.
    """
    events: list[Event] = []
    for item in items:
        kind = _TYPES.get(str(item.get("type"))) if isinstance(item, Mapping) else None
        if kind is None:
            raise ValueError(f"unknown event type: use one of {', '.join(_TYPES)}")
        body = {name: value for name, value in item.items() if name != "type"}
        if set(body) != {field.name for field in fields(kind)}:
            raise ValueError(
                f"a {item['type']} event has exactly these fields:"
                f" {', '.join(f.name for f in fields(kind))}"
            )
        events.append(kind(**body))
    return tuple(events)
