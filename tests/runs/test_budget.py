"""Where the ledger lies, and what several charges cost together."""

from __future__ import annotations

import hmac
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy import accounting, events
from sfumato.privacy.events import Gaussian, Laplace, PoissonGaussian
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.runs import budget


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-3)


def body(*what, epsilon=1.0, relation="zero-out", delta=1e-5):
    return {
        "events": events.to_json(what),
        "relation": relation,
        "delta": delta,
        "epsilon": epsilon,
    }


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
    assert mixed == accounting.epsilon_of(
        [one, Gaussian(20.0, 2), Laplace(0.05)], 1e-5, "zero-out", 1e-3
    )


def test_after_a_release_the_renyi_figure_counts():
    charges = [body(PoissonGaussian(0.05, 2.0, 400))] * 2
    assert budget.price(charges, True) > budget.price(charges, False)
    assert budget.price([body(Gaussian(2.0), relation="replace-one")] * 2, True) == math.inf
    assert budget.price([body(Gaussian(2.0), relation="replace-one")] * 2, False) < 10
    # said at once, not after hours
    assert budget.price([body(Gaussian(1e-3), epsilon=1e6)] * 2, False) == math.inf


def test_standing_and_the_order_of_slots(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    prints = [bytes([i]) * 32 for i in range(6)] + [b""]
    before = budget.standing(ledger, prints)
    assert (before.runs, before.total, before.cap, before.remark, before.terms) == (
        0,
        0.0,
        None,
        None,
        None,
    )
    assert sorted(before.order) == list(range(7))
    other = [prints[i] for i in (6, 3, 1, 5, 0, 2, 4)]
    after = budget.standing(ledger, other)
    named = [
        [some[i] for i in known.order if some[i]]
        for some, known in ((other, after), (prints, before))
    ]
    assert named[0] == named[1], "names do not decide the order"
    assert list(budget.standing(Ledger(tmp_path / "another.sqlite"), prints).order) != list(
        before.order
    )
    RunLedger(ledger, "run").append("PLAN", {})
    charge = body(Gaussian(2.0), epsilon=1.99) | {"unit": "record"}
    ledger.charge("run", ledger.identify(prints[:1]), charge, budget.price)
    budget.set_cap(ledger, prints[:2], 5.0)
    known = budget.standing(ledger, prints)
    assert known.runs == 1 and known.terms == {
        "unit": "record",
        "relation": "zero-out",
        "delta": 1e-5,
    }
    assert known.remark.endswith("in 1 earlier run; the cap is 5")


def test_a_ledger_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(SfumatoError, match="no ledger yet"):
        budget.existing_ledger(tmp_path / "none")


def orders(prints, keys=300):
    """The order of slots under many keys, as a matrix [keys, slots] of places."""
    found = []
    for number in range(keys):
        key = number.to_bytes(4, "big")
        ledger = SimpleNamespace(keyed=lambda name, key=key: hmac.digest(key, name, "sha256"))
        order = budget.slot_order(ledger, prints)
        assert sorted(order) == list(range(len(prints)))
        found.append(np.argsort(order))
    return np.array(found)


@pytest.mark.parametrize("name", ["unusable", "copy"])
def test_a_slot_s_place_is_random_whatever_it_holds(name):
    """Else a neighbour's other records would move to other microbatches: an unusable picture put
    last, a copy beside its original.
    """
    prints = [bytes([i]) * 32 for i in range(20)]
    prints[7] = b"" if name == "unusable" else prints[3]
    places = orders(prints)
    spread = np.sqrt((20**2 - 1) / 12 / len(places))
    assert abs(places[:, 7].mean() - 9.5) < 4 * spread
    assert abs((abs(places[:, 7] - places[:, 3]) == 1).mean() - 2 / 20) < 4 * np.sqrt(
        0.1 * 0.9 / len(places)
    )


def test_nobody_else_changes_order_when_a_picture_becomes_unusable():
    prints = [bytes([i]) * 32 for i in range(20)]
    for slot in (0, 7, 19):
        gone = [b"" if i == slot else p for i, p in enumerate(prints)]
        others = [i for i in range(20) if i != slot]
        ranks = [np.argsort(orders(p, 5)[:, others], axis=1) for p in (prints, gone)]
        assert (ranks[0] == ranks[1]).all()
