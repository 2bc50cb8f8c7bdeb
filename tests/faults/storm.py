"""`make storm`: runs on the real code are killed by SIGKILL at named points, gone on with and
killed again; prints JSON lines.

Imports and preparation are paid once; every life is a forked child. The shim (LD_PRELOAD) kills
inside a commit, a write or a rename.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.gradients import Engine
from sfumato.methods import Lora
from sfumato.options import Performance
from sfumato.privacy import accounting
from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.privacy.ledger.witness import RunNote
from sfumato.records import load_records
from sfumato.releases import (
    CertificateFacts,
    LedgerFacts,
    build_privacy_json,
    consistency,
    draft,
    folder,
)
from sfumato.runs import execute
from sfumato.runs.folder import Run
from sfumato.runs.prepared import rebuild
from sfumato.synthesis import sampler
from sfumato.training import State, UnitBatch, checkpoint, latest_checkpoint
from sfumato.verbs.facts import adapted_base
from tests.conftest import make_tiny_base, make_tiny_images

KILL, TEAR = 4, 3
WRITE, SYNC, RENAME = 1, 2, 4
SETTINGS = {
    "delta": 1e-2,
    "method": Lora(rank=1),
    "expected_batch_size": 4,
    "steps": 3,
    "noise_draws": 1,
    "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
}
# How often a point is passed in one life: the kill takes one of these by chance.
STEPS = 3


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def armed(mode: int, kinds: int, k: int = 1):
    """From now on the k-th system call of these kinds kills (or is torn, then kills)."""

    def arm(*_, **__):
        shim = ctypes.CDLL(None)
        shim.fault_arm(mode, ctypes.c_long(k), 0, 0, -1)
        shim.fault_only(kinds)

    return arm


def rows(kind):
    """Calls whose arguments name this kind of row."""
    return lambda args, kwargs: kind in args


def checkpoints(args, kwargs):
    return args[0].name.startswith("step-") and args[0].suffix == ".safetensors"


def claim(args, kwargs):
    return args[0].name == folder.CERTIFICATE


# name: (owner, attribute, before or after the call, what happens, which calls, how often it is
# passed), in the order of a life
POINTS = {
    "plan.before": (RunLedger, "append", "before", die, rows("PLAN"), 1),
    "plan.after": (RunLedger, "append", "after", die, rows("PLAN"), 1),
    "charge.begin": (Ledger, "charge", "before", die, None, 1),
    "charge.inserted": (Chain, "append", "after", die, rows("CHARGE"), 1),
    "note.torn": (RunNote, "announce", "before", armed(TEAR, WRITE), None, 3),
    "note.before-sync": (RunNote, "announce", "before", armed(KILL, SYNC), None, 3),
    "note.before-rename": (RunNote, "announce", "before", die, None, 3),
    "note.announced": (RunNote, "announce", "after", die, None, 3),
    "note.confirmed": (RunNote, "confirm", "after", die, None, 3),
    # The run folder's note takes the first write and two syncs.
    "charge.torn": (Chain, "append", "after", armed(TEAR, WRITE, 2), rows("CHARGE"), 1),
    "charge.before-sync": (Chain, "append", "after", armed(KILL, SYNC, 3), rows("CHARGE"), 1),
    "charge.after-sync": (Chain, "_note", "before", die, "CHARGE", 1),
    "charge.durable": (Ledger, "charge", "after", die, None, 1),
    "attempt.before": (RunLedger, "begin", "before", die, None, 1),
    "attempt.durable": (RunLedger, "begin", "after", die, None, 1),
    "encode": ("sfumato.bases.latents", "encode", "after", die, None, 1),
    "step.sampled": ("sfumato.training.loop", "poisson", "after", die, None, STEPS),
    "step.microbatch": (UnitBatch, "__getitem__", "after", die, None, STEPS),
    "step.summed": (Engine, "clipped_sum", "after", die, None, STEPS),
    "step.reduced": ("sfumato.compute.ranks", "sum_over_ranks", "after", die, None, STEPS),
    "step.noised": ("sfumato.training.loop", "add_integer_noise", "after", die, None, STEPS),
    "step.optimised": (torch.optim.Adam, "step", "after", die, None, STEPS),
    "step.ema": (State, "update_average", "after", die, None, STEPS),
    "step.counted": ("sfumato.runs.workspace", "write_checkpoint", "before", die, None, STEPS),
    "ckpt.half-written": (
        checkpoint,
        "write_file",
        "before",
        armed(TEAR, WRITE),
        checkpoints,
        STEPS,
    ),
    "ckpt.before-sync": (checkpoint, "write_file", "before", armed(KILL, SYNC), checkpoints, STEPS),
    "ckpt.synced": (checkpoint, "write_file", "before", armed(KILL, RENAME), checkpoints, STEPS),
    "ckpt.renamed": (checkpoint, "write_file", "before", armed(KILL, SYNC, 2), checkpoints, STEPS),
    "ckpt.dir-synced": (checkpoint, "write_file", "after", die, checkpoints, STEPS),
    "release.row": (RunLedger, "append", "after", die, rows("RELEASE"), 1),
    "release.picture": (
        "sfumato.synthesis.dataset",
        "image_seed",
        "after",
        armed(TEAR, WRITE),
        None,
        2,
    ),
    "release.half-copied": (folder, "copy", "before", armed(TEAR, WRITE), None, 2),
    "certificate.draft": (
        "sfumato.verbs.synthesize",
        "write_draft",
        "before",
        armed(TEAR, WRITE),
        None,
        1,
    ),
    "certificate.row": (RunLedger, "append", "after", die, rows("CERTIFY"), 1),
    "certificate.half-written": (folder, "write", "before", armed(TEAR, WRITE), claim, 1),
    "certificate.renamed": (folder, "rename", "after", die, None, 1),
}


def plant(name: str, passing: int, tell) -> None:
    """Make this process die when it passes the point for the given time."""
    place, attribute, when, act, which, _ = POINTS[name]
    owner = importlib.import_module(place) if isinstance(place, str) else place
    real, passed = getattr(owner, attribute), 0

    @functools.wraps(real)
    def fatal(*args, **kwargs):
        nonlocal passed
        if isinstance(which, str):
            counts = args[0].rows[-1].kind == which
        else:
            counts = which is None or which(args, kwargs)
        passed += counts
        now = counts and passed == passing
        if now:
            tell(f"at {name}")
        if now and when == "before":
            act()
        answer = real(*args, **kwargs)
        if now and when == "after":
            act()
        return answer

    setattr(owner, attribute, fatal)


class Ground:
    """What all lives share: pictures, base and plan, prepared once."""

    def __init__(self, top: Path):
        accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
        self.images = load_records(make_tiny_images(top / "images", per_class=4))
        settings = SETTINGS | {"base": str(make_tiny_base(top / "base")), "epsilon": 2.0}
        # One whole run, to have what later lives need not compute: the plan, the price of a
        # release.
        run = verbs.adapt(
            self.images,
            anyway=True,
            yes_public=True,
            output=top / "first" / "run",
            ledger=top / "first" / "ledger.sqlite",
            **settings,
        )
        base = adapted_base(run)
        known = LedgerFacts(head="ab" * 32, entries=1, attempts=1, replays=0)
        certificate = build_privacy_json(
            CertificateFacts(
                plan=run.plan.to_json(), ledger=known, run_key_id="0", code_version="0"
            )
        )
        prepared = rebuild(run.plan, run.options, None, run.start)
        self.settings = settings
        adapt, resume, synthesize = (
            sys.modules[f"sfumato.verbs.{page}"] for page in ("adapt", "resume", "synthesize")
        )
        resume.rebuild = lambda *_, **__: prepared
        adapt.fit_to_machine = lambda prepared, **_: prepared
        synthesize.adapted_base = lambda *_: base
        # Pricing takes seconds, writes nothing, and is another test's matter.

        def claimed(facts: CertificateFacts, settings=None) -> dict:
            own = {"run_key_id": facts.run_key_id}
            return certificate | {"ledger": certificate["ledger"] | asdict(facts.ledger) | own}

        draft.build_privacy_json = folder.build_privacy_json = claimed
        folder.verify_privacy.check_privacy = lambda facts: []
        consistency.check_facts = lambda facts: []
        fingerprint = execute.Run.fingerprint.func(run)
        execute.Run.fingerprint = property(lambda self: fingerprint)

    def life(self, place: Path, ledger: Path, tell) -> None:
        """From wherever the run stands to a finished release."""
        if (place / "release").exists():
            return
        if not (place / "made").exists():
            if not (place / "run" / "model").exists():
                resume = (place / "run").exists()
                verbs.adapt(
                    self.images, output=place / "run", ledger=ledger, resume=resume, **self.settings
                )
                tell("trained")
            steps = sampler.Sampling(steps=1)
            verbs.synthesize(place / "run", 2, place / "made", ledger=ledger, sampling=steps)
            tell("made")
        verbs.release(place / "made", out=place / "release")
        tell("released")


def live(
    ground: Ground, place: Path, ledger: Path, point: str | None, passing: int
) -> tuple[bool, list[str], str]:
    """One life in a child: (killed, what it told, the error it ended with)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code, said = 0, ""
        try:

            def tell(word: str) -> None:
                os.write(writer, (word + "\n").encode())

            append = Chain.append

            def speaking(chain, kind, run_id, *rest):
                row = append(chain, kind, run_id, *rest)
                pending.append((kind, run_id))
                return row

            note, pending = Chain._note, []

            def noted(chain):
                note(chain)
                for kind, run_id in pending:  # committed: from now on a stranger may know
                    tell(f"row {kind} {run_id}")
                pending.clear()

            Chain.append, Chain._note = speaking, noted
            if point is not None:
                plant(point, passing, tell)
            ground.life(place, ledger, tell)
        except (SfumatoError, OSError) as problem:
            code, said = 2, str(problem)
        except BaseException as problem:
            code, said = 70, f"{type(problem).__name__} {problem}"
        finally:
            os.write(writer, f"error {said}\n".encode() if said else b"")
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told = lines.read().splitlines()
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    problem = next((line.removeprefix("error ") for line in told if line.startswith("error ")), "")
    assert killed or (os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, 2)), (
        f"died otherwise: {status} {problem}"
    )
    assert "\n" not in problem
    return killed, told, problem


