"""The decoder is held to its limits where it cannot hold itself, as on macOS and Windows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from sfumato.errors import DataError
from sfumato.records import bounded, limits, load_records, process, watch

from .test_bounded import bomb, looked, pictures, slow_picture

# What the decoder's process does before it starts: forget the limits that it could set itself.
FORGET = "from sfumato.records import limits; limits.resource = limits._TIMER = None; "


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """A decoder without limits of its own, and a parent that knows it."""
    head, _, tail = process._START.partition("from sfumato.records.worker")
    monkeypatch.setattr(process, "_START", f"{head}{FORGET}from sfumato.records.worker{tail}")
    monkeypatch.setattr(limits, "kept_inside", lambda: False)
    bounded._ONE.stop()
    yield
    bounded._ONE.stop()


def test_pictures_are_seen_as_they_are_where_nobody_watches():
    files = pictures(12)
    files[7] = b"no picture"
    seen = looked(files)
    assert sorted(seen) == list(range(12)) and seen.pop(7).startswith("not a picture")
    assert all(found.seal == bounded.seal(files[slot]) for slot, found in seen.items())


def test_a_picture_that_takes_too_long_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    files = pictures(6)
    files[2] = slow_picture()
    seen = looked(files)
    assert seen.pop(2) == limits.TOO_LONG
    assert len(seen) == 5 and all(isinstance(found, bounded.Seen) for found in seen.values())


def test_what_takes_too_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "MEMORY", 2**29)
    with pytest.raises(DataError, match="GB to read: write smaller row groups"):
        load_records(bomb(tmp_path))
    assert len(looked(pictures(2))) == 2, "the decoder goes on"


def test_only_processor_time_counts():
    """A machine that does something else is no fault of a file."""
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        one = watch.Watch(idle, seconds=0.2)
        time.sleep(0.5)
        assert one.stop() is None and idle.poll() is None
    finally:
        idle.kill()
        idle.wait()


def test_a_process_that_is_gone_is_nobodys_fault():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert watch.Watch(gone, seconds=0.0).stop() is None


@pytest.mark.parametrize(
    "status, rule",
    [
        (-signal.SIGPROF, limits.TOO_LONG),
        (-signal.SIGKILL, None),
        (-signal.SIGTERM, None),
        (-signal.SIGHUP, None),
        (-signal.SIGSEGV, limits.CRASHED),
        (1, limits.CRASHED),
        (0, limits.CRASHED),
    ],
)
def test_an_end_says_what_was_broken(status, rule):
    assert limits.broken_rule(status) == rule
