"""What the guarantee needs of a disk, per platform: locks, synced folders, modes, home folders.

POSIX systems have all four. Windows has locks of another kind, keeps folders by itself, and has no
modes: there a secret is as safe as the folder that it lies in.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # POSIX
    msvcrt = None
try:
    import pwd
except ImportError:  # Windows
    pwd = None

# For `os.open`: Windows would write "\r\n" for "\n" otherwise.
BINARY = getattr(os, "O_BINARY", 0)
# Locked bytes lie far beyond a file's end, for on Windows nobody else can read them.
_PLACE, _SHARES = 2**30, 64
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def lock(file: int | IO[Any], *, shared: bool = False, wait: bool = True) -> None:
    """Locks an open file against other openings of it, in any process, until it is closed.

    Args:
        file: A file object or descriptor, open for writing.
        shared: Share the lock with others that ask for a shared one (64 at most on Windows); never
            held
            beside an exclusive one.
        wait: Wait until the lock can be had.

    Raises:
        BlockingIOError: Somebody else has it, and `wait` is false.
        OSError: The system or the file system has no locks.
    """
    handle = file if isinstance(file, int) else file.fileno()
    if fcntl is not None:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)
    elif msvcrt is not None:
        while not _lock_bytes(handle, shared):
            if not wait:
                raise BlockingIOError(errno.EAGAIN, "somebody else has the lock")
            time.sleep(0.02)
    else:
        raise OSError(
            errno.ENOLCK,
            "this system has no file locks, without which two charges could be one: run sfumato on"
            " Linux, macOS or Windows",
        )


def _lock_bytes(handle: int, shared: bool) -> bool:
    """Whether the lock was taken: all places of it, or any one of them to share it."""
    windows: Any = msvcrt
    for first, count in [(i, 1) for i in range(_SHARES)] if shared else [(0, _SHARES)]:
        os.lseek(handle, _PLACE + first, os.SEEK_SET)
        try:
            windows.locking(handle, windows.LK_NBLCK, count)
            return True
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
    return False


def sync_folder(folder: Path) -> None:
    """Let names that were made or moved in `folder` survive a power cut.

    Windows opens no folder, and its file system keeps a journal of names.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_to_others(path: Path) -> bool:
    """Whether other users may read the file by its mode; never so where files have no modes."""
    return hasattr(os, "getuid") and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def listed_home() -> Path | None:
    """Returns the home folder that the system's list of accounts has for this process.

    $HOME is not asked. None if there is no such list (Windows) or the process is not in it (a
    container).
    """
    try:
        return None if pwd is None else Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None
