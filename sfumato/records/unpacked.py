"""Files that hold many pictures, read and unpacked by a bounded process of their own.

Not by the decoder (bounded.py), which waits for what is unpacked here.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .bounded import BYTES_PER_SECOND, SECONDS
from .decode import BadImage
from .limits import CRASHED, MEMORY
from .process import Died, Process
from .worker import FETCH, GIVEN, LIST, REFUSED, TOO_MUCH


def listed(kind: str, files: Sequence[Path], *said: Any) -> dict[str, Any]:
    """What a reader of layouts (`worker.LISTERS`) finds in files, read by the other process.

    DataError if it refuses them, or if they take too much time or memory.
    """
    names = [str(Path(file).absolute()) for file in files]
    size = sum(os.stat(name).st_size for name in names)
    seconds = SECONDS + size / BYTES_PER_SECOND
    answer = _of_reader(LIST, [kind, names, *said], seconds)
    name = files[0].name
    if isinstance(answer, str):
        if answer == CRASHED:
            raise DataError(f"{name} crashes its reader: save it again")
        limit = f"{MEMORY / 2**30:.1f} GB" if answer == TOO_MUCH.decode() else f"{seconds:.0f} s"
        raise DataError(f"{name} takes more than {limit} to read: write it in smaller parts")
    if answer[:1] == REFUSED:
        raise DataError(answer[1:].decode("utf-8", "surrogatepass"))
    return json.loads(answer[1:])


def fetched(kind: str, file: Path, *where: Any) -> bytes:
    """The bytes of one picture out of a file that holds many (`worker.FETCHERS`).

    The other process unpacks them, within the limits of one picture. BadImage with the rule if it
    cannot.
    """
    answer = _of_reader(FETCH, [kind, str(Path(file).absolute()), *where], SECONDS)
    if isinstance(answer, str):
        raise BadImage(answer)
    if answer[:1] != GIVEN:
        raise BadImage(answer[1:].decode("ascii"))
    return answer[1:]


def _of_reader(kind: int, asked: list[Any], seconds: float) -> bytes | str:
    """The reader's answer, or the rule that was broken when it died."""
    with _LOCK:
        process = _READER
        for last in (False, True):  # a second chance if somebody else killed it
            process.send(kind, json.dumps(asked).encode("ascii"), seconds)
            try:
                answer = process.receive()
            except Died as died:
                if died.rule or last:
                    return died.rule or CRASHED
            except BaseException:
                process.stop()
                raise
            else:
                return TOO_MUCH.decode("ascii") if answer == TOO_MUCH else answer
        raise AssertionError  # one of the two has returned


_LOCK, _READER = threading.Lock(), Process()


def _after_fork() -> None:
    """Forgets the process, as in bounded.py."""
    global _LOCK, _READER
    _LOCK, _READER = threading.Lock(), Process()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _READER.stop())
