"""Threads inside one operation."""

from __future__ import annotations

import pytest
import torch

from sfumato import verbs
from sfumato.compute import threads
from sfumato.errors import SfumatoError


@pytest.fixture
def before(monkeypatch):
    """Torch's count, which is put back; on a machine of many cores, with no user's setting."""
    for name in threads.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "cpu_count", lambda: 64)
    count = torch.get_num_threads()
    yield count
    torch.set_num_threads(count)


def test_threads_asked_for_count_and_torchs_own_where_none_are(before):
    assert threads.threads(3) == 3 and threads.threads() == before


def test_threads_are_set_and_left_alone(before):
    threads.use_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    threads.use_threads(None)
    threads.use_threads(0)
    assert torch.get_num_threads() == before + 1


def test_a_containers_quota_bounds_torchs_choice_and_nobody_elses(before, monkeypatch):
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)
    assert threads.threads() == 2 and threads.threads(3) == 3
    for name in threads.SETTINGS:
        with monkeypatch.context() as said:
            said.setenv(name, "4")
            assert threads.threads() == 4
    threads.use_threads(3)
    assert torch.get_num_threads() == 3
    threads.use_threads(None)
    assert torch.get_num_threads() == 2


def test_a_verb_without_the_option_keeps_to_the_quota(before, monkeypatch, tmp_path):
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)
    with pytest.raises(SfumatoError):
        verbs.synthesize(tmp_path / "none", 1, tmp_path / "out")
    assert torch.get_num_threads() == 2
