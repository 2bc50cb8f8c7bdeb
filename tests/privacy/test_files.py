"""Locks, synced folders, modes and accounts, on the platforms that have each."""

from __future__ import annotations

import errno
import os
import threading
from types import SimpleNamespace

import pytest

from sfumato.privacy import files

from ..platforms import msvcrt


@pytest.fixture(params=["fcntl", "msvcrt"])
def place(request, monkeypatch, tmp_path):
    """A file to lock, with locks of this platform, and with those of Windows."""
    if request.param == "msvcrt":
        monkeypatch.setattr(files, "fcntl", None)
        monkeypatch.setattr(files, "msvcrt", msvcrt())
    return tmp_path / "a.lock"


def test_a_lock_is_held_until_its_file_is_closed(place):
    with open(place, "a+") as first, open(place, "a+") as second:
        files.lock(first)
        with pytest.raises(BlockingIOError):
            files.lock(second, wait=False)
        with pytest.raises(BlockingIOError):
            files.lock(second, shared=True, wait=False)
        first.close()
        files.lock(second.fileno(), wait=False)
    assert place.read_bytes() == b""


def test_a_shared_lock_keeps_only_the_others_out(place):
    opened = [open(place, "a+") for _ in range(4)]
    for one in opened[:3]:
        files.lock(one, shared=True, wait=False)
    with pytest.raises(BlockingIOError):
        files.lock(opened[3], wait=False)
    for one in opened[:3]:
        one.close()
    files.lock(opened[3], wait=False)
    opened[3].close()


def test_who_waits_gets_the_lock_in_the_end(place):
    with open(place, "a+") as first, open(place, "a+") as second:
        files.lock(first)
        got = threading.Event()
        waiting = threading.Thread(target=lambda: (files.lock(second), got.set()))
        waiting.start()
        assert not got.wait(0.1)
        first.close()
        assert got.wait(10)
        waiting.join()


def test_a_fault_of_the_lock_is_not_taken_for_somebody_elses(monkeypatch, tmp_path):
    def locking(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with open(tmp_path / "a.lock", "a+") as one, pytest.raises(OSError, match="Bad file"):
        files.lock(one)


def test_a_system_without_locks_is_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", None)
    with (
        open(tmp_path / "a.lock", "a+") as one,
        pytest.raises(OSError, match="no file locks.*Linux, macOS or Windows"),
    ):
        files.lock(one)


def test_a_folder_is_synced_where_folders_can_be_opened(monkeypatch, tmp_path):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    files.sync_folder(tmp_path)
    assert len(synced) == 1
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(os, "open", None)
    files.sync_folder(tmp_path)
    assert len(synced) == 1


def test_modes_count_where_there_are_modes(monkeypatch, tmp_path):
    secret = tmp_path / "key"
    secret.touch(mode=0o600)
    assert not files.open_to_others(secret)
    secret.chmod(0o640)
    assert files.open_to_others(secret)
    monkeypatch.delattr(os, "getuid")
    assert not files.open_to_others(secret)


def test_the_account_has_a_home_where_a_list_knows_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/elsewhere")
    listed = SimpleNamespace(getpwuid=lambda uid: SimpleNamespace(pw_dir=str(tmp_path)))
    monkeypatch.setattr(files, "pwd", listed)
    assert files.listed_home() == tmp_path
    monkeypatch.setattr(files, "pwd", SimpleNamespace(getpwuid={}.__getitem__))
    assert files.listed_home() is None, "a container's user"
    monkeypatch.setattr(files, "pwd", None)
    assert files.listed_home() is None, "Windows"
