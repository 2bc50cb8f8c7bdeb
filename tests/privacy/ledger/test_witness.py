"""The ledger's own past: copies that were put back, of the ledger, of its whole folder, or of a run
folder, are seen and may be accepted.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from types import SimpleNamespace

import pytest

from sfumato.privacy.ledger.faults import LedgerError, LedgerOutOfReach
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.privacy.ledger.witness import (
    ACCOUNT_HOME,
    RunNote,
    account_home,
    state_folder,
    state_folders,
)

EVENTS = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]
BODY = {"events": EVENTS, "epsilon": 1.0, "unit": "record", "relation": "zero-out", "delta": 1e-5}
A = b"A" * 32


def added(charges, released):
    return sum(body["epsilon"] for body in charges)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "run").mkdir()
    return SimpleNamespace(
        path=tmp_path / "book" / "ledger.sqlite", run=tmp_path / "run", top=tmp_path
    )


def begun(place, run="one", folder=None) -> RunLedger:
    """A run that was charged and has started."""
    book = Ledger(place.path)
    rows = RunLedger(book, run, folder or place.run)
    rows.append("PLAN", {})
    book.charge(run, book.identify([A]), BODY, added)
    rows.begin({"billed": 0, "salt": "00"}, expected=0, reserve=0)
    return rows


def opened(place, run="one", folder=None) -> RunLedger:
    return RunLedger(Ledger(place.path), run, folder or place.run)


def kept(folder, to):
    shutil.copytree(folder, to)
    return lambda: (shutil.rmtree(folder), shutil.copytree(to, folder))


def test_the_whole_ledger_folder_restored_is_seen_by_the_state_folder(place):
    """Database, key and the note beside it, all of one older day: only the note elsewhere knows
    better.
    """
    begun(place).ledger.close()
    restore = kept(place.path.parent, place.top / "backup")
    other = Ledger(place.path)
    RunLedger(other, "two").append("PLAN", {})
    other.charge("two", other.identify([A]), BODY, added)
    other.close()
    Ledger(place.path).close()
    restore()
    with pytest.raises(LedgerError, match="older copy.*sfumato ledger reset"):
        Ledger(place.path)
    accepted = Ledger(place.path, restored=True)
    assert [(r["missing_rows"]) for r in accepted.resets] == [2]
    accepted.close()
    assert len(Ledger(place.path).resets) == 1


def test_of_two_copies_that_went_on_one_is_refused(place):
    begun(place).ledger.close()
    twin = place.top / "twin" / "ledger.sqlite"
    shutil.copytree(place.path.parent, twin.parent)
    here, there = Ledger(place.path), Ledger(twin)
    there.set_cap(there.identify([A]), 5.0)
    here.set_cap(here.identify([A]), 4.0)
    here.close(), there.close()
    Ledger(place.path).close()  # the last that was written
    with pytest.raises(LedgerError, match="not the one that was last written"):
        Ledger(twin)


def test_a_moved_ledger_goes_on(place):
    begun(place).ledger.close()
    shutil.move(place.path.parent, place.top / "elsewhere")
    moved = SimpleNamespace(path=place.top / "elsewhere" / "ledger.sqlite", run=place.run)
    opened(moved).append("NOTE", {"checkpoint": 1, "attempt": 0})
    opened(moved)


@pytest.mark.parametrize("later", [1, 2])
def test_a_ledger_that_was_accepted_is_accepted_for_the_rows_that_were_known_to_be_lost(
    place, later
):
    """The reset names the newest lost row; a run folder that saw an older lost one says so for
    itself.
    """
    begun(place).ledger.close()
    restore = kept(place.path.parent, place.top / "backup")
    after = opened(place)
    after.append("RELEASE", {"kind": "images"})
    if later == 2:
        after.ledger.set_cap(after.ledger.identify([A]), 9.0)
    after.ledger.close()
    restore()
    book = Ledger(place.path, restored=True)
    if later == 2:
        with pytest.raises(LedgerError, match="the ledger lacks rows"):
            RunLedger(book, "one", place.run)
        book.reset_run("one", place.run)
    RunLedger(book, "one", place.run)
    assert len(book.resets) == later


def test_a_restored_ledger_is_seen_by_a_run_folder_alone(place):
    """The state folder is gone as well: what the run folder has seen is missing."""
    place.run = place.run.rename(place.run.with_name("a run"))
    rows = begun(place)
    rows.ledger.close()
    restore = kept(place.path.parent, place.top / "backup")
    after = opened(place)
    after.append("RELEASE", {"kind": "images"})
    after.ledger.close()
    restore()
    shutil.rmtree(state_folder())
    book = Ledger(place.path)
    with pytest.raises(
        LedgerError, match="the ledger lacks rows that .* has seen.*sfumato ledger reset '.*run'`"
    ):
        RunLedger(book, "one", place.run)
    with pytest.raises(LedgerError, match="not know this run"):
        book.reset_run("another", place.run)
    book.reset_run("one", place.run)
    again = RunLedger(book, "one", place.run)
    assert again.ledger.resets[-1]["run"] == "one" and again.ledger.resets[-1]["older"] == "ledger"
    again.append("RELEASE", {"kind": "images"})
    opened(place)
    with pytest.raises(LedgerError, match="nothing to reset"):
        book.reset_run("one", place.run)


@pytest.mark.parametrize(
    "later",
    [("NOTE", {"checkpoint": 2, "attempt": 0}), ("REPLAY", {"attempt": 0}), ("RELEASE", {})],
)
def test_a_run_folder_alone_restored_is_seen(place, later):
    """One row later is enough."""
    rows = begun(place)
    restore = kept(place.run, place.top / "backup")
    rows.append(*later)
    rows.ledger.close()
    opened(place)
    restore()
    with pytest.raises(LedgerError, match="older copy of its run.*sfumato ledger reset"):
        opened(place)
    book = Ledger(place.path)
    book.reset_run("one", place.run)
    assert book.resets == [book.resets[0] | {"missing_rows": 0, "run": "one", "older": "folder"}]
    opened(place).append("NOTE", {"checkpoint": 3, "attempt": 0})
    opened(place)


def test_rows_of_other_runs_and_caps_are_no_alarm(place):
    begun(place).ledger.close()
    (place.top / "other").mkdir()
    begun(place, "two", place.top / "other").ledger.close()
    book = Ledger(place.path)
    book.set_cap(book.identify([A]), 9.0)
    book.close()
    opened(place), opened(place, "two", place.top / "other")


@pytest.mark.parametrize("at", ["announced", "committed"])
def test_a_death_around_a_commit_is_no_alarm(place, monkeypatch, at):
    """The note may know a row that never came, or know a committed row as coming: both go on."""

    class Died(BaseException):
        pass

    def die(*_, **__):
        raise Died

    rows = begun(place)
    if at == "committed":
        monkeypatch.setattr(RunNote, "confirm", die)
    else:
        real = RunNote.announce

        def announce(note, *heads):
            real(note, *heads)
            raise Died

        monkeypatch.setattr(RunNote, "announce", announce)
    with pytest.raises(Died):
        rows.append("NOTE", {"checkpoint": 1, "attempt": 0})
    monkeypatch.undo()
    # the test's own went with the undo
    os.environ["XDG_STATE_HOME"] = str(place.top / "other-state")
    try:
        again = opened(place)
        assert len(again.bodies("NOTE")) == (at == "committed")
        again.append("NOTE", {"checkpoint": 1, "attempt": 0})
        opened(place)
    finally:
        del os.environ["XDG_STATE_HOME"]


def test_what_a_crash_left_as_coming_is_not_taken_for_another_row(place, monkeypatch):
    """A copy of the folder made between announce and commit knows one row; it does not excuse the
    next.
    """
    rows, real = begun(place), RunNote.announce

    def announce(note, *heads):
        real(note, *heads)
        if not (place.top / "backup").exists():
            shutil.copytree(place.run, place.top / "backup")

    monkeypatch.setattr(RunNote, "announce", announce)
    rows.append("NOTE", {"checkpoint": 1, "attempt": 0})
    opened(place, folder=place.top / "backup")
    rows.append("NOTE", {"checkpoint": 2, "attempt": 0})
    with pytest.raises(LedgerError, match="older copy of its run"):
        opened(place, folder=place.top / "backup")


def test_a_full_disk_in_the_run_folder_stops_the_row(place, monkeypatch):
    rows = begun(place)
    before = len(rows.ledger.rows)
    monkeypatch.setattr(
        "sfumato.privacy.ledger.witness.os.replace",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    with pytest.raises(LedgerOutOfReach, match="run folder cannot be used .No space left"):
        rows.append("NOTE", {"checkpoint": 1, "attempt": 0})
    monkeypatch.undo()
    assert len(rows.ledger.rows) == before and len(rows.rows) == 3


@pytest.mark.parametrize("text", ["", "\0" * 40])
def test_a_note_that_a_power_cut_emptied_is_no_alarm(place, text):
    rows = begun(place)
    rows.ledger.close()
    for note in (
        rows.ledger.chain.state,
        place.path.with_name("ledger.sqlite.head"),
        place.run / "ledger.head",
    ):
        note.write_text(text)
    opened(place).append("NOTE", {"checkpoint": 1, "attempt": 0})
    assert json.loads((place.run / "ledger.head").read_text())[0][0] == 6
    # but that no note was there is said
    assert [row["missing_rows"] for row in Ledger(place.path).resets] == [None]


@pytest.mark.parametrize("text", ["x", "[1]", "[[0, 1], 2]", "{}", "\xff"])
def test_a_note_of_a_run_that_does_not_read_is_refused(place, text):
    begun(place).ledger.close()
    (place.run / "ledger.head").write_bytes(text.encode("latin-1"))
    with pytest.raises(LedgerError, match="does not read"):
        opened(place)


def test_without_a_home_there_is_no_state_note(place, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(
        "sfumato.privacy.ledger.witness.Path.home",
        lambda: (_ for _ in ()).throw(RuntimeError("no home")),
    )
    rows = begun(place)
    assert rows.ledger.chain.state is None
    opened(place).append("NOTE", {"checkpoint": 1, "attempt": 0})


def test_notes_hold_no_image_and_are_private(place):
    rows = begun(place)
    for note in (rows.ledger.chain.state, place.run / "ledger.head"):
        assert note.stat().st_mode & 0o777 == 0o600
        assert rows.ledger.keyed(A).hex() not in note.read_text()


def test_an_old_run_folder_without_a_note_goes_on_and_gets_one(place):
    begun(place).ledger.close()
    (place.run / "ledger.head").unlink()
    opened(place).append("NOTE", {"checkpoint": 1, "attempt": 0})
    assert (place.run / "ledger.head").exists()


def test_a_reset_row_needs_the_key(place):
    """A forged RESET row would hide a loss: it has no code."""
    begun(place).ledger.close()
    db = sqlite3.connect(place.path)
    with pytest.raises(sqlite3.Error):
        db.execute("INSERT INTO entry VALUES (5, '', 'RESET', '', NULL, '', '{}', '')")


def another_run(place, name="two"):
    """A charge and a start of another run, after the copy; its folder outlives the ledger's."""
    folder = place.top / name
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"id": name}))
    rows = RunLedger(Ledger(place.path), name, folder)
    rows.append("PLAN", {})
    rows.ledger.charge(name, rows.ledger.identify([A]), BODY, added)
    rows.ledger.close()
    return folder


