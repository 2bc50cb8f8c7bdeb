"""Signals around the charge: before it nothing is left, after it the run goes on."""

from __future__ import annotations

import importlib
import os
import signal

import pytest

from sfumato import verbs
from sfumato.errors import Interrupted
from sfumato.methods import Lora
from sfumato.privacy.ledger.entries import Charged
from sfumato.runs import budget, execute
from sfumato.runs.folder import Run

resume = importlib.import_module("sfumato.verbs.resume")
LIKE = {"epsilon": 8.0, "delta": 1e-3, "steps": 1, "expected_batch_size": 8, "noise_draws": 1}
LIKE |= {"anyway": True, "yes_public": True, "samples_every": 0, "method": Lora(rank=1)}


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    # a test that was started in the background was told to ignore Ctrl-C
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, was)


def sent(name, was):
    """A function that sends this process a signal before it does what `was` does."""

    def before(*given, **how):
        os.kill(os.getpid(), name)
        return was(*given, **how)

    return before


def test_ctrl_c_before_the_charge_leaves_no_folder(
    tiny_images, tiny_base, tmp_path, monkeypatch, ledger_of_the_test
):
    monkeypatch.setattr(execute, "preflight", sent(signal.SIGINT, execute.preflight))
    with pytest.raises(KeyboardInterrupt):
        verbs.adapt(tiny_images, base=str(tiny_base), output=tmp_path / "run", **LIKE)
    assert not (tmp_path / "run").exists()
    assert not budget.open_ledger(ledger_of_the_test).chain.entries(Charged)


def test_ctrl_c_while_the_charge_returns_is_no_plain_interruption(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    def charge(self, *given):
        was(self, *given)
        raise KeyboardInterrupt

    was = Run.charge
    monkeypatch.setattr(Run, "charge", charge)
    with pytest.raises(Interrupted, match="--resume"):
        verbs.adapt(tiny_images, base=str(tiny_base), output=tmp_path / "run", **LIKE)
    assert (tmp_path / "run").exists()


def test_signals_after_the_charge_and_while_a_resume_reads_say_how_to_go_on(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="--resume"):
        patch.setattr(Run, "begin", sent(signal.SIGTERM, Run.begin))
        verbs.adapt(tiny_images, base=str(tiny_base), output=folder, **LIKE)
    for name in (signal.SIGINT, signal.SIGTERM):
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match="--resume"):
            patch.setattr(resume, "records_of", sent(name, resume.records_of))
            verbs.resume(tiny_images, folder)
    run = verbs.resume(tiny_images, folder)
    assert len(run.ledger.entries(Charged)) == 1 and (folder / "model").exists()
