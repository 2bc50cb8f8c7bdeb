"""What a run makes, as the ledger knows it: what leaves is what training wrote, once for each attempt, and no weights of a run pass for
a public base, whatever they are called later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from .bases import made_contents, made_contents_of_files, weights_of_base
from .errors import LedgerFault, MachineError
from .run import Run


def seal_model(run: Run, folder: Path, attempt: int) -> None:
    """Note the finished model in the ledger before it gets its name.

    A copy of the run folder that ended the same attempt with other numbers (other hardware, say) had the same noise: the difference
    of the two would have none. LedgerFault for the second of them.
    """
    run.record("NOTE", {"model": model_digest(folder), "attempt": attempt, **note_weights(run, "model", folder)})


def require_sealed(run: Run) -> None:
    """LedgerFault unless the run's model is one that the ledger knows; SfumatoError if training has not ended."""
    if model_digest(run.model) not in [note.get("model") for note in run.ledger.bodies("NOTE")]:
        raise LedgerFault(f"{run.folder / 'model'} is not the model that the ledger knows: put the run's own back")


def keyed_contents(run: Run, what: str, contents: Iterable[bytes]) -> dict:
    """What a NOTE row says of weights that a run made (`what`: model, checkpoint, control): each tensor's keyed hash."""
    return {"made": what, "tensors": [run.ledger.ledger.public.tensor_key(content) for content in contents]}


def note_weights(run: Run, what: str, place: Path) -> dict:
    """The same for the safetensors files at `place`, less what the run's base holds already."""
    before = weights_of_base(run.plan.base)
    return keyed_contents(run, what, made_contents_of_files(place, before))


def note_state(run: Run, tensors: Mapping[str, torch.Tensor]) -> dict:
    """The same for a checkpoint: its weights and their averages."""
    parts = [[(n, t) for n, t in tensors.items() if n.startswith(kind)] for kind in ("weight/", "average/")]
    return keyed_contents(run, "checkpoint", [content for part in parts for content in made_contents(part)])


def model_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files. The header of a safetensors file counts as the JSON that it is, because its
    writer orders it as it likes. MachineError if a file does not read."""
    whole = hashlib.sha256()
    try:
        for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                if path.suffix == ".safetensors":
                    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
                    digest.update(json.dumps(header, sort_keys=True).encode())
                while block := stream.read(1 << 20):
                    digest.update(block)
            whole.update(json.dumps([path.relative_to(folder).as_posix(), digest.hexdigest()]).encode())
    except (OSError, ValueError, OverflowError) as error:
        raise MachineError(f"the model of the run cannot be read ({type(error).__name__}): put it back") from error
    return whole.hexdigest()
