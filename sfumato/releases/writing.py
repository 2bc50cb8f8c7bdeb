"""Files of a release on disk: written whole, copied without times and modes, named at the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases.formats import public_json


def write(path: Path, data: bytes) -> str:
    """Write and flush one file; returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return hashlib.sha256(data).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        found = hashlib.sha256()
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def as_json(value: dict[str, Any]) -> bytes:
    """Readable JSON; each point of the curve stays on one line. NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    text = re.sub(r"\[\n\s+([-\d.e+]+),\n\s+([-\d.e+]+)\n\s+\]", r"[\1, \2]", text)
    return (text + "\n").encode("utf-8")


def disk(error: OSError) -> SfumatoError:
    """What a full or failing disk is called."""
    return SfumatoError(
        f"cannot write the release ({error.strerror or error}); nothing was left half-written"
    )


def copy(source: Path, target: Path, made: str | None) -> str:
    """Copies one checked file, without its times and modes; returns its SHA-256.

    Torn copies show in SHA256SUMS. `made`: the hash it had when it was written; SfumatoError if it
    is another file now.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    read, written = hashlib.sha256(), hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(-1 if source.suffix == ".json" else 1 << 20):
            read.update(block)
            block = public_json(block) if source.suffix == ".json" else block
            writer.write(block)
            written.update(block)
    if made is not None and read.hexdigest() != made:
        raise SfumatoError(
            f"{source.name} is not the file that was synthesized or exported: make the folder again"
        )
    return written.hexdigest()


def rename(building: Path, out: Path, in_place: bool) -> None:
    """Gives the finished folder its name.

    In place, the draft is moved aside first and comes back if that fails. A process killed between
    the two renames leaves both folders whole, under names that begin with a dot.
    """
    if not in_place:
        os.rename(building, out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-draft-", dir=out.parent))
    try:
        os.rename(out, aside)
    except OSError:
        aside.rmdir()
        raise
    try:
        os.rename(building, out)
    except OSError:
        os.rename(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
