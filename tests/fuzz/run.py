"""Spoilt files of every format that sfumato reads: `python -m tests.fuzz.run --files 10000` (make
fuzz).

Each file is read in the way a user's would be. A file may be read or refused; anything else is a
crash. Prints one JSON line; the exit code is 0 where nothing crashed, took more than 10 s of
processor time or came above 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.update(SFUMATO_ACCOUNT_HOME="/nonexistent/home-of-the-tests")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error")
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sfumato.errors import SfumatoError
from tests.fuzz.targets import KINDS, Target

SHARES = {
    "png": 200,
    "jpeg": 200,
    "webp": 100,
    "bmp": 80,
    "gif": 60,
    "tiff": 150,
    "avif": 60,
    "heic": 60,
    "scan": 300,
    "csv": 90,
    "jsonl": 90,
    "parquet": 70,
    "zip": 70,
    "tar": 70,
    "arrow": 70,
    "coco": 60,
    "npz": 50,
    "idx": 30,
    "safetensors": 40,
    "base": 10,
    "plan": 20,
    "privacy": 5,
    "ledger": 15,
}
SECONDS, BYTES = 10.0, 2 * 2**30
HANG = 30  # seconds of processor time after which a file is given up


class Hang(BaseException):
    """Not an Exception: no parser may catch it."""


def _alarm(*_) -> None:
    raise Hang


def _of_decoder(name: str, field: int) -> float:
    """Processor seconds or peak bytes of the process that decodes, while it lives."""
    from sfumato.records import bounded

    if bounded._ONE.child is None:
        return 0.0
    try:
        text = Path(f"/proc/{bounded._ONE.child.pid}/{name}").read_text()
    except OSError:
        return 0.0
    if name == "stat":
        return sum(map(int, text.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return 1024.0 * next(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")
    )


def _seconds() -> float:
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + dead.ru_utime + dead.ru_stime + _of_decoder("stat", 0)


def _peak() -> float:
    own = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(
        int(line.split()[1]) for line in own if line.startswith("VmHWM")
    ) + _of_decoder("status", 0)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def read_one(target: Target, data: bytes) -> tuple[str, float, float]:
    """(what came of it, processor seconds, peak bytes of this process and its decoder)."""
    _forget_peak()
    before = _seconds()
    signal.setitimer(signal.ITIMER_PROF, HANG)
    try:
        target.read(data)
        found = "read"
    except SfumatoError as error:
        found = "refused" if "\n" not in str(error) else "crash: a message of several lines"
    except Hang:
        found = "hang"
    except Exception as error:
        place = error.__traceback__
        while place.tb_next:
            place = place.tb_next
        found = (
            f"crash: {type(error).__name__} in"
            f" {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        )
    signal.setitimer(signal.ITIMER_PROF, 0)
    return found, max(0.0, _seconds() - before), _peak()


def work(kind: str, files: int, seed: int, out) -> None:
    """All files of one kind, in this process; one line each to `out`, so that a death shows
    where.
    """
    signal.signal(signal.SIGPROF, _alarm)
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    place = Path(tempfile.mkdtemp(prefix="sfumato-fuzz-"))
    try:
        target = KINDS[kind](place)
        rng = random.Random(f"{seed} {kind}")
        for number in range(files):
            data = target.spoil(rng, rng.choice(target.seeds), target.seeds)
            out.write(json.dumps({"kind": kind, "number": number, "begun": True}) + "\n")
            out.flush()
            found, seconds, peak = read_one(target, data)
            out.write(
                json.dumps(
                    {
                        "kind": kind,
                        "number": number,
                        "found": found,
                        "seconds": seconds,
                        "bytes": peak,
                    }
                )
                + "\n"
            )
            out.flush()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def fuzz(files: int, seed: int, kinds=tuple(SHARES), say=lambda text: None) -> dict:
    """Spoil and read `files` files; the counts, the slowest and the largest."""
    counts, failures, slowest, largest = Counter(), [], {"seconds": 0.0}, {"bytes": 0.0}
    total = sum(SHARES[kind] for kind in kinds)
    per_kind = {kind: max(1, round(files * SHARES[kind] / total)) for kind in kinds}
    started = time.monotonic()
    for kind, wanted in per_kind.items():
        with tempfile.TemporaryFile("w+") as out:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    work(kind, wanted, seed, out)
                    code = 0
                finally:
                    os._exit(code)
            status = os.waitpid(pid, 0)[1]
            out.seek(0)
            lines = [json.loads(line) for line in out]
        done = [line for line in lines if "found" in line]
        if status or len(done) != wanted:
            failures.append(
                {
                    "kind": kind,
                    "number": lines[-1]["number"] if lines else None,
                    "found": f"the process died ({status})",
                }
            )
        for line in done:
            counts[kind, line["found"].split(":")[0]] += 1
            slowest = max(slowest, line, key=lambda one: one["seconds"])
            largest = max(largest, line, key=lambda one: one["bytes"])
            if line["found"].startswith(("crash", "hang")):
                say(f"{kind} {line['number']}: {line['found']}")
            if (
                line["found"] not in ("read", "refused")
                or line["seconds"] > SECONDS
                or line["bytes"] > BYTES
            ):
                failures.append(line)
        say(f"{kind}: {dict((what, n) for (k, what), n in counts.items() if k == kind)}")
    return {
        "files": sum(counts.values()),
        "seed": seed,
        "read": sum(n for (_, what), n in counts.items() if what == "read"),
        "refused": sum(n for (_, what), n in counts.items() if what == "refused"),
        "failures": failures[:20],
        "failed": len(failures),
        "slowest": {
            "kind": slowest.get("kind"),
            "number": slowest.get("number"),
            "cpu_seconds": round(slowest["seconds"], 2),
        },
        "largest": {
            "kind": largest.get("kind"),
            "number": largest.get("number"),
            "mb": round(largest["bytes"] / 2**20),
        },
        "per_kind": per_kind,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--files", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument(
        "--kinds", default=",".join(SHARES), help="comma-separated, of " + ", ".join(SHARES)
    )
    given = words.parse_args()
    result = fuzz(
        given.files,
        given.seed,
        tuple(given.kinds.split(",")),
        say=lambda text: print(text, file=sys.stderr),
    )
    print(json.dumps(result))
    sys.exit(bool(result["failed"]))
