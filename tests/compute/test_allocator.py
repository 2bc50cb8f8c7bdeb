"""glibc's settings: made once, for this process, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sfumato.compute import allocator

# A block of 64 MB, freed: does the process still hold it? Before and after the settings.
HELD = """
import ctypes, psutil, sys
from sfumato.compute.allocator import keep_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 64 * 2**20
def held():
    before = psutil.Process().memory_info().rss
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    return psutil.Process().memory_info().rss - before > size // 2
print(held(), keep_memory(), held(), "torch" in sys.modules)
"""
GLIBC = allocator._glibc()


def held(**environment: str) -> list[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in (*allocator.SETTINGS, allocator.OPT_OUT, "GLIBC_TUNABLES")
    }
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_freed_memory_stays_in_the_process():
    assert held() == ["False", "True", "True", "False"]


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(
    "said", [{"SFUMATO_MALLOC": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"}]
)
def test_what_the_environment_says_stays(said):
    assert held(**said) == ["False", "False", "False", "False"]


def test_a_variable_that_is_set_is_left_to_its_owner(monkeypatch):
    asked = []

    class Library:
        @staticmethod
        def mallopt(number, value):
            asked.append(number)
            return 1

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(allocator, "_glibc", lambda: True)
    for name in (*allocator.SETTINGS, allocator.OPT_OUT, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1000")
    assert allocator.keep_memory() and sorted(asked) == [-4, -1]


@pytest.mark.parametrize("says", [None, "musl 1.2", "raises", "missing"])
def test_nothing_happens_with_another_library(monkeypatch, says):
    def confstr(name):
        if says == "raises":
            raise ValueError(name)
        return says

    if says == "missing":
        monkeypatch.delattr(os, "confstr")
    else:
        monkeypatch.setattr(os, "confstr", confstr)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # not even looked for
    monkeypatch.delenv(allocator.OPT_OUT, raising=False)
    assert allocator.keep_memory() is False
