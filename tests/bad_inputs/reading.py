"""What is observed of an input, in the words and exit codes that a user sees.

`read`: it counts like any other. `zero: RULE`: its slot stays in n and weighs nothing. `refuse
CODE: WORDS`: one line, before any charge. Others say in a word what was observed.
"""

from __future__ import annotations

import re
import resource
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.records import describe, load_records

from .making import folder_of, fresh


def outcome(action) -> str:
    """`refuse CODE: WORDS` where the action is refused, else what it returns."""
    try:
        return action()
    except SfumatoError as error:
        assert "\n" not in str(error)
        return f"refuse {error.exit_code}: {error}"


def each(*acts):
    """Rows that stand for several inputs: all must end alike."""

    def act(kit) -> str:
        found = set()
        for number, one in enumerate(acts):
            part = kit.tmp / str(number)
            part.mkdir()
            found.add(one(SimpleNamespace(**vars(kit) | {"tmp": part})))
        return " | ".join(sorted(found))

    return act


def picture(data: bytes):
    def act(kit) -> str:
        records = load_records(folder_of(kit.tmp / "d", **{"x.png": data}), max_bad=0.5)
        assert records.n == 9, "the slot stays in n"
        good = records.load([4], 16)[1].all()
        assert good == records.usable[4] and records.usable.sum() == 8 + good
        return "read" if good else f"zero: {', '.join(records.facts.bad)}"

    return act


def loads(make, **options):
    """`make(folder)` writes the source and may return its path; what load_records says of it."""

    def act(kit) -> str:
        made = make(kit.tmp / "d") or kit.tmp / "d"

        def load() -> str:
            records = load_records(made, **{"max_bad": 0.5, **options})
            lost = records.n - int(records.usable.sum())
            return f"read {records.n}" + (
                f", zero {lost}: {', '.join(records.facts.bad)}" if lost else ""
            )

        return outcome(load)

    return act


def table(text: str, encoding: str = "utf-8", **options):
    return loads(
        lambda root: (folder_of(root) / "metadata.csv").write_bytes(text.encode(encoding)) and root,
        **options,
    )


def named(*names: str):
    """Good pictures under odd names: all are read, each once, and no name is shown as it is."""

    def act(kit) -> str:
        records = load_records(folder_of(kit.tmp / "d", **{name: fresh() for name in names}))
        assert records.usable.all() and len(set(records.fingerprints)) == records.n
        assert not any(name in repr(records) + "".join(describe(records).lines()) for name in names)
        return f"read {records.n}"

    return act


def archive(suffix: str, fill):
    def make(root: Path) -> Path:
        root.mkdir(parents=True)
        place = root / f"x{suffix}"
        fill(place)
        return place

    return loads(make, unlabelled=True, max_bad=1)


def zipped(*names: str):
    def fill(place: Path) -> None:
        with zipfile.ZipFile(place, "w") as file:
            for name in names:
                file.writestr(name, b"x")

    return archive(".zip", fill)


def tarred(kind: bytes, name: str, target: str = ""):
    def fill(place: Path) -> None:
        with tarfile.open(place, "w") as file:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)

    return archive(".tar", fill)


def arrays(doubled: bool = False, **fields):
    def make(root: Path) -> Path:
        root.mkdir()
        np.savez(root / "x.npz", **fields)
        if doubled:
            with warnings.catch_warnings(), zipfile.ZipFile(root / "x.npz", "a") as file:
                warnings.simplefilter("ignore")
                file.writestr("images.npy", b"x")
        return root / "x.npz"

    return loads(make, max_bad=1)


def cli(*words, code_only: bool = False):
    """The command line's own exit code and line; `{tmp}`, `{base}`, `{images}` are filled in."""

    def act(kit) -> str:
        code = main(
            [str(word).format(tmp=kit.tmp, base=kit.base, images=kit.images) for word in words]
        )
        err = kit.said.readouterr().err
        lines = [
            line
            for line in err.strip().splitlines()
            if not line.endswith(" ...") and line[:6] != "note: "
        ]
        if code == 0:
            return "runs"
        assert len(lines) == 1 and "Traceback" not in err
        return f"refuse {code}: {lines[0].removeprefix('sfumato: ')}"

    return act


def ends(found: str, what: str, expected: str) -> None:
    """Checks what was found of an input; of several inputs, of each."""
    if " | " in found:
        assert all(re.match(expected, part) for part in found.split(" | ")), found
    end = "" if expected.startswith("refuse") else "$"
    assert re.match(expected + end, found.split(" | ")[0]), f"{what}: {found}"


def stay_small() -> None:
    """The process has not grown over what a small machine has."""
    if sys.platform == "linux":  # elsewhere ru_maxrss is in other units
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20, "more than 2 GB"
