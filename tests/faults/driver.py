"""Runs one life of a run folder in forked children, lets a chosen system call fail or kill, and
checks what is left.

Started by test_faults.py with the shim preloaded; prints one JSON object.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from sfumato.errors import MachineError, SfumatoError
from sfumato.options import Recipe
from sfumato.privacy import accounting
from sfumato.privacy.ledger.entries import Released
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.notes import CheckpointMade
from sfumato.releases import (
    CertificateFacts,
    LedgerFacts,
    build_privacy_json,
    consistency,
    finalise,
    folder,
    write_draft,
)
from sfumato.runs import budget
from sfumato.runs.folder import Run
from sfumato.training import State, latest_checkpoint, write_checkpoint
from tests.plans import of_training

OFF, COUNT, FAIL, TEAR, KILL = range(5)
STATES = ("nothing", "PLAN", "CHARGE", "ATTEMPT", "NOTE", "RELEASE", "CERTIFY")
RECORDS = SimpleNamespace(
    fingerprints=[bytes([i]) * 32 for i in range(1, 9)], marks={}, digest=lambda *_: "d"
)
OPTIONS = {
    "performance": {"precision": "float32", "engine": "one-pass", "checkpoint_steps": 2},
    "seed": 0,
}
shim = ctypes.CDLL(None)
shim.fault_seen.restype = ctypes.c_long


def made_plan():
    accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
    return of_training(method="lora", classes=("a",), prompts=("a",))


PLAN = made_plan()
FACTS = CertificateFacts(
    plan=PLAN.to_json(),
    ledger=LedgerFacts(head="ab" * 32, entries=1, attempts=1, replays=0),
    run_key_id="0",
    code_version="0",
)
CLAIM = build_privacy_json(FACTS)
folder.build_privacy_json = lambda *_, **__: CLAIM  # pricing takes seconds and writes nothing
folder.verify_privacy.check_privacy = lambda facts: []
consistency.check_facts = lambda facts: []


def life(top: Path, tell) -> None:
    """From plan to certificate, on the real code; `tell` says what a stranger could know by
    then.
    """
    ledger = budget.open_ledger(top / "book" / "ledger.sqlite")
    run = Run.create(top / "run", PLAN, OPTIONS, ledger)
    tell("PLAN")
    run.charge(RECORDS)
    tell("CHARGE")
    run.begin(RECORDS, 0)
    tell("ATTEMPT")
    weight = torch.nn.Parameter(torch.ones(4))
    state = State({"w": weight}, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
    for step in (1, 2, 3):
        state.step = step

        def announce(facts: dict) -> None:
            run.record(CheckpointMade(checkpoint=facts["step"], attempt=0, sha256=facts["sha256"]))

        write_checkpoint(run.folder / "checkpoints", state, 0, run.key_id, PLAN.digest, announce)
        tell("NOTE")
    run.record(Released(sort="images"))
    made = top / "made"
    (made / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(made / "train" / "a" / "000000.png")
    row = {"file_name": "train/a/000000.png", "label": "a", "prompt": "a", "seed": 1}
    (made / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    write_draft(made, FACTS, artefacts="images", settings={"n": 1})
    run.certify(made / "synthesis.json", keep_key=False)
    tell("CERTIFY")
    finalise(made, top / "release")
    tell("release")


def live(
    top: Path, mode: int, k: int, error: int = 0, once: bool = False
) -> tuple[int, list[str], str]:
    """One life in a child: (wait status, what it told, the error it ended with)."""
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code, said = 0, ""
        try:
            shim.fault_arm(mode, ctypes.c_long(k), error, int(once), writer)
            life(top, lambda word: os.write(writer, (word + "\n").encode()))
        # an OSError becomes one line in the command line
        except (SfumatoError, OSError) as problem:
            own = isinstance(problem, SfumatoError)
            code = problem.exit_code if own else MachineError.exit_code
            said = "error: " + (str(problem) if own else problem.strerror)
        except BaseException as problem:
            code, said = 70, f"error: {type(problem).__name__} {problem}"
        finally:
            seen = shim.fault_seen()
            shim.fault_arm(OFF, ctypes.c_long(0), 0, 0, -1)
            os.write(writer, f"{said}\nseen {seen}\n".encode())
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told = [line for line in lines.read().split("\n") if line]
    return (
        os.waitpid(child, 0)[1],
        told,
        next((line for line in told if line.startswith("error: ")), ""),
    )


def check(top: Path, told: list[str]) -> str:
    """What must hold after any death; the state that the ledger was left in."""
    place = top / "book" / "ledger.sqlite"
    ledger = Ledger(place)
    ledger.verify_records()
    kinds = [row.kind for row in ledger.rows if row.run_id]
    for word in set(told) & set(STATES):
        assert word in kinds, f"told {word}, but the ledger does not have it"
    if (top / "release").exists() or "release" in told:
        assert "CERTIFY" in kinds, "released without a row"
        assert all(ok for _, ok, _ in folder.all_checks(top / "release")), "half a release"
    if (top / "run").exists():
        run = Run.open(top / "run", place)
        if not (top / "run" / "run.key").exists():
            assert "CERTIFY" in kinds, "the key went before the certificate"
        found = latest_checkpoint(run.folder / "checkpoints")
        noted = {note.get("sha256") for note in run.ledger.bodies("NOTE")}
        assert found is None or found[0]["sha256"] in noted, (
            "a checkpoint that the ledger does not know"
        )
        if kinds.count("CHARGE"):
            before = len(ledger.group(ledger.identify(RECORDS.fingerprints)).charges)
            other = Run.create(top / "next", PLAN, OPTIONS, Ledger(place))
            other.charge(RECORDS)
            assert len(other.group().charges) == before + 1, "what was charged is forgotten"
    return max((kind for kind in kinds if kind in STATES), key=STATES.index, default="nothing")


def main(top: Path, stride: int) -> dict:
    status, told, problem = live(top / "clean", COUNT, 0)
    assert status == 0 and "release" in told, (status, told, problem)
    check(top / "clean", told)
    calls = int(told[-1].split()[1])
    modes = {
        "kill": (KILL, 0, False),
        "tear": (TEAR, 0, False),
        "ENOSPC": (FAIL, errno.ENOSPC, False),
    }
    modes |= {"EIO": (FAIL, errno.EIO, False), "EIO once": (FAIL, errno.EIO, True)}
    landed, ended, failures = Counter(), Counter(), []
    for name, (mode, error, once) in modes.items():
        for k in range(1, calls + 1, stride):
            status, told, problem = live(top / "life", mode, k, error, once)
            dead = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            code = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            ended[f"{name}: {'killed' if dead else code}"] += 1
            try:
                assert dead or code in (0, 13, 14), f"exit code {code}: {problem}"
                assert "\n" not in problem and "Traceback" not in problem
                state = check(top / "life", told)
                if dead:
                    landed[state] += 1
            except Exception as found:
                failures.append(f"{name} at call {k} of {calls}: {type(found).__name__}: {found}")
    return {"calls": calls, "landed": landed, "ended": ended, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
