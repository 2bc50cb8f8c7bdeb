"""Ledgers of format 1: opened, brought to the newest format with nothing lost, and never taken
back; rows under the key.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.formats import SCHEMAS
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.rows import canonical, hash_of
from sfumato.privacy.ledger.runs import RunLedger

# written by sfumato 0.1.0 as of commit c6fe880: 20 rows, three runs, two caps
OLD = Path(__file__).parent / "format1"
HEAD = "75a3c8287d4aeeca4fcc80b7d42d5670dbb8c8b3bcfa209a15422b9c264f1ddb"
EVENTS = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]
TERMS = {"unit": "record", "relation": "zero-out", "delta": 1e-5}
A, B, C, D = (bytes([65 + i]) * 32 for i in range(4))


@pytest.fixture
def path(tmp_path):
    shutil.copytree(OLD, tmp_path / "book")
    for file in (tmp_path / "book").iterdir():
        file.chmod(0o600)
    return tmp_path / "book" / "ledger.sqlite"


def forge(path: Path, number: int, change, schema: bool = True):
    """Rewrite a row and chain all later ones anew, as anyone can who has the file but not
    the key.
    """
    db = sqlite3.connect(path)
    kept = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    names, head = ("seq", "prev_hash", "kind", "run_id", "attempt", "utc", "body"), "0" * 64
    rows = db.execute(f"SELECT {', '.join(names)} FROM entry ORDER BY seq").fetchall()
    for row in rows:
        values = dict(zip(names, row)) | {"prev_hash": head}
        values["body"] = json.loads(values["body"])
        if values["seq"] == number:
            change(values["body"])
        head = hash_of(values)
        cells = [head, values["prev_hash"], canonical(values["body"]), values["seq"]]
        db.execute("UPDATE entry SET hash = ?, prev_hash = ?, body = ? WHERE seq = ?", cells)
    for sql in kept:
        db.execute(sql)
    db.commit()
    db.close()
    path.with_name(path.name + ".head").write_text(f"{len(rows) - 1} {head}\n")


def test_an_old_ledger_is_opened_joined_and_loses_nothing(path):
    ledger = Ledger(path)
    assert [row.kind for row in ledger.rows[20:]] == ["NOTE"] and ledger.rows[19].hash == HEAD
    assert (
        ledger.rows[20].body == {"format": 2, "before": 1, "rows": 20}
        and ledger.chain.old_rows == 20
    )
    ledger.verify_records()
    group = ledger.group(ledger.identify([A]))
    assert (len(group.charges), group.cap, group.adaptive) == (3, 5.0, True)
    body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
    run = RunLedger(ledger, "four")
    run.append("PLAN", {})
    assert (
        ledger.charge("four", ledger.identify([C, D]), body, lambda c, r: float(len(c))).body[
            "total"
        ]
        == 4.0
    )
    with pytest.raises(OverBudget, match="4 earlier charges"):
        RunLedger(ledger, "five").append("PLAN", {})
        ledger.charge("five", ledger.identify([A]), body, lambda c, r: 6.0)
    ledger.close()
    again = Ledger(path)
    assert len(again.rows) == 26 and RunLedger(again, "one").attempts == 1
    assert not again.rows[22].utc and again.rows[22].written


def test_images_of_an_old_ledger_are_known_by_pixels_and_from_the_next_run_on_by_their_files(path):
    ledger, file = Ledger(path), [b"f" * 32]
    assert (
        ledger.group(ledger.identify([A], file)).cap == 5.0
        and ledger.group(ledger.identify([D], file)).cap is None
    )
    RunLedger(ledger, "four").append("PLAN", {})
    body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
    ledger.charge("four", ledger.identify([A], file), body, lambda c, r: float(len(c)))
    decoded = ledger.group(ledger.identify([D], file))
    assert decoded.cap == 5.0 and ["listing" in charge for charge in decoded.charges] == [
        False
    ] * 3 + [True]
    RunLedger(ledger, "five").append("PLAN", {})
    people = ledger.identify([A], file, [b"p" * 32])
    with pytest.raises(OverBudget, match="some of these runs protect single images"):
        ledger.charge("five", people, {**body, "unit": "patient"}, lambda c, r: 1.0)
    ledger.verify_records()


def test_an_upgraded_ledger_is_not_taken_back_to_format_1(path, tmp_path):
    shutil.copytree(path.parent, tmp_path / "old")
    ledger = Ledger(path)
    ledger.close()
    assert path.with_name("ledger.sqlite.key").read_text().endswith("\nformat 2\n")
    for name in ("ledger.sqlite", "ledger.sqlite.head"):
        shutil.copy(tmp_path / "old" / name, path.parent / name)
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(path)
    accepted = Ledger(path, restored=True)
    assert [row.kind for row in accepted.rows[20:]] == ["NOTE", "RESET"] and len(
        accepted.resets
    ) == 1


def test_a_death_between_upgrade_and_mark_is_made_good(path):
    secret = path.with_name("ledger.sqlite.key").read_bytes()
    Ledger(path).close()
    path.with_name("ledger.sqlite.key").write_bytes(secret)
    Ledger(path).close()
    assert path.with_name("ledger.sqlite.key").read_text().endswith("\nformat 2\n")


def test_the_old_program_cannot_write_into_an_upgraded_file(path):
    db = sqlite3.connect(path)
    Ledger(path).close()
    with pytest.raises(sqlite3.Error, match="newer sfumato"):
        db.execute("INSERT INTO entry VALUES (21, '', 'NOTE', '', NULL, '', '{}', '')")


@pytest.mark.parametrize("number", [3, 5])
def test_a_row_forged_without_the_key_is_refused(path, number):
    """The chain, which anyone can compute, is whole, and the note beside the file fits; the code
    under the key does not.
    """
    Ledger(path).close()
    forge(path, number, lambda body: body.update(epsilon=0.001))
    with pytest.raises(
        LedgerError, match=f"row {number} of the ledger was not written under its key"
    ):
        Ledger(path)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM seal WHERE seq = 21",
        "UPDATE seal SET mac = x'00' WHERE seq = 21",
        "UPDATE seal SET written = '1999' WHERE seq = 21",
    ],
)
def test_a_code_or_a_time_taken_away_is_seen(path, harm):
    ledger = Ledger(path)
    RunLedger(ledger, "x").append("PLAN", {})
    ledger.close()
    db = sqlite3.connect(path)
    kept = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in kept:
        db.execute(f"DROP TRIGGER {name}")
    db.execute(harm)
    for _, sql in kept:
        db.execute(sql)
    db.commit()
    with pytest.raises(LedgerError, match="row 21 of the ledger was not written under its key"):
        Ledger(path)


def test_a_forged_file_without_codes_is_not_upgraded(path, monkeypatch, tmp_path):
    """Dropping the codes makes a file of format 1, which would be given codes: the mark beside the
    key refuses it.
    """
    Ledger(path).close()
    db = sqlite3.connect(path)
    # all that format 1 does not know
    for text in reversed(SCHEMAS[max(SCHEMAS)][len(SCHEMAS[1]) :]):
        what, name = text.split()[1:3]
        if (
            what != "TRIGGER"
            or db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", [name]).fetchone()
        ):
            db.execute(f"DROP {what} {name}")
    db.commit()
    db.close()
    forge(path, 3, lambda body: body.update(epsilon=0.001))
    # no note there would refuse it either
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-machine"))
    path.with_name(path.name + ".head").unlink(missing_ok=True)
    with pytest.raises(LedgerError, match="older copy"):
        Ledger(path)


def test_an_export_stays_checkable_and_holds_no_time(path):
    """Rows that a running run writes are links of the chain alone, and so are old ones, whose hash
    covers the second.
    """
    ledger = Ledger(path)
    run = RunLedger(ledger, "one")
    run.append("NOTE", {"checkpoint": 3, "attempt": 0, "sha256": "ee" * 32})
    lines, head, withheld = list(ledger.export()), "0" * 64, []
    for number, line in enumerate(lines):
        row = json.loads(line)
        assert (row["seq"], row["prev_hash"]) == (number, head)
        head = row["hash"]
        if "withheld" in row:
            withheld.append(row["withheld"])
            assert set(row) == {"seq", "prev_hash", "hash", "withheld"}
        else:
            assert row["hash"] == hash_of(row) and "written" not in row
            assert row["utc"] == "" or row["kind"] in (
                "NOTE",
                "OPEN",
                "JOIN",
                "CAP",
                "PLAN",
                "CHARGE",
            )
    assert head == ledger.head
    assert withheld == ["ATTEMPT", "NOTE", "REPLAY", "RELEASE", "CERTIFY", "NOTE", "NOTE"]
    told = "".join(lines)
    assert "ee" * 32 not in told and all(
        row.written not in told for row in ledger.rows if row.written
    )
    assert all(asdict(row)["written"] for row in ledger.rows[20:])
