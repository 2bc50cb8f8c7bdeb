"""The ledger: what was charged on whose images, across names, runs, copies, crashes and writers."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.entries import Looked
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.notes import Shown
from sfumato.privacy.ledger.rows import hash_of
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.runs import budget

EVENTS = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]
TERMS = {"unit": "record", "relation": "zero-out", "delta": 1e-5}
A, B, C, D = (bytes([65 + i]) * 32 for i in range(4))


def added(charges, released):
    """A price that adds: enough for the ledger, which does not know accountants."""
    return sum(body["epsilon"] for body in charges)


def charge(ledger, images, run="run", epsilon=1.0, price=added, **terms):
    RunLedger(ledger, run).append("PLAN", {})
    body = {"events": EVENTS, "epsilon": epsilon, **TERMS, **terms}
    return ledger.charge(run, ledger.identify(images), body, price)


def begin(ledger, run="run", expected=0, billed=0, reserve=0, salt="00"):
    return RunLedger(ledger, run).begin(
        {"billed": billed, "salt": salt}, expected=expected, reserve=reserve
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "book" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    return Ledger(path)


def kinds(ledger):
    return [row.kind for row in ledger.rows]


def test_rows_are_chained_and_read_back(ledger, path):
    charge(ledger, [A, B])
    begin(ledger)
    RunLedger(ledger, "run").append("RELEASE", {"kind": "images"})
    again = Ledger(path)
    assert again.rows == ledger.rows and again.head == ledger.head
    assert [row.seq for row in again.rows] == list(range(6))
    assert kinds(again) == ["NOTE", "PLAN", "OPEN", "CHARGE", "ATTEMPT", "RELEASE"]
    assert (
        again.rows[3].body["dataset"] == ledger.identify([B, A]).id and again.rows[4].attempt == 0
    )
    run = RunLedger(again, "run")
    assert (
        run.charged_events() == EVENTS
        and run.attempts == 1
        and run.bodies("RELEASE") == [{"kind": "images"}]
    )
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_row_is_synced_before_the_call_returns(ledger):
    """FULL: SQLite syncs the write-ahead log at every commit; less, and a power cut forgets what
    was charged.
    """
    (mode,), (synced,) = (
        ledger.chain.db.execute(f"PRAGMA {name}").fetchone()
        for name in ("journal_mode", "synchronous")
    )
    assert mode == "wal" and synced == 2


def test_an_export_can_be_checked_without_us_and_holds_no_image(ledger):
    charge(ledger, [A, B])
    head, keyed = "0" * 64, ledger.keyed(A)
    for number, line in enumerate(ledger.export()):
        row = json.loads(line)
        assert (row["seq"], row["prev_hash"], row["hash"]) == (number, head, hash_of(row))
        assert keyed.hex() not in line and A.hex() not in line
        head = row["hash"]
    assert head == ledger.head


def test_order_is_charge_then_start_then_release(ledger):
    run = RunLedger(ledger, "run")
    for kind in ("REPLAY", "RELEASE", "CERTIFY"):
        with pytest.raises(LedgerError, match="before it"):
            run.append(kind, {})
    with pytest.raises(LedgerError, match="before it"):
        begin(ledger)
    body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
    with pytest.raises(LedgerError, match="PLAN"):
        ledger.charge("run", ledger.identify([A]), body, added)
    run.append("PLAN", {})
    with pytest.raises(LedgerError, match="CHARGE"):
        begin(ledger)
    for events in (None, [], [1], "all"):
        with pytest.raises(ValueError, match="lists its events"):
            ledger.charge("run", ledger.identify([A]), {**body, "events": events}, added)
    ledger.charge("run", ledger.identify([A]), body, added)
    with pytest.raises(LedgerError, match="once"):
        ledger.charge("run", ledger.identify([A]), body, added)
    for kind in ("CHARGE", "OPEN", "CAP", "REFUND"):
        with pytest.raises(ValueError, match="by hand"):
            run.append(kind, {})
    assert kinds(ledger) == ["NOTE", "PLAN", "OPEN", "CHARGE"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, b"x", {1}, object()])
def test_only_finite_json_is_written(ledger, bad):
    with pytest.raises(ValueError, match="finite numbers, text"):
        RunLedger(ledger, "run").append("NOTE", {"x": bad})
    assert kinds(ledger) == ["NOTE"]


@pytest.mark.parametrize("images", [[A, B], [B, A], [A], [B, B, C]])
def test_the_same_images_add_up_however_they_come(ledger, images):
    """In another order, split, doubled or beside others: one common picture makes one group, for
    ever.
    """
    manifest = ledger.identify([A, B])
    ledger.set_cap(manifest, 2.5)
    charge(ledger, [A, B], "one")
    row = charge(ledger, images, "two")
    assert (row.body["total"], row.body["cap"]) == (2.0, 2.5)
    with pytest.raises(
        OverBudget,
        match="cap on these images is epsilon 2.5; 2 earlier charges and this run come to 3",
    ):
        charge(ledger, images, "three")
    assert len(ledger.group(manifest).charges) == 2 and len(ledger.groups()) == 1


def test_disjoint_images_have_their_own_budget_until_a_third_set_joins_them(ledger):
    ledger.set_cap(ledger.identify([A]), 5.0)
    ledger.set_cap(ledger.identify([B]), 3.0)
    charge(ledger, [A], "a", 1.5)
    assert charge(ledger, [B], "b", 1.0).body["total"] == 1.0 and len(ledger.groups()) == 2
    with pytest.raises(OverBudget, match="epsilon 3;"):  # the smaller cap wins
        charge(ledger, [A, B, C], "c", 1.0)
    assert len(ledger.groups()) == 2, "a refused charge joins nothing"
    assert charge(ledger, [A, B, C], "d", 0.25).body["total"] == 2.75
    assert len(ledger.groups()) == 1 and ledger.group(ledger.identify([A])).cap == 3.0
    assert len(ledger.group(ledger.identify([C])).charges) == 3
    assert [row.body for row in ledger.rows if row.kind == "JOIN"][0]["with"] == sorted(
        [ledger.identify([A]).id, ledger.identify([B]).id]
    )


def test_copies_of_a_picture_are_counted(ledger):
    assert ledger.identify([A, A]).id != ledger.identify([A]).id
    charge(ledger, [A])
    assert charge(ledger, [A, A], "two").body["total"] == 2.0


@pytest.mark.parametrize("change", [{"relation": "replace-one"}, {"delta": 1e-6}])
def test_costs_under_other_terms_are_not_added(ledger, change):
    charge(ledger, [A])
    with pytest.raises(OverBudget, match=f"give the same {next(iter(change))}"):
        charge(ledger, [A, B], "two", **change)
    assert charge(ledger, [B], "three", **change).kind == "CHARGE"
    with pytest.raises(OverBudget, match="cannot be added"):
        charge(ledger, [A, B], "four")


@pytest.mark.parametrize("change", [{"relation": "replace-one"}, {"delta": 1e-6}])
@pytest.mark.parametrize("by", ["a cap", "a look"])
def test_runs_of_other_terms_that_come_together_later_have_no_total(ledger, by, change):
    """Priced by the terms of the first, the sum is below what the second has cost alone."""
    charge(ledger, [A], "one")
    charge(ledger, [B], "two", **change)
    both = ledger.identify([A, B])
    assert ledger.group(both).unclear  # before a row joins them, too
    if by == "a cap":
        ledger.set_cap(both, 50.0)
    else:
        look = Looked(what=["accuracy"], rows=[], internal=True)
        RunLedger(ledger, "one").look([both], look)
    for images in ([A], [B], [A, B]):
        group = ledger.group(ledger.identify(images))
        assert len(group.charges) == 2 and "different relations or deltas" in str(group.unclear)
        assert budget.cost(group) == math.inf
        for terms in ({}, change):
            with pytest.raises(OverBudget, match="nothing more can be charged"):
                charge(ledger, images, f"{images}{terms}", epsilon=0.1, **terms)


def by_patient(ledger, run, images, units, files=None, epsilon=1.0):
    """One charge for patients: images and units by letter."""
    pictures, values = [bytes([ord(i)]) * 32 for i in images], [bytes([ord(u)]) * 32 for u in units]
    bodies = None if files is None else [bytes([ord(f)]) * 32 for f in files]
    RunLedger(ledger, run).append("PLAN", {})
    body = {"events": EVENTS, "epsilon": epsilon, **TERMS, "unit": "patient"}
    return ledger.charge(run, ledger.identify(pictures, bodies, values), body, added)


def test_other_images_of_a_unit_and_other_pixels_of_a_file_add_up(ledger):
    ledger.set_cap(ledger.identify([A], [b"f" * 32]), 2.5)
    charge(ledger, [B], "alone")
    with_file = ledger.identify([C], [b"f" * 32])
    assert (
        ledger.group(with_file).cap == 2.5
        and ledger.group(ledger.identify([C], [b"g" * 32])).cap is None
    )
    RunLedger(ledger, "decoded").append("PLAN", {})
    body = {"events": EVENTS, "epsilon": 2.0, **TERMS}
    assert ledger.charge("decoded", with_file, body, added).body["cap"] == 2.5
    with pytest.raises(OverBudget, match="cap on these images is epsilon 2.5"):
        charge(ledger, [A], "again")


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        (("ab", "pp"), ("cd", "pr"), 2.0),  # another picture of p: one group, one unit in each
        (("ab", "pp"), ("ab", "pp"), 2.0),
        (("ab", "pp"), ("ab", "xx"), 2.0),  # renamed one to one
        (("abc", "ppq"), ("abc", "pqq"), None),
        (("ab", "pp"), ("ab", "xy"), None),
        (("ab", "pp"), ("cd", "rs"), 1.0),  # strangers
    ],
)
def test_a_total_is_stated_where_the_runs_mean_the_same_units(ledger, first, second, total):
    for run, (images, units) in (("one", first), ("two", second)):
        row = by_patient(ledger, run, images, units)
    assert row.body["total"] == total
    group = ledger.datasets.group(frozenset({row.body["dataset"]}))
    assert (group.unclear is None) == (total is not None) and len(group.charges) == (
        1 if total == 1.0 else 2
    )


@pytest.mark.parametrize("order", ["cap first", "cap later", "cap on the other"])
def test_what_has_no_total_fits_under_no_cap(ledger, order):
    whole, half = ledger.identify([b"a" * 32, b"b" * 32]), ledger.identify([b"b" * 32])
    if order == "cap first":
        ledger.set_cap(whole, 100.0)
    by_patient(ledger, "one", "ab", "pp")
    if order != "cap first":
        ledger.set_cap(half if order == "cap on the other" else whole, 100.0)
    for images, units in (("ab", "xy"), ("abc", "xyp")):
        with pytest.raises(OverBudget, match="no total can be held against it"):
            by_patient(ledger, images + units, images, units)
    with pytest.raises(OverBudget, match="protect single images"):
        charge(ledger, [b"a" * 32], "by image")
    assert len(ledger.group(whole).charges) == 1


def test_images_and_patients_have_no_total_in_either_order(ledger):
    assert charge(ledger, [b"a" * 32], "image").body["total"] == 1.0
    assert by_patient(ledger, "patient", "ab", "pp").body["total"] is None
    assert charge(ledger, [b"b" * 32], "other image").body["total"] is None
    assert charge(ledger, [b"z" * 32], "stranger").body["total"] == 1.0


def test_a_third_set_may_take_a_total_away(ledger):
    assert by_patient(ledger, "one", "ab", "pq").body["total"] == 1.0
    assert by_patient(ledger, "two", "cd", "rs").body["total"] == 1.0
    assert by_patient(ledger, "three", "ac", "uu").body["total"] == 3.0, (
        "u is p and r, each once in its run"
    )
    assert by_patient(ledger, "four", "ab", "vv").body["total"] is None
    assert ledger.group(ledger.identify([b"d" * 32])).unclear is not None


def test_a_run_whose_units_were_not_kept_gives_no_total(ledger):
    """As those of the ledgers of earlier versions."""
    charge(ledger, [A], unit="patient")
    assert charge(ledger, [A], "two", unit="patient").body["total"] is None
    assert "earlier version" in ledger.group(ledger.identify([A])).unclear


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM trace",
        "DELETE FROM trace WHERE file = (SELECT max(file) FROM trace)",
        "UPDATE trace SET unit = x'00'",
        "UPDATE trace SET file = x''",
        "INSERT INTO trace VALUES ('x', x'01', x'', x'02')",
        "UPDATE trace SET listing = 'x'",
    ],
)
def test_the_table_of_files_and_units_is_the_one_the_chain_names(ledger, path, spoil):
    by_patient(ledger, "one", "ab", "pq", "fg")
    ledger.verify_records()
    with sqlite3.connect(path) as db:
        db.execute(spoil)
    with pytest.raises(LedgerError, match="table of images is damaged"):
        Ledger(path).verify_records()
    with pytest.raises(LedgerError, match="table of images is damaged"):
        by_patient(Ledger(path), "two", "a", "p")


def test_a_cap_may_be_raised_and_lowered_and_says_so(ledger):
    images = ledger.identify([A])
    body = {"datasets": [images.id], "before": None, "epsilon": 2.0, "raise": False}
    assert ledger.set_cap(images, 2.0).body == body
    assert ledger.set_cap(images, 0.5).body["before"] == 2.0
    with pytest.raises(OverBudget):
        charge(ledger, [A])
    with pytest.raises(OverBudget, match="epsilon 0.5, and the smallest wins"):
        ledger.set_cap(images, 3)
    ledger.set_cap(images, 3, raising=True)
    assert charge(ledger, [A], "two").body["cap"] == 3.0
    for bad in (0, -1, math.nan, math.inf, True, "2"):
        with pytest.raises(ValueError, match="finite epsilon above 0"):
            ledger.set_cap(images, bad)


def test_an_unbounded_total_breaks_every_cap_and_is_told_as_none(ledger):
    charge(ledger, [A])
    assert charge(ledger, [A], "two", price=lambda *_: math.inf).body["total"] is None
    ledger.set_cap(ledger.identify([A]), 1e6)
    for figure in (math.inf, math.nan):
        with pytest.raises(OverBudget):
            charge(ledger, [A], f"run {figure}", price=lambda *_, figure=figure: figure)


def test_the_price_knows_whether_something_was_released_before(ledger):
    asked = []

    def price(charges, released):
        asked.append((len(charges), released))
        return 1.0

    charge(ledger, [A], "one")
    begin(ledger, "one")
    charge(ledger, [A], "two", price=price)
    RunLedger(ledger, "one").append("RELEASE", {})
    assert not ledger.group(ledger.identify([A])).adaptive
    charge(ledger, [A], "three", price=price)
    assert asked == [(2, False), (3, True)] and ledger.group(ledger.identify([A])).adaptive


def test_a_run_planned_after_pictures_of_another_is_composed_adaptively(ledger):
    """Nothing has left, but its owner has seen noised sums before choosing the next budget."""
    charge(ledger, [A], "one")
    begin(ledger, "one")
    RunLedger(ledger, "one").enter(Shown(shown=5, attempt=0))
    assert not ledger.group(ledger.identify([A])).adaptive
    asked = []
    charge(ledger, [A], "two", price=lambda charges, seen: asked.append(seen) or 1.0)
    assert asked == [True] and ledger.group(ledger.identify([A])).adaptive


def test_a_copied_run_folder_cannot_start_the_same_attempt_nor_spend_twice(ledger, path):
    charge(ledger, [A])
    begin(ledger)
    copy = Ledger(path)
    begin(ledger, expected=1, billed=2, reserve=3)
    with pytest.raises(LedgerError, match="another copy"):
        begin(copy, expected=1, billed=2, reserve=3)
    with pytest.raises(LedgerError, match="2 steps|3 steps planned, 4 needed"):
        begin(copy, expected=2, billed=2, reserve=3)
    with pytest.raises(LedgerError, match="another copy"):  # the old attempt's next checkpoint
        RunLedger(copy, "run").append("NOTE", {"checkpoint": 4, "attempt": 0})
    RunLedger(copy, "run").append("NOTE", {"checkpoint": 4, "attempt": 1})


@pytest.mark.parametrize("billed", [-1, True, 0.5, "0", None])
def test_no_attempt_gives_steps_back(ledger, billed):
    charge(ledger, [A])
    begin(ledger)
    with pytest.raises(ValueError, match="gives none back"):
        begin(ledger, expected=1, billed=billed, reserve=3)
    assert RunLedger(ledger, "run").attempts == 1


def test_an_attempt_ends_in_one_model(ledger, path):
    """Two outputs with the same noise would give away what lies under it."""
    charge(ledger, [A])
    begin(ledger)
    run, copy = RunLedger(ledger, "run"), RunLedger(Ledger(path), "run")
    run.append("NOTE", {"checkpoint": 4, "attempt": 0})
    run.append("NOTE", {"model": "aa", "attempt": 0})
    copy.append("NOTE", {"model": "aa", "attempt": 0})
    with pytest.raises(LedgerError, match="the same noise"):
        copy.append("NOTE", {"model": "bb", "attempt": 0})
    begin(ledger, expected=1, billed=2, reserve=3)
    copy.append("NOTE", {"model": "bb", "attempt": 1})


def test_a_charge_that_raced_another_is_priced_again(ledger, path):
    ledger.set_cap(ledger.identify([A]), 2.5)
    other, done = Ledger(path), []

    def slow(charges, released):
        if not done:
            done.append(charge(other, [A, B], "other"))
        return added(charges, released)

    charge(ledger, [A], "first")
    with pytest.raises(OverBudget, match="2 earlier charges"):
        charge(ledger, [A], "late", price=slow)
    assert len(ledger.group(ledger.identify([A])).charges) == 2


def test_ledger_and_key_belong_together(ledger, path, tmp_path):
    charge(ledger, [A])
    ledger.close()
    key = path.with_name("ledger.sqlite.key")
    secret = key.read_bytes()
    key.chmod(0o644)
    with pytest.raises(LedgerError, match="readable by other users"):
        Ledger(path)
    key.chmod(0o600)
    for text, error in (
        (b"00" * 32, "not the one"),
        (b"zz", "damaged"),
        (b"00", "damaged"),
        (b"\xff", "damaged"),
    ):
        key.write_bytes(text)
        with pytest.raises(LedgerError, match=error):
            Ledger(path)
    key.unlink()
    with pytest.raises(LedgerError, match="key is gone"):
        Ledger(path)
    key.write_bytes(secret)
    key.chmod(0o600)
    path.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        Ledger(path)


def test_an_older_copy_put_back_is_refused(ledger, path, tmp_path):
    charge(ledger, [A])
    ledger.close()
    shutil.copy(path, tmp_path / "old")
    again = Ledger(path)
    charge(again, [A], "two")
    again.close()
    newest = path.read_bytes()
    shutil.copy(tmp_path / "old", path)
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(path)
    path.write_bytes(newest)
    assert len(Ledger(path).rows) == 6
    # The wrong chain of the same length shows too.
    rows = len(Ledger(path).rows)
    path.with_name("ledger.sqlite.head").write_text(f"{rows - 1} {'ab' * 32}\n")
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(path)
    path.with_name("ledger.sqlite.head").write_text("nonsense")
    with pytest.raises(LedgerError, match="does not read"):
        Ledger(path)


def test_an_older_copy_is_accepted_with_a_row_that_stays(ledger, path, tmp_path):
    charge(ledger, [A])
    ledger.close()
    with pytest.raises(LedgerError, match="nothing to reset"):
        Ledger(path, restored=True)
    shutil.copy(path, tmp_path / "old")
    again = Ledger(path)
    charge(again, [A], "two")
    begin(again, "two")
    again.close()
    shutil.copy(tmp_path / "old", path)
    with pytest.raises(LedgerError, match="sfumato ledger reset"):
        Ledger(path)
    accepted = Ledger(path, restored=True)
    assert kinds(accepted) == ["NOTE", "PLAN", "OPEN", "CHARGE", "RESET"]
    assert accepted.resets == [{"row": 4, "utc": accepted.rows[4].written[:10], "missing_rows": 3}]
    assert charge(accepted, [A], "three").body["total"] == 2.0, "what is known stays charged"
    accepted.close()
    assert len(Ledger(path).resets) == 1
    with pytest.raises(LedgerError, match="nothing to reset"):
        Ledger(path, restored=True)
    with pytest.raises(ValueError, match="by hand"):
        RunLedger(Ledger(path), "three").append("RESET", {})


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE entry SET body = '{\"epsilon\":0}' WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 1",
        "UPDATE entry SET utc = '1999' WHERE seq = 2",
        "UPDATE entry SET attempt = 7 WHERE seq = 4",
        "UPDATE entry SET seq = 99 WHERE seq = 2",
    ],
)
def test_a_row_changed_behind_our_back_is_seen(ledger, path, harm):
    charge(ledger, [A])
    begin(ledger)
    ledger.close()
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.Error, match="append-only"):
        db.execute(harm)
    kept = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute(harm)
    db.commit()
    with pytest.raises(LedgerError, match="altered"):
        Ledger(path)
    for sql in kept:
        db.execute(sql)
    db.commit()
    with pytest.raises(LedgerError, match="damaged at row"):
        Ledger(path)


@pytest.mark.parametrize(
    "harm", ["DELETE FROM record", "UPDATE record SET hmac = x'00'", "UPDATE record SET copies = 2"]
)
def test_images_taken_out_of_the_table_are_missed_at_the_next_charge(ledger, path, harm):
    charge(ledger, [A])
    db = sqlite3.connect(path)
    db.execute(harm)
    db.commit()
    with pytest.raises(LedgerError, match="table of images is damaged"):
        charge(ledger, [A], "two")
    with pytest.raises(LedgerError, match="table of images is damaged"):
        ledger.set_cap(ledger.identify([A]), 1.0)


def test_a_flipped_bit_is_refused_or_changes_nothing(ledger, path):
    charge(ledger, [A, B])
    begin(ledger)
    rows, head = list(ledger.rows), ledger.head
    ledger.close()
    whole, seen, rng = path.read_bytes(), 0, random.Random(6)
    for _ in range(300):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        try:
            again = Ledger(path)
            again.verify_records()
            assert again.rows == rows and again.head == head
            again.close()
        except LedgerError as error:
            assert "\n" not in str(error)
            seen += 1
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
    assert seen > 30


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 5000])
def test_a_cut_file_is_refused(ledger, path, length):
    charge(ledger, [A])
    ledger.close()
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(LedgerError):
        Ledger(path)


def test_what_is_no_ledger_and_no_place_for_one(tmp_path):
    other = tmp_path / "other.sqlite"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE x (y)")
    db.commit()
    (tmp_path / "other.sqlite.key").write_text("00" * 32)
    (tmp_path / "other.sqlite.key").chmod(0o600)
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger(other)
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="SFUMATO_LEDGER"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


CHILD = """
    import sys
    from sfumato.privacy.ledger.charges import OverBudget
    from sfumato.privacy.ledger.ledger import Ledger
    from sfumato.privacy.ledger.runs import RunLedger
    path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print("ready", flush=True)
    ledger, done = Ledger(path), 0
    for i in range(rounds):
        run = f"{name}-{i}"
        RunLedger(ledger, run).append("PLAN", {})
        price = {"events": [{"type": "gaussian"}], "epsilon": 1.0, "delta": 1e-5}
        body = price | {"unit": "record", "relation": "r"}
        try:
            ledger.charge(run, ledger.identify([b"x" * 32]), body, lambda c, r: float(len(c)))
        except OverBudget:
            break
        RunLedger(ledger, run).begin({"billed": 0}, expected=0, reserve=0)
        print(run, flush=True)  # what a release is: said only after the charge
