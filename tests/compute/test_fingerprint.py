"""A replay's fingerprint holds all that decides which bits a computation gives; what it lacks makes
a replay a paid attempt.
"""

from __future__ import annotations

import json

import pytest
import torch

from sfumato.compute import fingerprint, ranks
from sfumato.errors import MachineError


def test_numerics_are_equal_on_a_second_look_and_json():
    assert json.loads(json.dumps(fingerprint.numerics())) == fingerprint.numerics()


@pytest.mark.parametrize(
    "switch",
    ["ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "OMP_DYNAMIC"],
)
def test_a_switch_of_the_numerical_libraries_is_a_difference(monkeypatch, switch):
    before = fingerprint.numerics()
    monkeypatch.setenv(switch, "1")
    assert fingerprint.numerics() != before


def test_where_threads_are_put_is_no_difference(monkeypatch):
    before = fingerprint.numerics()
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert fingerprint.numerics() == before


def test_denormals_and_matmul_precision_are_seen():
    before = fingerprint.numerics()
    precision = torch.get_float32_matmul_precision()
    try:
        if torch.set_flush_denormal(True):
            assert fingerprint.numerics() != before
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("medium")
        assert fingerprint.numerics() != before
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision(precision)
    assert fingerprint.numerics() == before


def test_a_second_run_of_a_process_asks_every_rank_anew(monkeypatch):
    monkeypatch.setattr(ranks, "_place", ranks.Place())
    monkeypatch.setattr(ranks, "_machines", [])
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost"), monkeypatch.setenv("MASTER_PORT", "1")
    group = torch.distributed
    monkeypatch.setattr(group, "is_initialized", lambda: True)
    monkeypatch.setattr(group, "get_rank", lambda: 0)
    monkeypatch.setattr(group, "get_world_size", lambda: 2)
    others = iter(["a", "b"])
    monkeypatch.setattr(
        group,
        "all_gather_object",
        lambda held, own: held.__setitem__(slice(None), [own, next(others)]),
    )
    found = []
    for _ in range(2):
        ranks.start(lambda: {"threads": 1})
        found.append(ranks.machines())
    assert found[0][0] == found[1][0] and [one[1] for one in found] == ["a", "b"]


def test_a_processors_clock_is_no_part_of_it(tmp_path):
    place, words = (
        tmp_path / "cpuinfo",
        "vendor_id\t: A\nmodel name\t: B\ncpu MHz\t: {}\nflags\t: avx2 {}\n\nvendor_id\t: C\n",
    )
    texts = []
    for clock, flag in (("1000", "fma"), ("2000", "fma"), ("1000", "avx512f")):
        place.write_text(words.format(clock, flag))
        texts.append(fingerprint.processor(place))
    assert texts[0] == texts[1] != texts[2] and "C" not in texts[0]


ALONE = (
    {},
    {"WORLD_SIZE": "1"},
    {"RANK": "0", "WORLD_SIZE": "1"},
    {"SLURM_PROCID": "1", "OMPI_COMM_WORLD_RANK": "3"},
    {"RANK": ""},
)


@pytest.mark.parametrize("environment", ALONE, ids=str)
def test_alone(environment):
    assert ranks.declared(environment) == ranks.Place(0, 1)


def test_what_torchrun_says():
    said = {
        "RANK": "2",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "node",
        "MASTER_PORT": "1",
    }
    assert ranks.declared(said) == ranks.Place(2, 4)


HALF = (
    {"RANK": "1"},
    {"RANK": "0"},
    {"LOCAL_RANK": "0"},
    {"WORLD_SIZE": "2"},
    {"WORLD_SIZE": "1", "LOCAL_RANK": "1"},
    {"RANK": "1", "WORLD_SIZE": "1"},
    {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "1"},
    {"RANK": "-1", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "1"},
    {"RANK": "one", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "1"},
    {"RANK": "\u0661", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "1"},
    {"RANK": "0", "WORLD_SIZE": "0"},
    {"RANK": "0", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "node", "MASTER_PORT": "1"},
)


@pytest.mark.parametrize("environment", HALF, ids=str)
def test_half_a_description_is_refused(environment):
    """A process that took itself for another one would drop units and note nothing."""
    with pytest.raises(MachineError, match="torchrun"):
        ranks.declared(environment)


def test_the_environment_is_read_once(monkeypatch):
    """What changes it after the start, or without one, changes no rank."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (ranks.rank(), ranks.world_size()) == (0, 1)
