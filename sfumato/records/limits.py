"""Limits of the decoder's process: a file that takes too much time or memory ends it.

On Linux it holds itself to both, for the kernel keeps count. Elsewhere its parent watches it and
ends it (watch.py): macOS takes a limit on addresses and does not enforce it, and Windows has
neither limits nor timers of processor time. The rules are the same: seconds of processor time for
one request, bytes for the whole process.
"""

from __future__ import annotations

import signal
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

MEMORY = 1536 * 2**20  # bytes for the whole process: of addresses, or held where those say little
TOO_LONG, TOO_MUCH, CRASHED = (
    "takes too long to decode",
    "takes too much memory",
    "crashes the decoder",
)
# What ends a process from outside, whatever it was reading. 1 is what Windows leaves of one that
# somebody ended.
_ENDED = {
    -getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGHUP")
    if hasattr(signal, "SIGKILL")
} or {1}
_OF_NETWORK = ("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo")
_TIMER = getattr(signal, "ITIMER_PROF", None)


def kept_inside() -> bool:
    """Whether the process can hold itself to both limits."""
    return sys.platform.startswith("linux") and resource is not None and _TIMER is not None


def limit_process() -> None:
    """For the process itself, at its start: no core file, no file at all, no network, and MEMORY.

    What of Python asks for a connection is refused for good; nothing takes the hook away again.
    """
    sys.addaudithook(_refuse_network)
    for name, most in (("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 0), ("RLIMIT_AS", MEMORY)):
        what = getattr(resource, name, None)
        if resource is None or what is None:
            continue
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # a system without this limit: the others stay
            continue


def _refuse_network(event: str, _arguments: object) -> None:
    if event in _OF_NETWORK:
        raise PermissionError("a decoder has no network")


def limit_time(seconds: float) -> None:
    """Limits this process to so many seconds of processor time; 0 removes the limit.

    Not of wall-clock time, which would blame a file for what else the machine does.
    """
    if _TIMER is not None:
        signal.setitimer(_TIMER, seconds)


def broken_rule(status: int) -> str | None:
    """The rule that was broken when the process ended with this status; None for another cause."""
    if _TIMER is not None and status == -signal.SIGPROF:
        return TOO_LONG
    return None if status in _ENDED else CRASHED