def test_another_home_does_not_hide_what_the_account_has_noted(place, monkeypatch):
    """sudo, cron and containers come with another HOME; the list of accounts still says whose notes
    to read.
    """
    monkeypatch.setenv(ACCOUNT_HOME, str(place.top))
    begun(place).ledger.close()
    restore = kept(place.path.parent, place.top / "backup")
    shutil.rmtree(another_run(place))
    restore()
    monkeypatch.setenv("XDG_STATE_HOME", str(place.top / "another"))
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(place.path)
    assert state_folders() == [
        place.top / "another" / "sfumato",
        place.top / ".local" / "state" / "sfumato",
    ]
    monkeypatch.setenv(ACCOUNT_HOME, str(place.top / "gone"))
    assert account_home() is None and len(state_folders()) == 1
    monkeypatch.delenv(ACCOUNT_HOME)
    monkeypatch.setattr(
        "sfumato.privacy.files.pwd.getpwuid",
        lambda uid: SimpleNamespace(pw_dir=str(place.top)),
    )
    monkeypatch.setenv("HOME", str(place.top / "another"))
    assert account_home() == place.top


def test_run_folders_that_outlived_the_ledger_are_asked(place):
    """The note is as old as the ledger, say restored with it; where run folders are was written
    down.
    """
    begun(place).ledger.close()
    head = next(state_folder().glob("*.head"))
    old, restore = head.read_text(), kept(place.path.parent, place.top / "backup")
    folder = another_run(place)
    restore()
    head.write_text(old)
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(place.path)
    (folder / "run.json").write_text(json.dumps({"id": "of another ledger"}))
    Ledger(place.path).close()  # the folder holds another run now
    (folder / "run.json").write_text(json.dumps({"id": "two"}))
    accepted = Ledger(place.path, restored=True)
    assert accepted.resets[-1]["missing_rows"] == 2
    accepted.close()
    Ledger(place.path).close()


def test_a_ledger_that_no_state_folder_knows_says_so(place, monkeypatch):
    begun(place).ledger.close()
    monkeypatch.setenv("XDG_STATE_HOME", str(place.top / "another"))
    book = Ledger(place.path)
    assert not book.resets, "who only looks writes nothing"
    RunLedger(book, "one", place.run).append("RELEASE", {"kind": "images"})
    assert [(said["unwitnessed"], said["missing_rows"]) for said in book.resets] == [(True, None)]
    book.close()
    for state in ("another", "a-third"):
        monkeypatch.setenv("XDG_STATE_HOME", str(place.top / state))
        opened(place).append("RELEASE", {"kind": "images"})
        assert len(Ledger(place.path).resets) == 1, "once, until more is charged"
    another_run(place)
    monkeypatch.setenv("XDG_STATE_HOME", str(place.top / "a-fourth"))
    opened(place).append("RELEASE", {"kind": "images"})
    assert len(Ledger(place.path).resets) == 2
