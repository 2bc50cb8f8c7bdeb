"""What was measured on this machine, kept in the user's cache folder.

$XDG_CACHE_HOME/sfumato or ~/.cache/sfumato. It holds times of dummy work and nothing else, and may
be removed at any moment: what is missing, spoilt or of another machine is measured anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from . import fingerprint
from .threads import threads

FILE = "machine.json"
MOST = 1e9  # beyond which no measurement of a machine is


def cache_folder() -> Path | None:
    """The user's cache folder for this program; None without a home."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home).absolute() / "sfumato"


def this_machine() -> str:
    """A hash of processor, torch's build, kernels' switches and number of threads."""
    told = json.dumps([fingerprint.numerics(), torch.__version__, threads()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def remembered(
    name: str, names: Sequence[str], measure: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """Positive numbers that were measured on this machine, now or before.

    Args:
        name: Of the measurement.
        names: Of its numbers.
        measure: Measures them.

    Returns:
        Name -> number.
    """
    folder, machine = cache_folder(), this_machine()
    kept: Any = _read(folder, machine).get(name)
    if _numbers(kept, names):
        return {key: float(kept[key]) for key in names}
    found = {key: float(value) for key, value in measure().items()}
    if folder is not None:
        # a cache that cannot be written is none: the next run measures again
        with contextlib.suppress(OSError):
            _write(folder, {"machine": machine, **_read(folder, machine), name: found})
    return found


def _read(folder: Path | None, machine: str) -> dict[str, Any]:
    try:
        held: Any = json.loads((folder / FILE).read_text("utf-8")) if folder else None
    except (OSError, ValueError, RecursionError):
        return {}
    fits = isinstance(held, dict) and cast(Any, held).get("machine") == machine
    return cast(Any, held) if fits else {}


def _numbers(kept: Any, names: Sequence[str]) -> bool:
    def good(value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and 0 < value < MOST

    return isinstance(kept, dict) and set(kept) == set(names) and all(map(good, kept.values()))


def _write(folder: Path, body: Mapping[str, Any]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(body, file)
        os.replace(part, folder / FILE)
    except OSError:
        os.unlink(part)
        raise
