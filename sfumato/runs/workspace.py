"""A run as its method may use it: `methods.workspace` from folder, ledger and lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..methods.workspace import Workspace
from ..privacy.ledger.entries import Entry
from ..privacy.ledger.notes import CheckpointMade
from ..privacy.plan import Plan
from ..training import Progress, Standing, write_checkpoint
from .attempts import begin_interval, note_state, note_weights
from .folder import Run
from .lock import StopFlag
from .looks import record_look
from .samples import Samples


@dataclass(frozen=True)
class RunWorkspace(Workspace):
    """One attempt at `run`.

    tell: takes where training stands after every step, and the plan. samples: its pictures.
    """

    run: Run
    tell: Callable[[Progress, Plan], None]
    samples: Samples

    def note(self, entry: Entry) -> None:
        """Appends a NOTE row."""
        self.run.record(entry)

    def note_weights(self, what: str, place: Path) -> None:
        """Notes weights that the run made."""
        self.run.record(note_weights(self.run, what, place))

    def look(self, what: Sequence[str]) -> None:
        """Notes a look at exact figures."""
        record_look(self.run, what)

    def begin(self, step: int) -> int:
        """Notes that the steps from `step` on are begun; returns where the interval ends."""
        return begin_interval(self.run, self.attempt, step)

    def keep(self, state: Standing, tensors: dict[str, torch.Tensor]) -> None:
        """Writes a checkpoint whose hash the ledger knows first."""

        def announce(facts: dict[str, Any]) -> None:
            # The ledger knows a checkpoint's hash first: what lies on disk later is this file or
            # none.
            made = note_state(self.run, tensors)
            known = CheckpointMade(
                made=made.made,
                blocks=made.blocks,
                checkpoint=facts["step"],
                attempt=self.attempt,
                sha256=facts["sha256"],
            )
            self.run.record(known)

        place, plan = self.folder / "checkpoints", self.run.plan
        attempt, key = self.attempt, self.key.id
        write_checkpoint(place, state, attempt, key, plan.digest, announce, tensors)

    def show(self, step: int) -> None:
        """Draws pictures of the checkpoint of `step`, into the run folder."""
        # the probe's choice may have been recorded by this very attempt
        self.samples.show(step, self.run.selected)

    def stoppable(self) -> StopFlag:
        """A flag that signals set; training stops at the next step boundary."""
        return StopFlag()

    def log(self, now: Progress) -> None:
        """Appends a step to the run's table of public progress."""
        row = {
            "step": now.step,
            "epsilon": self.run.plan.epsilon_after(now.step),
            "learning_rate": now.learning_rate,
        }
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as table:
            table.write(json.dumps(row) + "\n")

    def progress(self, now: Progress) -> None:
        """Shows progress to the caller."""
        self.tell(now, self.run.plan)
