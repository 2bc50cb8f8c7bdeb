"""Files of measured rows, one JSON object a line: kept when a program is stopped, and not measured
again.
"""

from __future__ import annotations

import json
from pathlib import Path


def lines(file: Path) -> list[dict]:
    """The JSON lines of a file, none if it is not there; a last line that was cut off is
    left out.
    """
    if not file.exists():
        return []
    whole = [
        line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]
    try:
        return [json.loads(line) for line in whole]
    except ValueError:
        raise SystemExit(
            f"{file} holds a line that is no JSON: remove it, or name another file"
        ) from None


def append(file: Path, row: dict) -> None:
    """One more line, after a last one that was cut off is removed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a+b") as out:
        out.seek(0)
        out.truncate(out.read().rfind(b"\n") + 1)
        out.write(json.dumps(row).encode() + b"\n")