NEEDS = {
    "CHARGE": "PLAN",
    "ATTEMPT": "CHARGE",
    "REPLAY": "ATTEMPT",
    "RELEASE": "ATTEMPT",
    "CERTIFY": "RELEASE",
}


def check(place: Path, ledger: Path, told: list[str]) -> list[str]:
    """What must hold after any death; the run's rows."""
    if not ledger.exists():
        assert not any(word.startswith("row ") for word in told) and not (place / "run").exists()
        return []
    book = Ledger(ledger)  # verifies the chain
    book.verify_records()
    held = {(row.kind, row.run_id) for row in book.rows}
    for word in told:
        if word.startswith("row "):
            kind, _, run_id = word.removeprefix("row ").partition(" ")
            assert (kind, run_id) in held, f"a stranger knew of {kind}, the ledger does not"
    for kind, run_id in held:
        assert kind not in NEEDS or (NEEDS[kind], run_id) in held, f"{kind} without {NEEDS[kind]}"
    for run_id in {run_id for _, run_id in held if run_id}:
        assert len(book.chain.of("CHARGE", run_id)) <= 1, "charged twice"
    if not (place / "run").exists():
        assert not (place / "made").exists() and not list(place.glob("*/train"))
        book.close()
        return []
    run = Run.open(place / "run", ledger)
    kinds = [row.kind for row in run.ledger.rows]
    if (place / "run" / "cache").exists() or (place / "run" / "metrics.jsonl").exists():
        assert {"CHARGE", "ATTEMPT"} <= set(kinds), "private pictures were read before the charge"
    if list(place.glob("*made*")) or list(place.glob(".*made*")):
        assert "CHARGE" in kinds and "RELEASE" in kinds, "a release without a charge"
    if (place / "release").exists():
        assert "CERTIFY" in kinds, "a release without a certificate's row"
        failed = [name for name, passed, _ in folder.all_checks(place / "release") if not passed]
        assert not failed, f"half a release: {failed}"
    if not (place / "run" / "run.key").exists():
        assert "CERTIFY" in kinds, "the key went before the certificate"
    found = latest_checkpoint(run.folder / "checkpoints")
    known = {note.get("sha256") for note in run.ledger.bodies("NOTE")}
    assert found is None or found[0]["sha256"] in known, (
        "a checkpoint that the ledger does not know"
    )
    run.ledger.ledger.close()
    book.close()
    return kinds


