"""Where a run's private images are and how they were read, kept in its folder. PRIVATE.

So that `evaluate` and a resumed run need not be told again. No promise rests on it: the ledger
knows the images by keyed hashes, whatever this file says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..options import Reading
from ..options.frames import PLAIN

FILE, SPLIT = "reading.json", "split.json"
NOT_KEPT = ("yes_public", "split")  # said once, for one plan; kept as a file of its own


@dataclass(frozen=True)
class Remembered:
    """What a run remembers.

    images: absolute path of its images; None for records that were handed in from Python. reading:
    how they were read; its `split` is the run's own copy.
    """

    images: Path | None
    reading: Reading


def to_remember(images: object, reading: Reading) -> dict[str, bytes]:
    """Files for the run folder, by name, from the arguments of `adapt`."""
    place = str(Path(images).absolute()) if isinstance(images, (str, Path)) else None
    how = {name: value for name, value in asdict(reading).items() if name not in NOT_KEPT}
    if reading.classes is not None:
        how["classes"] = list(reading.classes)
    files = {FILE: json.dumps({"images": place, "reading": how}, indent=1).encode()}
    if reading.split is not None and place is not None:
        files[SPLIT] = Path(reading.split).read_bytes()
    return files


def remembered(folder: Path) -> Remembered:
    """What a run remembers; nothing for runs of earlier versions, and for a file that was altered.

    Options of another version are left out.
    """
    try:
        body = json.loads((folder / FILE).read_text("utf-8"))
        known = {field.name for field in fields(Reading)}
        how = {k: v for k, v in body["reading"].items() if k in known}
        if "frames" not in how:  # else pictures that were zero slots would be other data
            how["frames"] = PLAIN
        if (folder / SPLIT).exists():
            how["split"] = str(folder / SPLIT)
        reading = Reading(**how)
        return Remembered(None if body["images"] is None else Path(body["images"]), reading)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Remembered(None, Reading())
