"""Other platforms, played on this one: what they lack is taken away, what they have instead is put
there, and sfumato is imported once more.

Foreign libraries stay as they were imported before, for this platform: what they do elsewhere is
their own matter.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import importlib.util
import os
import pkgutil
import signal
import struct
import subprocess
import sys
import types

_SETLK = 37  # Linux's F_OFD_SETLK: a lock of the open file, not of the process, as on Windows
ABSENT_ON_WINDOWS = {
    os: "getuid geteuid getgid fork register_at_fork O_DIRECTORY O_NOFOLLOW O_NONBLOCK"
    " posix_fallocate confstr sysconf",
    signal: "setitimer ITIMER_PROF SIGPROF SIGKILL SIGHUP",
}


def as_windows() -> list[str]:
    """No fcntl, pwd, resource, fork, modes or timers; msvcrt's locks of bytes in their place.

    Returns:
        Names of all modules of sfumato, each imported anew.
    """
    names = _forget()
    for name in ("fcntl", "pwd", "resource", "grp"):
        sys.modules[name] = None
    subprocess.Popen.kill = lambda self, number=signal.SIGKILL: self.send_signal(number)
    for module, absent in ABSENT_ON_WINDOWS.items():
        for name in absent.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.modules["msvcrt"] = msvcrt()
    return _remember(names)


def without_locks() -> list[str]:
    """Neither POSIX nor Windows: no file locks of any kind. Returns as `as_windows`."""
    names = _forget()
    sys.modules["fcntl"] = sys.modules["msvcrt"] = None
    return _remember(names)


def _forget() -> list[str]:
    import sfumato

    found = pkgutil.walk_packages(sfumato.__path__, "sfumato.")
    absent = set() if importlib.util.find_spec("triton") else {"sfumato.privacy.random.kernels"}
    names = [m.name for m in found if not m.name.endswith(".__main__") and m.name not in absent]
    _remember(names)
    for name in [n for n in sys.modules if n.partition(".")[0] == "sfumato"]:
        del sys.modules[name]
    return names


def _remember(names: list[str]) -> list[str]:
    for name in names:
        importlib.import_module(name)
    return names


def msvcrt() -> types.ModuleType:
    """`locking` with LK_NBLCK, as Windows does it: `count` bytes from where the file stands, with
    EACCES while another opening of the file has one of them.
    """
    module = types.ModuleType("msvcrt")
    module.LK_NBLCK = 2

    def locking(handle: int, mode: int, count: int) -> None:
        assert mode == module.LK_NBLCK and count > 0
        start = os.lseek(handle, 0, os.SEEK_CUR)
        wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, count, 0)
        try:
            fcntl.fcntl(handle, _SETLK, wanted)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    module.locking = locking
    return module
