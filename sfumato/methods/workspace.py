"""The parts of a run that a method may use.

Its latents, its keyed draws, a scratch folder and the ledger's notes. It gives no path to a private
file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..options import Execution
from ..privacy.ledger.entries import Entry
from ..privacy.random.keys import RunKey
from ..training import LatentData, Progress, Standing

if TYPE_CHECKING:
    import torch


class Stop(Protocol):
    """Whether somebody has asked the run to stop at the next boundary."""

    asked: bool


@dataclass(frozen=True)
class Workspace(ABC):
    """One attempt at a run, as its method sees it.

    Calls that write into the ledger are for the first rank alone, and durable on return; a method
    that cannot note a step does not run it.

    Attributes:
        data: Cached latents, labels and units.
        order: int64 [n], slots in the source's own order, which no image's content changes.
        key: The run key of the attempt.
        attempt: With the key, the address of every draw.
        folder: The run's own, for intermediate files.
        execution: What is done now and what stays.
        checkpoint: (facts, tensors) to go on from.
        selected: What the plan's probe has chosen, once the ledger knows it.
        moments: Hash of the run's noisy class moments, once the ledger knows it.
        on_stage: Takes a line for every stage.
    """

    data: LatentData
    order: np.ndarray
    key: RunKey
    attempt: int
    folder: Path
    execution: Execution
    checkpoint: tuple[Mapping[str, Any], dict[str, torch.Tensor]] | None
    selected: Sequence[str] | None
    moments: str | None
    on_stage: Callable[[str], None]

    @abstractmethod
    def note(self, entry: Entry) -> None:
        """Appends a NOTE row of the run to the ledger.

        Args:
            entry: The row; everybody who may read the ledger sees it.
        """

    @abstractmethod
    def note_weights(self, what: str, place: Path) -> None:
        """Notes the contents of files of weights, so that they are never accepted as a public base.

        Args:
            what: For example "control".
            place: Their folder.
        """

    @abstractmethod
    def look(self, what: Sequence[str]) -> None:
        """Notes that exact figures of the run's own images will be shown to somebody.

        Args:
            what: Kinds of figures.
        """

    @abstractmethod
    def begin(self, step: int) -> int:
        """Notes that the steps from `step` on are begun, before they are.

        Returns where the interval ends: a later attempt is billed up to there.
        """

    @abstractmethod
    def keep(self, state: Standing, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint; the ledger knows its hash before the file has its name.

        Args:
            state: Where the method stands.
            tensors: What `state.tensors()` returned on all ranks.
        """

    @abstractmethod
    def show(self, step: int) -> None:
        """Draw pictures of the checkpoint of `step`, which `keep` has just written."""

    @abstractmethod
    def stoppable(self) -> AbstractContextManager[Stop]:
        """Within it signals ask the method to stop at its next boundary."""

    @abstractmethod
    def log(self, now: Progress) -> None:
        """One row of the run's metrics."""

    @abstractmethod
    def progress(self, now: Progress) -> None:
        """Tell the caller where training stands."""
