"""What a method is: a frozen class of options that knows how to adapt a base."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..options import Options

if TYPE_CHECKING:
    import torch

    from ..bases import Base
    from .adaptation import Adaptation
    from .prompts import Prompts

LEARNING_RATE = 4e-3  # of weights
# B starts at zero beside a small A: at the rate of weights adapters hardly move
ADAPTER_LEARNING_RATE = 0.04
TOKEN_LEARNING_RATE = 0.04  # a token's few numbers need larger steps than weights do


@dataclass(frozen=True)
class Given:
    """What a method was given beside its options: prompts, and public or paid answers.

    start: tensors by module that adapters or a geometry start from, as public images said.
    selected: groups of matrices that a probe or public images chose.
    """

    prompts: Prompts
    precision: torch.dtype
    start: Mapping[str, torch.Tensor] | None = None
    selected: Sequence[str] | None = None


@dataclass(frozen=True)
class PublicAnswers:
    """What public images decided before the plan: how adapters or a geometry start, which groups of
    matrices train, and the scores that this rests on. No caller can name them.
    """

    start: Mapping[str, torch.Tensor] = field(default_factory=dict)
    selected: Sequence[str] | None = None
    scores: Sequence[float] | None = None


@dataclass(frozen=True)
class Method(Options):
    """One paper: its options are the fields, its algorithm the functions.

    name: on the command line and in plans. learning_rate: of Adam, unless told otherwise.
    learns_tokens: whether tokens are all that it learns. own_bound: the option that --clip-norm
    means, where a unit is bounded by a rule of the method.
    """

    panel = "Method"
    name: ClassVar[str]
    learning_rate: ClassVar[float] = LEARNING_RATE
    learns_tokens: ClassVar[bool] = False
    own_bound: ClassVar[str | None] = None

    @abstractmethod
    def apply(self, base: Base, given: Given) -> Adaptation:
        """Apply the method to a base: what trains, and the loss per record.

        Args:
            base: A public base; it is changed in place.
            given: Prompts, precision, and what public images or a probe decided.

        Raises:
            SfumatoError: Options that do not fit each other, the base or the prompts.
        """
