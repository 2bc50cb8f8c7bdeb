"""A run as the ledger knows it: steps of an attempt, the finished model, and the weights it made.

The model is noted once for each attempt. The weights are never accepted as a public base, whatever
they are called later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..bases import left_by_system, made_contents, made_contents_of_files, weights_of_base
from ..errors import LedgerFault, MachineError
from ..methods import METHODS
from ..methods.adaptation import Adapted
from ..privacy.ledger.entries import Attempt
from ..privacy.ledger.notes import CheckpointMade, Interval, Made, ModelMade
from ..privacy.ledger.public import MOST
from .folder import Run

MOST_OF_CHECKPOINT = 2048  # codes


def begin_interval(run: Run, attempt: int, step: int) -> int:
    """Notes the steps from `step` to the next checkpoint, durably, before they run.

    Returns their end. A later attempt is billed up to there, whatever became of checkpoints, files
    and clocks; a process that cannot note them does not run them. LedgerFault if another copy of
    the run folder has started an attempt since.
    """
    every = run.options["performance"]["checkpoint_steps"]
    end = min(step - step % every + every, run.plan.steps)
    run.record(Interval(interval=[step, end], attempt=attempt))
    return end


def reached(run: Run, attempt: int) -> int:
    """The last step that the attempt may have run: the end of its last started interval.

    0 steps are certain where none was started.

    An attempt of a version that noted no intervals: one checkpoint interval beyond the last
    checkpoint that it noted, or all steps where it ended with a model. Of a method without steps:
    its one sum, always.
    """
    steps, begun = run.plan.steps, run.ledger.entries(Attempt)[attempt]
    ends = [end for _, end in _intervals(run, attempt)]
    checkpoints = _checkpoints(run, attempt)
    ended = any(model.attempt == attempt for model in run.ledger.entries(ModelMade))
    # One noisy sum takes no steps that could be noted one by one: a second one is never free.
    if ended or not METHODS[run.plan.method].takes_steps:
        return steps
    if not ends and "threads" not in begun.fingerprint:
        last = max([begun.from_step, *checkpoints])
        ends = [last + run.options["performance"]["checkpoint_steps"]]
    return min(max([begun.from_step, *ends, *checkpoints]), steps)


def _intervals(run: Run, attempt: int) -> list[Sequence[int]]:
    return [n.interval for n in run.ledger.entries(Interval) if n.attempt == attempt]


def _checkpoints(run: Run, attempt: int) -> list[int]:
    return [n.checkpoint for n in run.ledger.entries(CheckpointMade) if n.attempt == attempt]


def _ended(run: Run, attempt: int) -> bool:
    """Whether the ledger knows that the attempt began and ended its last step."""

    def noted(kind: type) -> list[Any]:
        return [note for note in run.ledger.entries(kind) if note.attempt == attempt]

    return METHODS[run.plan.method].ended(run.plan, noted)


def seal_model(run: Run, folder: Path, attempt: int, public: Collection[bytes] = ()) -> None:
    """Notes the finished model in the ledger before it gets its name.

    What it holds of `public` (`frozen_contents`) is not counted as made by the run. A copy of the
    run folder that ended the same attempt with other numbers (other hardware, say) had the same
    noise: the difference of the two would have none. LedgerFault for the second of them, and for an
    attempt whose last step the ledger does not know: it could be run again without being billed.
    """
    if not _ended(run, attempt):
        raise LedgerFault(
            "the ledger has no note of this attempt's last step, so its model cannot be finished:"
            " --resume --new-attempt"
        )
    made = note_weights(run, "model", folder, public)
    digest = model_digest(folder)
    run.record(ModelMade(made=made.made, blocks=made.blocks, model=digest, attempt=attempt))


def require_sealed(run: Run) -> None:
    """Checks that the run's model is one that the ledger knows.

    LedgerFault if it is not; SfumatoError if training has not ended.
    """
    if model_digest(run.model) not in [made.model for made in run.ledger.entries(ModelMade)]:
        raise LedgerFault(
            f"{run.folder / 'model'} is not the model that the ledger knows: put the run's own back"
        )


def frozen_contents(adaptation: Adapted) -> frozenset[bytes]:
    """Contents of what does not train, such as adapters that keep their public initial values."""
    trainable = {id(tensor) for tensor in adaptation.trainable.values()}
    held = list(adaptation.model.named_parameters())
    if not trainable <= {id(tensor) for _, tensor in held}:
        return frozenset()  # what trains lies elsewhere: nothing here is surely public
    frozen = [(name, p) for name, p in held if id(p) not in trainable]
    return frozenset(content for made in made_contents(frozen) for content in made)


def note_weights(run: Run, what: str, place: Path, public: Collection[bytes] = ()) -> Made:
    """The NOTE row of weights that a run made.

    Keyed codes of the blocks of its files, without those of the run's base.

    Args:
        run: The run.
        what: "model" or "control".
        place: Folder of the safetensors files.
        public: Contents that the run did not make.
    """
    before = _before(run.plan.base, run.plan.base_digest) | frozenset(public)
    return keyed_contents(run, what, made_contents_of_files(place, before), MOST)


def note_state(run: Run, tensors: Mapping[str, torch.Tensor]) -> Made:
    """The same for a checkpoint: its weights and their averages.

    There are many checkpoints, so fewer codes of each.
    """
    state = [
        (name, tensor)
        for name, tensor in tensors.items()
        if name.startswith(("weight/", "average/"))
    ]
    before = _before(run.plan.base, run.plan.base_digest)
    return keyed_contents(run, "checkpoint", made_contents(state, before), MOST_OF_CHECKPOINT)


def keyed_contents(run: Run, what: str, made: Iterable[Sequence[bytes]], most: int) -> Made:
    """The NOTE row of blocks that a run made."""
    return Made(made=what, blocks=run.ledger.ledger.public.block_codes(made, most))


@lru_cache(maxsize=1)
def _before(base: str, digest: str) -> frozenset[bytes]:
    """The contents of a base with this digest."""
    return weights_of_base(base)


def model_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files.

    The header of a safetensors file counts as the JSON that it is, because its writer orders it as
    it likes. MachineError if a file does not read.
    """
    whole = hashlib.sha256()
    try:
        held = (p for p in folder.rglob("*") if not p.is_dir() and not left_by_system(p))
        for path in sorted(held):
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                if path.suffix == ".safetensors":
                    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
                    digest.update(json.dumps(header, sort_keys=True).encode())
                while block := stream.read(1 << 20):
                    digest.update(block)
            whole.update(
                json.dumps([path.relative_to(folder).as_posix(), digest.hexdigest()]).encode()
            )
    except (OSError, ValueError, OverflowError) as error:
        raise MachineError(
            f"the model of the run cannot be read ({type(error).__name__}): put it back"
        ) from error
    return whole.hexdigest()