def passings(point: str, place: Path, kinds: list[str]) -> int:
    """How often a run that stands here still passes the point; 0: no more."""
    done = {
        "plan": "CHARGE" in kinds,
        "charge": "CHARGE" in kinds,
        "attempt": "ATTEMPT" in kinds,
        "encode": (place / "run" / "cache" / "done").exists(),
    }
    if done.get(point.partition(".")[0], False):
        return 0
    if point.startswith(("step", "ckpt")):
        found = latest_checkpoint(place / "run" / "checkpoints")
        return STEPS - (found[0]["step"] if found else 0)
    late = point in ("release.half-copied", "certificate.half-written", "certificate.renamed")
    return POINTS[point][-1] if late or not (place / "made").exists() else 0


def storm(top: Path, each: int, seed: int, runs_in_a_ledger: int = 12) -> dict:
    """Kill `each` times at every point; then every run goes on to its release, or says why not."""
    rng, ground = random.Random(seed), Ground(top / "ground")
    names = list(POINTS)
    todo = Counter({name: each for name in names})
    landed, missed, ends, failures, run, lives = Counter(), Counter(), Counter(), [], 0, 0
    charges = releases = 0
    started = time.monotonic()
    while +todo and len(failures) < 5 and missed.total() < 50 + each:
        place = top / f"run-{run}"
        ledger = top / f"book-{run // runs_in_a_ledger}" / "ledger.sqlite"
        place.mkdir()
        wanted = sorted(rng.sample(sorted(+todo), min(4, len(+todo))), key=names.index)
        kinds: list[str] = []
        for point in [*wanted, None]:
            left = 1 if point is None else passings(point, place, kinds)
            if not left:
                continue
            passing = rng.randint(1, left)
            try:
                killed, told, problem = live(ground, place, ledger, point, passing)
                lives += 1
                kinds = check(place, ledger, told)
                if killed:
                    assert f"at {point}" in told, f"killed, but not at {point}"
                    landed[point] += 1
                    todo[point] -= 1
                elif point is not None and not problem:
                    missed[point] += 1  # an earlier death had left less to pass
                if problem and "never charged" in problem:
                    # It died between PLAN and CHARGE: nothing was spent, and the next life takes a
                    # new folder.
                    shutil.rmtree(place / "run")
                    ends["never charged: begun anew"] += 1
                    if point is None:
                        killed, told, problem = live(ground, place, ledger, None, 1)
                        lives += 1
                        kinds = check(place, ledger, told)
                if point is None:
                    assert (place / "release").exists() or problem, (
                        "ended without a release and without a word"
                    )
                    ends["released" if (place / "release").exists() else problem] += 1
            except Exception as found:
                failures.append(
                    f"run {run}, {point} at passing {passing}: {type(found).__name__}: {found}"
                )
                break
        charges += kinds.count("CHARGE")
        releases += (place / "release").exists()
        shutil.rmtree(place)
        run += 1
    return {
        "what": "kills at named points",
        "kills": landed.total(),
        "least_in_a_state": min(landed[name] for name in names),
        "states": len(names),
        "landed": dict(landed),
        "missed": dict(missed),
        "lives": lives,
        "runs": run,
        "charges": charges,
        "releases": releases,
        "releases_without_a_charge": sum("without a charge" in f for f in failures),
        "broken_chains": sum("damaged" in f for f in failures),
        "ends": dict(ends),
        "failures": failures,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("top", type=Path, help="an empty folder")
    parser.add_argument("--each", type=int, default=20, help="kills at every point")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of points")
    given = parser.parse_args()
    for name in set(POINTS) - set(given.only or POINTS):
        del POINTS[name]
    torch.set_num_threads(1)
    given.top.mkdir(parents=True, exist_ok=True)
    # where ledgers are noted: not in the home of whoever runs this
    os.environ["XDG_STATE_HOME"] = str(given.top / "state")
    os.environ["SFUMATO_ACCOUNT_HOME"] = str(given.top / "no-account")
    found = storm(given.top, given.each, given.seed)
    print(json.dumps(found))
    return 0 if not found["failures"] and found["least_in_a_state"] >= given.each else 1


if __name__ == "__main__":
    sys.exit(main())
