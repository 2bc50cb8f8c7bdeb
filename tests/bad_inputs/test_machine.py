"""Disks, users, clocks and devices that fail (BE)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sfumato import verbs
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import dpsgd
from sfumato.privacy.ledger import chain
from sfumato.records import load_records
from sfumato.runs import budget

from .reading import cli, ends, outcome
from .runs import ADAPT, adapted

ROOT = Path(__file__).resolve().parents[2]


def full_disk(kit) -> str:
    """The cache of latents does not fit: after the charge, which stays."""

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kit.patch.setattr("sfumato.training.data.reserve", full)
    told = outcome(lambda: str(adapted(kit)))
    assert [row.kind for row in budget.existing_ledger(kit.book).rows].count("CHARGE") == 1
    assert (
        verbs.plan(kit.images, base=str(kit.base), epsilon=2.0)
        .remarks[0]
        .startswith("these images have cost epsilon")
    )
    return told


def no_output(kit) -> str:
    told = cli(*(word.replace("{tmp}", "/proc/sfumato") for word in ADAPT), "--delta", "1e-2")(kit)
    assert not kit.book.exists() or "CHARGE" not in [
        row.kind for row in budget.existing_ledger(kit.book).rows
    ]
    return told


def read_only_data(kit) -> str:
    root = shutil.copytree(kit.images, kit.tmp / "d")
    for path in [*root.rglob("*"), root]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    adapted(kit, images=root)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    return "runs, and writes nothing there"


def stranger(uid: int | None):
    """The command line without a home folder, in an empty folder; as a user that nobody knows if we
    may.
    """

    def act(kit) -> str:
        here = Path(tempfile.mkdtemp()) / "here"
        shutil.copytree(kit.images, here / "d")
        here.chmod(0o777)
        here.parent.chmod(0o755)
        # Where nobody else may enter the interpreter's folders, at least nobody knows the user.
        parts = {
            *here.parents,
            *Path(sys.executable).resolve().parents,
            *Path(sys.executable).parents,
            *ROOT.parents,
            Path(sys.prefix),
        }
        user = (
            uid
            if os.geteuid() == 0 and all(part.stat().st_mode & 0o001 for part in parts)
            else None
        )
        unknown = "import pwd; pwd.getpwuid = {}.__getitem__; " if uid is not None else ""
        code = (
            f"{unknown}import sys; from sfumato.cli import main; from sfumato.runs import budget;"
            " from pathlib import Path;print(budget.default_path(Path('run')));"
            " sys.exit(main(['inspect', 'd']))"
        )
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            user=user,
        )
        assert done.returncode == 0, done.stderr
        assert "24 records, 24 usable" in done.stdout and sorted(
            p.name for p in here.iterdir()
        ) == ["d"]
        if uid is not None:
            assert done.stdout.splitlines()[0] == str(here / "ledger.sqlite"), (
                "the ledger lies beside the run"
            )
        shutil.rmtree(here.parent)
        return "runs, and leaves nothing"

    return act


def two_runs(kit) -> str:
    book = budget.open_ledger(kit.book)
    budget.set_cap(book, load_records(kit.images).fingerprints, 2.5)
    adapted(kit, "one")
    told = outcome(lambda: str(adapted(kit, "two")))
    assert not (kit.tmp / "two").exists()
    return told


def harmed_ledger(kit) -> str:
    book = budget.open_ledger(kit.book)
    prints = load_records(kit.images).fingerprints
    budget.set_cap(book, prints, 8)
    book.close()
    old = {path: path.read_bytes() for path in kit.book.parent.iterdir()}
    book = budget.open_ledger(kit.book)
    budget.set_cap(book, prints, 7)
    facts = {
        "head": book.head,
        "entries": len(book.rows),
        "run": None,
        "charges": [],
        "cap": 7,
        "data_sets": 1,
    }
    facts = {"events": [], "ledger": facts}
    (kit.tmp / "privacy.json").write_text(json.dumps(facts))
    book.close()
    new, found = kit.book.read_bytes(), set()
    at = new.index(b'"epsilon":7.0') + 10
    for data in (new[: len(new) // 2], new[:at] + bytes([new[at] ^ 1]) + new[at + 1 :]):
        kit.book.write_bytes(data)
        found.add(cli("ledger", "show")(kit)[:9])
    for path, data in old.items():
        path.write_bytes(data)
    found.add(cli("ledger", "show", "--against", "{tmp}/privacy.json")(kit)[:9])
    return " | ".join(found)


def clock_set_back(kit) -> str:
    book = budget.open_ledger(kit.book)
    prints = load_records(kit.images).fingerprints
    budget.set_cap(book, prints, 8)

    class Earlier(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime(1999, 1, 1, tzinfo=UTC)

    kit.patch.setattr(chain, "datetime", Earlier)
    budget.set_cap(book, prints, 7)
    book.close()
    rows = budget.existing_ledger(kit.book).rows
    assert rows[-1].written < rows[0].written and [row.seq for row in rows] == list(
        range(len(rows))
    )
    return f"runs, cap {budget.standing(budget.open_ledger(kit.book), prints).cap:g}"


def stopped(kit) -> str:
    def progress(now, plan) -> None:
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    told = outcome(lambda: str(adapted(kit, progress=progress)))
    assert verbs.adapt(kit.images, output=kit.tmp / "run", resume=True).model.exists()
    return told


def device_error(kit) -> str:
    import torch

    real = dpsgd.train

    def train(*words, state, **more) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    kit.patch.setattr(dpsgd, "train", train)
    told = outcome(lambda: str(adapted(kit)))
    kit.patch.setattr(dpsgd, "train", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        verbs.adapt(kit.images, output=kit.tmp / "run", resume=True)
    kit.patch.setattr(dpsgd, "train", real)
    assert verbs.adapt(kit.images, output=kit.tmp / "run", resume=True).model.exists()
    assert issubclass(Interrupted, SfumatoError)
    return told


INPUTS = (
    ("BE01", "disk full", full_disk, "refuse 14: .*No space left on device"),
    ("BE02", "read-only output", no_output, "refuse 14: cannot make the run folder"),
    ("BE03", "read-only data", read_only_data, "runs, and writes nothing there"),
    ("BE04", "no HOME", stranger(None), "runs, and leaves nothing"),
    ("BE05", "random uid, non-root", stranger(54321), "runs, and leaves nothing"),
    ("BE06", "two runs, one ledger", two_runs, "refuse 12: the cap on these images"),
    ("BE07", "ledger: a flipped bit, cut, an older copy", harmed_ledger, "refuse 13"),
    ("BE08", "clock set back", clock_set_back, "runs, cap 7"),
    ("BE09", "SIGTERM", stopped, "refuse 75: stopped at step [12] of 3; continue with --resume"),
    ("BE10", "device error in a step", device_error, "refuse 75: the device failed"),
)


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    ends(act(kit), what, expected)


def test_all_10_are_here():
    assert [row[0] for row in INPUTS][:10] == [f"BE{i:02d}" for i in range(1, 11)]
