"""Ranks on two devices are refused before one waits for another that never asks."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from sfumato.compute import fingerprint, ranks
from sfumato.errors import MachineError

from ..processes import launch

SCRIPT = """
    from sfumato.compute import ranks
    ranks.start()
    verbs.resume("images", sys.argv[1], **({"device": "cpu"} if ranks.rank() else {}))
"""


@pytest.mark.slow
def test_a_resume_whose_ranks_name_two_devices_is_refused(tmp_path):
    for code, said in launch(2, SCRIPT, tmp_path / "run"):
        assert code, said
        assert "MachineError: the processes differ in their options" in said, said[-2000:]


def test_a_resume_compares_the_devices_that_are_in_use(monkeypatch):
    """Before the private images are read: "auto" may be another one on every host."""
    monkeypatch.setattr(fingerprint, "describe", lambda: "cuda: NVIDIA X")
    told = []

    def compared(facts):
        told.append(facts)
        raise MachineError("the processes differ in their device")

    monkeypatch.setattr(ranks, "require_alike", compared)
    run, asked = SimpleNamespace(options={"performance": {}}), (None, False, None)
    # its package has a verb of this name
    module = importlib.import_module("sfumato.verbs.resume")
    with pytest.raises(MachineError, match="differ in their device"):
        module._continue(run, "images", asked, (False, False), None, lambda stage: None)
    assert told == [{"device": "cuda: NVIDIA X"}]
