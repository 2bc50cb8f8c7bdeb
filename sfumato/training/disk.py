"""Room on the disk for what is written through memory maps."""

from __future__ import annotations

import os
from pathlib import Path


def reserve(path: Path) -> None:
    """Gives a sparse file its blocks now.

    On a full disk a memory map would otherwise end the process later, without a message.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size)