"""


def start(path, name, rounds):
    code = "\n".join(line[4:] for line in CHILD.splitlines())
    command = [sys.executable, "-c", code, str(path), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writers_land_exactly_on_the_cap(path):
    ledger = Ledger(path)
    ledger.set_cap(ledger.identify([b"x" * 32]), 40.0)
    writers = [start(path, f"w{i}", 1000) for i in range(8)]
    told = [
        line for w in writers for line in w.communicate(timeout=300)[0].split() if line != "ready"
    ]
    assert all(w.returncode == 0 for w in writers)
    again = Ledger(path)
    assert (
        len(again.group(again.identify([b"x" * 32])).charges) == 40 == len(set(told)) == len(told)
    )


def test_opening_it_again_gives_up_no_lock_of_the_same_process(ledger, path):
    """A plan of `--match` opens it for every base. Without the lock another process that leaves
    takes the -wal file away, and what this one charges then is lost with it.
    """
    charge(ledger, [A], "before")
    Ledger(path)
    start(path, "short", 1).communicate(timeout=60)
    assert path.with_name(path.name + "-wal").exists()
    other = start(path, "long", 10**6)
    told = [other.stdout.readline() for _ in range(4)][1:]
    assert {f"long-{i}" for i in range(len(told))} <= {row.run_id for row in Ledger(path).rows}
    charge(ledger, [B], "after")
    other.kill()
    other.communicate()
    charged = {row.run_id for row in Ledger(path).rows if row.kind == "CHARGE"}
    assert {"before", "short-0", "after"} <= charged


def test_killed_writers_leave_whole_chains_and_every_word_is_charged(path):
    """Death at random moments; progress is asserted, so that a test that killed nothing fails."""
    rng, told, kills = random.Random(0), set(), 0
    Ledger(path).close()
    for number in range(12):
        writer = start(path, f"k{number}", 10**6)
        writer.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.4))
        os.kill(writer.pid, signal.SIGKILL)
        kills += 1
        told |= set(writer.communicate()[0].split())
    ledger = Ledger(path)
    charged = {row.run_id for row in ledger.rows if row.kind == "CHARGE"}
    begun = {row.run_id for row in ledger.rows if row.kind == "ATTEMPT"}
    assert told <= begun <= charged and kills == 12
    assert len(charged) > 20, "the writers died before they wrote"
    ledger.verify_records()


def test_the_identity_of_a_data_set_is_computed_once(ledger):
    """Once for each image, a first charge on 60,000 of them took hours."""
    manifest = ledger.identify([i.to_bytes(32, "big") for i in range(2000)])
    started = time.process_time()
    RunLedger(ledger, "run").append("PLAN", {})
    ledger.charge("run", manifest, {"events": EVENTS, "epsilon": 1.0, **TERMS}, added)
    # 0.02 s; 30 s when each row asked for the identity again
    assert time.process_time() - started < 5.0
    assert ledger.group(manifest).datasets == {manifest.id}


def test_a_known_set_still_meets_the_sets_that_joined_it_later(ledger):
    charge(ledger, [A, B], "one")
    charge(ledger, [B, C], "two")
    charge(ledger, [C, D], "three")
    assert charge(ledger, [A, B], "four").body["total"] == 4.0
    assert len(ledger.group(ledger.identify([A, B])).datasets) == 3 and len(ledger.groups()) == 1


def test_a_durable_charge_is_quick(ledger):
    took = []
    for i in range(200):
        RunLedger(ledger, str(i)).append("PLAN", {})
        body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
        started = time.perf_counter()
        ledger.charge(str(i), ledger.identify([A, B, C, D]), body, lambda *_: 1.0)
        took.append(time.perf_counter() - started)
    print(f"charge: median {1e3 * sorted(took)[100]:.1f} ms, p99 {1e3 * sorted(took)[197]:.1f} ms")
    assert sorted(took)[100] < 0.5  # machines under load; the figure to quote is the printed one
