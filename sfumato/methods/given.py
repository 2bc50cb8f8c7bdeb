"""Inputs of a method beside its own options: prompts, and what a probe or public images decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..bases import Base
    from ..options import Sampling
    from .prompts import Prompts

LEARNING_RATE = 4e-3  # of weights
# B starts at zero beside a small A: at the rate of weights adapters hardly move
ADAPTER_LEARNING_RATE = 0.04
# how much noise over the largest possible signal of a whole run that rate, and half of it, were
# measured to bear (docs/methods.md, "The learning rate where noise rules")
ADAPTERS_BEAR = 0.08, 0.6
TOKEN_LEARNING_RATE = 0.04  # a token's few numbers need larger steps than weights do


@dataclass(frozen=True)
class Given:
    """Inputs of a method beside its options: prompts, and public or paid answers.

    start: tensors by module that adapters or a geometry start from, learnt from public images.
    selected: groups of matrices that a probe or public images chose.
    """

    prompts: Prompts
    start: Mapping[str, torch.Tensor] | None = None
    selected: Sequence[str] | None = None


@dataclass(frozen=True)
class PublicAnswers:
    """What public images decided before the plan.

    How adapters or a geometry start, which groups of matrices train, and the scores behind that
    choice. Callers cannot set them by name.
    """

    start: Mapping[str, torch.Tensor] = field(default_factory=dict)
    selected: Sequence[str] | None = None
    scores: Sequence[float] | None = None


class PublicImages(Protocol):
    """Images that need no protection, as a method may look at them."""

    @property
    def usable(self) -> np.ndarray:
        """Bool [n]."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """int64 [n], a position in `classes` or -1."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def load(self, slots: np.ndarray, resolution: int, /) -> Any:
        """Images uint8 [s, R, R, 3] of `slots` [s], and whether each could be read."""


@dataclass(frozen=True)
class Drawing:
    """The first images of a data set once more, for its report.

    base: has learnt what the run released. n: images in all, in class shares `shares`. shard: (i,
    k). sampling: how they are drawn. seconds: about how long all of it may take; None: any time.
    """

    base: Base
    n: int
    shares: Sequence[float]
    shard: tuple[int, int]
    sampling: Sampling
    seconds: float | None = None
