"""How to train, where (`Machine`), at what speed (`Performance`), and how to draw (`Sampling`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import parse
from .declare import Options, option


@dataclass(frozen=True)
class Recipe(Options):
    """How to train.

    Public choices; they act on noised gradients only, so none of them costs privacy.
    """

    panel = "Training"

    learning_rate: float | None = option(
        None,
        "Learning rate of Adam, on gradients in units of the clip norm (default: by method, and"
        " lower where noise rules).",
        least=0,
    )
    warmup_steps: int = option(3, "Steps of linear warm-up.", flags=("--lr-warmup-steps",), least=0)
    decay_from: float = option(
        0.3, "Share of the steps after which the rate falls linearly to zero.", least=0, most=1
    )
    ema_decay: float | None = option(
        None,
        "Decay of the weights' moving average, per step (default: 0.9, or 0.95 from 100 steps).",
        least=0,
        most=1,
    )
    time_bias: float = option(
        1.5,
        "Diffusion times are u ** (1 / bias): above 1, noisier times are drawn more often.",
        above=0,
    )
    caption_dropout: float = option(
        0.0, "Share of prompts left empty, needed for --guidance-scale above 1.", least=0, most=1
    )

    buckets: Sequence[str] | None = option(
        None,
        "Public sizes of the pictures in place of the base's square: each private picture goes to"
        " the one nearest in shape, and pictures are drawn in all of them.",
        metavar="WxH,..",
        parse=parse.buckets,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buckets is not None:
            object.__setattr__(self, "buckets", parse.buckets(self.buckets))

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each bucket; none for the base's own size."""
        pairs = (word.split("x") for word in self.buckets or ())
        return tuple((int(width), int(height)) for width, height in pairs)

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of logical step `step` (from 0) of `steps`."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        start = self.decay_from * steps
        fall = 1.0 if step < start else (steps - step) / max(1.0, steps - start)
        assert self.learning_rate is not None  # decided when the run was prepared
        return self.learning_rate * rise * fall


@dataclass(frozen=True)
class Machine(Options):
    """Where a verb computes. A run is resumed where it began, unless another device is named."""

    panel = "Machine"

    device: str = option(
        "auto",
        "Where to compute: auto (a CUDA GPU where there is one, else the CPU), cpu, cuda, cuda:N.",
        metavar="auto|cpu|cuda|cuda:N",
    )


@dataclass(frozen=True)
class Performance(Options):
    """Options that change time and memory and nothing else.

    memory_budget counts activations, gradients and sums of one pass; weights and optimiser come on
    top. The same precision must be kept on resume. checkpoint_steps decides what a new attempt is
    billed. samples_every needs a second copy of the base in memory.
    """

    panel = "Time and memory (no effect on privacy)"

    micro_batch: int | None = option(
        None,
        "Units per forward and backward pass (default: as many as fit).",
        flags=("--micro-batch-size",),
        least=1,
    )
    memory_budget: int | None = option(
        None,
        "Memory of one pass, on top of weights and optimiser: 800MB, 4GB (default 1GB; on a GPU"
        " four fifths of what is free). It sets the microbatch size.",
        parse=parse.size,
        least=1,
    )
    gradient_checkpointing: bool = option(
        False,
        "Compute activations again in the backward pass: far less memory for one more forward"
        " pass, the same gradients.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "Number format of products; auto times both on dummy rows, stage by stage, and keeps the"
        " quicker for the run.",
        flags=("--mixed-precision",),
        words={"auto": "auto", "no": "float32", "bf16": "bfloat16"},
    )
    threads: int | None = option(
        None,
        "CPU threads; without it, torch's choice within the quota of a container.",
        least=1,
    )
    checkpoint_steps: int = option(
        25, "Steps between checkpoints.", flags=("--checkpointing-steps",), least=1
    )
    engine: Literal["one-pass", "reference"] = option(
        "one-pass", "How per-unit gradients are computed."
    )
    shard_base: bool = option(
        False,
        "Under torchrun: every process keeps a share of the base's weights (FSDP2), for a base that"
        " does not fit.",
    )
    samples_every: int | None = option(
        None,
        "Steps between pictures of the run so far, kept in the run folder; 0 draws none (default:"
        " at checkpoints, of a short run at each quarter, as often as costs under 5 % of the"
        " time).",
        least=0,
    )


@dataclass(frozen=True)
class Sampling(Options):
    """Public settings of synthesis.

    eta-like randomness belongs to the scheduler; every random number of image i comes from
    hash(seed, i). `batch` images are in work at a time.
    """

    panel = "Sampling"

    scheduler: str = option(
        "auto",
        "Any diffusers scheduler that fits the base, by class name; auto is DPMSolverMultistep, or"
        " the base's own where that does not fit.",
    )
    steps: int = option(
        10, "Steps of the scheduler.", flags=("--steps", "--num-inference-steps"), least=1
    )
    guidance_scale: float = option(
        1.0, "Classifier-free guidance: 1 is none; above 1 needs `adapt --caption-dropout`."
    )
    seed: int = option(0, "Public seed: image i has the seed hash(seed, i).")
    class_moments: int | None = option(
        None,
        "Moves pictures towards the noisy class moments that the run paid for (--warm-up means), by"
        " how this many pictures of each class, drawn first, differ from them; 0 leaves pictures as"
        " they are drawn (default: on bases of up to 64 pixels 500, or twice the numbers of a small"
        " picture, if that makes no more than 10,000; else, or with --prompts, 0).",
        least=0,
    )
    batch: int = option(512, "Images drawn at a time.", least=1)
