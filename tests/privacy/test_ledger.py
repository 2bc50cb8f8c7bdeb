"""The ledger: durable, chained, in order; damage of any byte is seen."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from sfumato.privacy import ledger as ledger_module
from sfumato.privacy.ledger import RunLedger

EVENTS = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def fill(path):
    ledger = RunLedger(path)
    ledger.append("PLAN", {"digest": "ab"})
    ledger.append("CHARGE", {"events": EVENTS})
    ledger.append("ATTEMPT", {"attempt": 0})
    return ledger


def test_rows_are_chained_and_read_back(path):
    ledger = fill(path)
    ledger.append("CHARGE", {"events": EVENTS * 2})
    ledger.append("RELEASE", {"sha256": "cd"})
    again = RunLedger(path)
    assert again.rows == ledger.rows and again.head == ledger.head
    assert [row["seq"] for row in again.rows] == list(range(5))
    assert again.charged_events() == EVENTS * 3 and again.attempts == 1
    assert again.bodies("RELEASE") == [{"sha256": "cd"}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_charge_comes_before_reading_and_releasing(path):
    ledger = RunLedger(path)
    with pytest.raises(ValueError, match="nothing is charged"):
        ledger.require_charge()
    for kind in ("CHARGE", "ATTEMPT", "REPLAY", "RELEASE"):
        with pytest.raises(ValueError, match="before it"):
            ledger.append(kind, {"events": EVENTS})
    ledger.append("PLAN", {})
    with pytest.raises(ValueError, match="before it"):
        ledger.append("ATTEMPT", {})
    ledger.append("CHARGE", {"events": EVENTS})
    ledger.require_charge()
    with pytest.raises(ValueError, match="before it"):
        ledger.append("RELEASE", {})
    assert len(RunLedger(path).rows) == 2


@pytest.mark.parametrize(
    "kind, body",
    [
        ("REFUND", {}),
        ("NOTE", {"x": float("nan")}),
        ("NOTE", {"x": float("inf")}),
        ("NOTE", {"x": b"raw"}),
        ("CHARGE", {}),
        ("CHARGE", {"events": []}),
    ],
)
def test_bad_rows_leave_the_file_as_it_was(path, kind, body):
    fill(path)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        RunLedger(path).append(kind, body)
    assert path.read_bytes() == before


def test_every_flipped_byte_is_seen(path):
    fill(path)
    data = path.read_bytes()
    for position in range(0, len(data), 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(ValueError, match="ledger"):
            RunLedger(path)


def test_removed_swapped_and_forged_rows_are_seen(path):
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    orders = [
        [lines[1], lines[2]],
        [lines[0], lines[2]],
        [lines[0], lines[2], lines[1]],
        [*lines, lines[2]],
        [*lines, b"\n"],
    ]
    for order in orders:
        path.write_bytes(b"".join(order))
        with pytest.raises(ValueError, match="damaged at row"):
            RunLedger(path)
    row = json.loads(lines[0]) | {"kind": "RELEASE"}
    row["hash"] = ledger_module._hash(row)
    path.write_text(ledger_module._canonical(row) + "\n")
    with pytest.raises(ValueError, match="damaged at row 0"):  # a sound hash, an impossible order
        RunLedger(path)


def test_torn_last_line_is_an_error_with_a_cure(path):
    whole = fill(path).rows
    data = path.read_bytes()
    for cut in (1, 2, 40):
        path.write_bytes(data[:-cut])
        with pytest.raises(ValueError, match="delete that one line"):
            RunLedger(path)
    cured = RunLedger.cut_torn_line(path)
    assert cured.rows[:-1] == whole[:-1] and cured.rows[-1]["kind"] == "NOTE"
    assert RunLedger.cut_torn_line(path).rows == cured.rows  # nothing torn, nothing done


def test_one_holder_at_a_time(path):
    first, second = fill(path), RunLedger(path)
    with first.lock():
        first.append("NOTE", {"n": 1})
        with pytest.raises(ValueError, match="another process"), second.lock():
            pass
        with pytest.raises(ValueError, match="another process"):
            second.append("NOTE", {})
    second.append("NOTE", {"n": 2})  # reads what the first one wrote, so the chain holds
    assert [body["n"] for body in RunLedger(path).bodies("NOTE")] == [1, 2]


@pytest.mark.parametrize("fault", ["write", "fsync"])
def test_full_disk_leaves_no_half_row(path, monkeypatch, fault):
    ledger = fill(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fault, full)
    with pytest.raises(ValueError, match="No space left"):
        ledger.append("NOTE", {})
    monkeypatch.undo()
    assert path.read_bytes() == before and len(ledger.rows) == 3
    ledger.append("NOTE", {})
    assert len(RunLedger(path).rows) == 4


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        RunLedger(tmp_path / "none" / "ledger.jsonl").append("PLAN", {})


CHARGER = """
import sys
from sfumato.privacy.ledger import RunLedger
ledger = RunLedger.cut_torn_line(sys.argv[1])
with ledger.lock():
    print("ready", flush=True)
    while True:
        ledger.append("CHARGE", {"events": [{"type": "laplace", "epsilon": 1.0}]})
        print(ledger.head, flush=True)
"""


def test_killed_while_charging(path):
    RunLedger(path).append("PLAN", {})
    acknowledged = []
    for round_ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHARGER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.03 * (round_ + 1))
        child.send_signal(signal.SIGKILL)
        lines = child.communicate()[0].split("\n")
        acknowledged += lines[:-1]
    ledger = RunLedger.cut_torn_line(path)
    assert len(acknowledged) > 4  # progress, or the test shows nothing
    assert set(acknowledged) <= {row["hash"] for row in ledger.rows}
    assert len(ledger.charged_events()) >= len(acknowledged)
