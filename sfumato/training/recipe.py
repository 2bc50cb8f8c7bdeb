"""How to train, apart from privacy (`Recipe`) and apart from the result (`Performance`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SfumatoError


@dataclass(frozen=True)
class Recipe:
    """Public training choices; they act on noised gradients only, so none of them costs privacy.

    learning_rate: of Adam, on gradients in units of the clip norm; None, until a plan is made, for
    the method's own. warmup_steps: linear rise. decay_from: share of the steps after which the rate
    falls linearly to zero. ema_decay: per step; None, until a plan is made, for what suits the
    number of steps. time_bias: diffusion times are 1000 * u ** (1 / time_bias), so more than 1
    looks more at noisy times. caption_dropout: probability of the empty prompt (needed for guidance
    above 1).
    """

    learning_rate: float | None = None
    warmup_steps: int = 3
    decay_from: float = 0.3
    ema_decay: float | None = None
    time_bias: float = 1.5
    caption_dropout: float = 0.0

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of logical step `step` (from 0) of `steps`."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        start = self.decay_from * steps
        fall = 1.0 if step < start else (steps - step) / max(1.0, steps - start)
        return self.learning_rate * rise * fall


@dataclass(frozen=True)
class Performance:
    """Options promised to change nothing but time and memory.

    micro_batch: most units in one forward pass; None lets `memory_budget` (bytes for activations,
    gradients and sums; weights and optimiser come on top) decide, once, before the run starts.
    precision: "bfloat16" or "float32" autocast of the denoiser (the same precision must be kept on
    resume). threads: CPU threads, None for torch's choice. checkpoint_steps: logical steps between
    checkpoints. engine: "one-pass" or "reference" (records one at a time). SfumatoError for a
    number below 1: a new attempt is billed by the steps between checkpoints.
    """

    micro_batch: int | None = None
    memory_budget: int = 2**30
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    threads: int | None = None
    checkpoint_steps: int = 25
    engine: Literal["one-pass", "reference"] = "one-pass"

    def __post_init__(self):
        for name in ("micro_batch", "memory_budget", "threads", "checkpoint_steps"):
            value, may_miss = getattr(self, name), name in ("micro_batch", "threads")
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (value is None and may_miss) and not (whole and value >= 1):
                raise SfumatoError(
                    f"{name} of the performance options is {value!r}: an integer of at least 1"
                )
