"""Where the ledger lies, and what several charges cost together."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sfumato import budget
from sfumato.errors import SfumatoError
from sfumato.privacy import accounting, events
from sfumato.privacy.events import Gaussian, Laplace, PoissonGaussian
from sfumato.privacy.ledger import Ledger, RunLedger


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-3)


def body(*what, epsilon=1.0, relation="zero-out", delta=1e-5):
    return {"events": events.to_json(what), "relation": relation, "delta": delta, "epsilon": epsilon}


def test_the_default_place(monkeypatch, tmp_path):
    assert budget.default_path() == Path(budget.os.environ["SFUMATO_LEDGER"])
    monkeypatch.delenv("SFUMATO_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert budget.default_path() == tmp_path / "sfumato" / "ledger.sqlite"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert budget.default_path() == tmp_path / ".local" / "share" / "sfumato" / "ledger.sqlite"

    def homeless():
        raise RuntimeError

    monkeypatch.setattr(budget.Path, "home", homeless)
    assert budget.default_path(tmp_path / "run") == tmp_path / "ledger.sqlite"
    with pytest.raises(SfumatoError, match="SFUMATO_LEDGER"):
        budget.default_path()


def test_runs_compose_and_are_not_added():
    one = PoissonGaussian(0.05, 2.0, 400)
    alone = budget.price([body(one)], False)
    both = budget.price([body(one), body(one)], False)
    assert both == accounting.epsilon_of([PoissonGaussian(0.05, 2.0, 800)], 1e-5, "zero-out", 1e-3)
    assert alone < both < 2 * alone
    mixed = budget.price([body(one, Gaussian(20.0)), body(Gaussian(20.0), Laplace(0.05))], False)
    assert mixed == accounting.epsilon_of([one, Gaussian(20.0, 2), Laplace(0.05)], 1e-5, "zero-out", 1e-3)


def test_after_a_release_the_renyi_figure_counts():
    charges = [body(PoissonGaussian(0.05, 2.0, 400))] * 2
    assert budget.price(charges, True) > budget.price(charges, False)
    assert budget.price([body(Gaussian(2.0), relation="replace-one")] * 2, True) == math.inf
    assert budget.price([body(Gaussian(2.0), relation="replace-one")] * 2, False) < 10
    assert budget.price([body(Gaussian(1e-3), epsilon=1e6)] * 2, False) == math.inf  # said at once, not after hours


def test_standing_and_the_order_of_slots(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    prints = [bytes([i]) * 32 for i in range(6)] + [b""]
    before = budget.standing(ledger, prints)
    assert (before.runs, before.total, before.cap, before.remark, before.terms) == (0, 0.0, None, None, None)
    assert sorted(before.order) == list(range(7)) and before.order[-1] == 6
    other = [prints[i] for i in (6, 3, 1, 5, 0, 2, 4)]
    after = budget.standing(ledger, other)
    assert [other[i] for i in after.order] == [prints[i] for i in before.order], "names do not decide the order"
    assert list(budget.standing(Ledger(tmp_path / "another.sqlite"), prints).order) != list(before.order)
    RunLedger(ledger, "run").append("PLAN", {})
    charge = body(Gaussian(2.0), epsilon=1.99) | {"unit": "record"}
    ledger.charge("run", ledger.identify(prints[:1]), charge, budget.price)
    budget.set_cap(ledger, prints[:2], 5.0)
    known = budget.standing(ledger, prints)
    assert known.runs == 1 and known.terms == {"unit": "record", "relation": "zero-out", "delta": 1e-5}
    assert known.remark.endswith("in 1 earlier run; the cap is 5")


def test_a_certificates_row_is_found_or_missed(tmp_path):
    ledger, certificate = Ledger(tmp_path / "ledger.sqlite"), tmp_path / "privacy.json"
    charges = []
    for run, noise in (("first", 3.0), ("second", 2.0)):
        RunLedger(ledger, run).append("PLAN", {})
        charge = body(Gaussian(noise), epsilon=1.99) | {"unit": "record"}
        ledger.charge(run, ledger.identify([bytes(32)]), charge, budget.price)
        charges.append({"run": run, "epsilon": 1.99, "events": charge["events"]})
    facts = {"head": ledger.head, "entries": len(ledger.rows), "run": "second", "charges": charges, "cap": None}
    claim = {"events": charges[1]["events"], "ledger": facts | {"data_sets": 1}}

    def found(**changes):
        certificate.write_text(json.dumps(claim | {"ledger": claim["ledger"] | changes}))
        return budget.find_certificate(ledger, certificate)

    budget.set_cap(ledger, [bytes(32), bytes([1]) * 32], 9.0)  # what comes later was not known to it
    assert found() == f"privacy.json: row {facts['entries'] - 1} of run second"
    for changes in ({"head": "0" * 64}, {"entries": 99}):
        with pytest.raises(SfumatoError, match="older copy or another"):
            found(**changes)
    for changes in ({"charges": charges[1:]}, {"run": "first"}, {"run": "third"}, {"run": []}, {"cap": 2.0}):
        with pytest.raises(SfumatoError, match="other charges"):
            found(**changes)
    certificate.write_text("{}")
    with pytest.raises(SfumatoError, match="not a certificate"):
        budget.find_certificate(ledger, certificate)
    with pytest.raises(SfumatoError, match="no ledger yet"):
        budget.existing_ledger(tmp_path / "none")
