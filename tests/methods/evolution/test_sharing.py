"""Several processes on one population: they draw what one process draws, and one of them votes."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.compute import ranks
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods.evolution import sharing
from sfumato.methods.evolution.sharing import FOLDER, Ranks, Shards

GO = SimpleNamespace(asked=False)


def test_one_process_draws_all():
    alone, drawn = Ranks(), torch.randn(5, 1, 2, 2)
    assert list(range(5))[alone.own] == list(range(5))
    assert alone.together("first", drawn, 5) is drawn
    assert alone.once("votes", lambda: np.arange(3)).tolist() == [0, 1, 2]


def test_ranks_add_up_to_what_one_process_has(monkeypatch):
    whole, held = torch.randn(5, 1, 2, 2).half().float(), []
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(ranks, "world_size", lambda: 2)
        monkeypatch.setattr(ranks, "sum_over_ranks", lambda t: held.extend(t.values()))
        own = Ranks()
        own.together("first", whole[own.own], 5)
    assert torch.equal(held[0] + held[1], whole)


def test_shards_meet_in_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "PAUSE", 0.01)
    whole, votes, found = torch.randn(5, 1, 2, 2).half().float(), [], {}

    def work(number):
        own = Shards(tmp_path, (number, 2), 0, GO)
        drawn = own.together("first", whole[own.own], 5)
        said = own.once("votes-0", lambda: votes.append(number) or np.array([7, 8]))
        found[number] = (drawn, said.tolist())

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(votes) == 1  # one of them voted
    for number in (0, 1):
        assert torch.equal(found[number][0], whole) and found[number][1] == [7, 8]
    # a shard that begins again goes on with what the others have seen
    again = Shards(tmp_path, (1, 2), 0, GO)
    assert torch.equal(again.together("first", whole[again.own] + 1, 5), whole)
    assert again.once("votes-0", lambda: 1 / 0).tolist() == [7, 8]
    # pictures and votes of another attempt are others
    assert Shards(tmp_path, (1, 2), 1, GO).once("votes-0", lambda: np.array([1])).tolist() == [1]


def test_a_shard_that_waits_can_be_stopped_and_meets_no_other_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "PAUSE", 0.01)
    stopped = Shards(tmp_path, (0, 2), 0, SimpleNamespace(asked=True))
    with pytest.raises(Interrupted, match="waited for the other shards"):
        stopped.together("first", torch.zeros(3, 1, 2, 2), 5)
    Shards(tmp_path, (1, 2), 0, SimpleNamespace(asked=True))
    with pytest.raises(Interrupted):
        Shards(tmp_path, (1, 3), 0, SimpleNamespace(asked=True)).together(
            "first", torch.zeros(2, 1, 2, 2), 5
        )
    (tmp_path / FOLDER / "0-other-1-of-2.safetensors").write_bytes(
        (tmp_path / FOLDER / "0-first-0-of-2.safetensors").read_bytes()
    )
    with pytest.raises(SfumatoError, match="another plan"):
        Shards(tmp_path, (0, 2), 0, GO).together("other", torch.zeros(3, 1, 2, 2), 5)
