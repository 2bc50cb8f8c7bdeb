"""`make storm`: writers of one ledger are killed at random moments, meet a cap, and are timed;
prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sfumato.privacy import accounting
from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.runs import budget

TERMS = {"unit": "record", "relation": "zero-out", "delta": 1e-5}
STATES = (
    "begin",
    "open",
    "plan",
    "price",
    "charge",
    "commit",
    "note",
    "charged",
    "attempt",
    "step",
    "release",
    "copy",
    "certify",
)
BEGIN = STATES.index("begin")


def body(noise: float, epsilon: float) -> dict:
    return {
        "events": [{"type": "gaussian", "noise_multiplier": noise, "count": 1}],
        "epsilon": epsilon,
        **TERMS,
    }


def writer(ledger: Path, out: Path, say: Callable[[str], None]) -> None:
    """Runs without end: planned, charged, begun, copied out, certified. A file in `out` is a
    release.
    """
    note = Chain._note

    def noted(chain):
        state = current[0]
        say("note" if state == "commit" else state)
        note(chain)

    current = [""]

    def at(state):
        current[0] = state
        say(state)

    append = Chain.append

    def appended(chain, kind, *rest):
        row = append(chain, kind, *rest)
        if kind == "CHARGE":
            at("commit")
        return row

    Chain._note, Chain.append = noted, appended

    def price(charges, released):
        at("price")
        time.sleep(0.002)  # the accountant takes seconds
        total = float(len(charges))
        at("charge")
        return total

    at("open")
    book, number = Ledger(ledger), 0
    images = book.identify([b"%32d" % i for i in range(50)])
    while True:
        name = f"{os.getpid()}-{number}"
        run, number = RunLedger(book, name), number + 1
        at("plan")
        run.append("PLAN", {})
        at("charge")
        book.charge(name, images, body(2.0, 1.0), price)
        at("charged")
        time.sleep(0.003)
        at("attempt")
        run.begin({"billed": 0}, expected=0, reserve=0)
        at("step")
        time.sleep(0.003)
        at("release")
        run.append("RELEASE", {})
        at("copy")
        with open(out / name, "w", encoding="ascii") as file:
            file.write("x" * 4096)
            time.sleep(0.003)
            file.write("x" * 4096)
        at("certify")
        run.append("CERTIFY", {})


def random_kills(
    top: Path, kills: int, least: int, seed: int, kills_in_a_ledger: int = 100
) -> dict:
    """Two writers at a time, each killed after a random while and followed by another; all is
    checked after each hundred.
    """
    rng, landed, charges, releases, dead = random.Random(seed), Counter(), 0, 0, 0
    without, broken, started = 0, 0, time.monotonic()
    board = mmap.mmap(-1, 2)
    seen = [state for state in STATES if state != "begin"]
    # On a busy machine many die early, so it goes on until all states had their share.
    while dead < kills or (min(landed[state] for state in seen) < least and dead < 5 * kills):
        book = top / f"book-{dead}"
        out = book / "out"
        out.mkdir(parents=True)
        ledger = book / "ledger.sqlite"

        def start(slot, ledger=ledger, out=out):
            board[slot] = BEGIN
            child = os.fork()
            if child == 0:
                try:
                    writer(ledger, out, lambda now: board.__setitem__(slot, STATES.index(now)))
                finally:
                    os._exit(3)
            return child

        writers = [start(0), start(1)]
        for number in range(kills_in_a_ledger):
            slot = number % 2
            time.sleep(rng.uniform(0.0, 0.06))
            os.kill(writers[slot], signal.SIGKILL)
            status = os.waitpid(writers[slot], 0)[1]
            assert os.WIFSIGNALED(status), "a writer ended by itself"
            landed[STATES[board[slot]]] += 1
            dead += 1
            writers[slot] = start(slot)
        for child in writers:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        try:
            found = Ledger(ledger)
            found.verify_records()
        except ValueError as error:
            print(f"{ledger}: {error}", file=sys.stderr)
            broken += 1
            continue
        charged = {row.run_id for row in found.chain.of("CHARGE")}
        left = {row.run_id for row in found.chain.of("RELEASE")}
        gone = {path.name for path in out.iterdir()}
        without += len(gone - charged) + len(gone - left) + len(left - charged)
        charges, releases = charges + len(charged), releases + len(gone)
        found.close()
        shutil.rmtree(book)
    return {
        "what": "random kills",
        "kills": dead,
        "least_in_a_state": min(landed[state] for state in seen),
        "landed": dict(landed),
        "charges": charges,
        "releases": releases,
        "releases_without_a_charge": without,
        "broken_chains": broken,
        "seconds": round(time.monotonic() - started, 1),
    }


def cap(top: Path, writers: int, cap: float, noise: float, price, what: str) -> dict:
    """Writers charge until the cap refuses; how many charges there are, and how many the cap has
    room for.
    """
    one = price([body(noise, 0.0)], False)
    alike, room = [], 0
    while price(alike := [*alike, body(noise, one)], False) <= cap:
        room += 1
    ledger, started = top / "ledger.sqlite", time.monotonic()
    book = Ledger(ledger)
    images = book.identify([b"%32d" % i for i in range(50)])
    book.set_cap(images, cap)
    book.close()
    children = []
    for _ in range(writers):
        child = os.fork()
        if child == 0:
            code = 3
            try:
                mine, number = Ledger(ledger), 0
                while code:
                    name, number = f"{os.getpid()}-{number}", number + 1
                    RunLedger(mine, name).append("PLAN", {})
                    try:
                        mine.charge(name, images, body(noise, one), price)
                    except OverBudget:
                        code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    book = Ledger(ledger)
    book.verify_records()
    per_writer = Counter(row.run_id.partition("-")[0] for row in book.chain.of("CHARGE"))
    charges = len(book.chain.of("CHARGE"))
    total = price(list(book.group(images).charges), False)
    book.close()
    return {
        "what": what,
        "writers": writers,
        "cap": cap,
        "room": room,
        "charges": charges,
        "total": total,
        "writers_that_charged": len(per_writer),
        "exit_codes": codes,
        "seconds": round(time.monotonic() - started, 1),
    }


def timing(top: Path, images: int, rows: int, charges: int) -> dict:
    """Milliseconds of one durable row, of one charge, and of the check of the table of images
    before it; pricing left out.

    The ledger holds `rows` rows before.
    """
    book = Ledger(top / "ledger.sqlite")
    manifest = book.identify([b"%32d" % i for i in range(images)])
    if rows:
        with book.chain.transaction():
            for i in range(rows):
                book.chain.append("NOTE", f"old-{i // 100}", {"checkpoint": i})
    row, whole, table, verify = [], [], [], book.datasets.verify

    def timed():
        started = time.perf_counter()
        verify()
        table.append(time.perf_counter() - started)

    book.datasets.verify = timed
    for i in range(charges + 1):
        started = time.perf_counter()
        RunLedger(book, f"run-{i}").append("PLAN", {})
        row.append(time.perf_counter() - started)
        started = time.perf_counter()
        book.charge(f"run-{i}", manifest, body(2.0, 1.0), lambda *_: 1.0)
        whole.append(time.perf_counter() - started - table[i])
    book.close()
    first, *whole = whole

    def quantile(found, share):
        return round(1e3 * sorted(found)[min(len(found) - 1, math.ceil(share * len(found)) - 1)], 2)

    return {
        "what": "durable charge, ms",
        "images": images,
        "rows_before": rows,
        "charges": charges,
        "first": round(1e3 * first, 2),
        **{f"charge_p{round(100 * s)}": quantile(whole, s) for s in (0.5, 0.99)},
        "charge_max": quantile(whole, 1.0),
        **{f"table_check_p{round(100 * s)}": quantile(table, s) for s in (0.5, 0.99)},
        **{f"row_p{round(100 * s)}": quantile(row, s) for s in (0.5, 0.99)},
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("top", type=Path, help="an empty folder on the disk to be tried")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--least", type=int, default=20, help="kills that must land in each state")
    parser.add_argument(
        "--room", type=int, default=500, help="charges that fit under the counted cap"
    )
    parser.add_argument("--charges", type=int, default=500, help="charges that are timed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2  # pricing is not what is tried
    given.top.mkdir(parents=True, exist_ok=True)
    # where ledgers are noted: not in the home of whoever runs this
    os.environ["XDG_STATE_HOME"] = str(given.top / "state")
    os.environ["SFUMATO_ACCOUNT_HOME"] = str(given.top / "no-account")
    good = True
    found = random_kills(given.top / "kills", given.kills, given.least, given.seed)
    print(json.dumps(found), flush=True)
    good &= found["least_in_a_state"] >= given.least and found["charges"] > given.kills / 10
    good &= not found["releases_without_a_charge"] and not found["broken_chains"]
    count = lambda charges, released: float(len(charges))  # noqa: E731
    for number, case in enumerate(
        [
            (8, float(given.room), 2.0, count, "writers on a counted cap"),
            (8, 2.0, 8.0, budget.price, "writers on a cap, priced"),
        ]
    ):
        found = cap(given.top / f"cap-{number}", *case)
        print(json.dumps(found), flush=True)
        good &= (
            found["charges"] == found["room"] > 8
            and found["total"] <= found["cap"]
            and not any(found["exit_codes"])
        )
    for images, rows in ((50, 0), (1_000, 0), (60_000, 0), (50, 100_000)):
        found = timing(given.top / f"timing-{images}-{rows}", images, rows, given.charges)
        print(json.dumps(found), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
