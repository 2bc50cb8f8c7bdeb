"""Other platforms, played on this one (platforms.py): every module loads, and a run goes its whole
way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import walls

ROOT = Path(__file__).resolve().parents[1]
# The files that may know what only one platform has; each has an answer for the others.
PLATFORM_FILES = {
    "sfumato/compute/memory.py",
    "sfumato/privacy/files.py",
    "sfumato/privacy/ledger/disks.py",
    "sfumato/records/bounded.py",
    "sfumato/records/unpacked.py",
    "sfumato/records/limits.py",
    "sfumato/training/disk.py",
}
WHOLE = """
from pathlib import Path
from sfumato import verbs
from tests import platforms

top, how = Path(sys.argv[1]), dict(epsilon=8.0, delta=1e-3, method="lora", steps=2)
how |= dict(base=sys.argv[2], ledger=top / "ledger.sqlite")
planned = verbs.plan(sys.argv[3], **how).plan  # loads the foreign libraries, as for this platform
platforms.as_windows()
from sfumato import verbs
from sfumato.privacy import files
from sfumato.records import limits

assert files.fcntl is files.pwd is limits.resource is None and not limits.kept_inside()
assert verbs.plan(sys.argv[3], **how).plan.to_json() == planned.to_json()
run = verbs.adapt(sys.argv[3], output=top / "run", yes_public=True, **how)
folder = verbs.release(verbs.synthesize(run, 4, top / "release"))
print(verbs.verify(folder, how["ledger"]).ok)
"""


def python(code: str, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "import sys; " + code, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_every_module_loads_on_windows():
    done = python("from tests import platforms; print(len(platforms.as_windows()))")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.slow
def test_a_run_goes_its_whole_way_on_windows(tmp_path, tiny_base, tiny_images):
    done = python(WHOLE, tmp_path, tiny_base, tiny_images)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def test_a_system_without_locks_charges_nothing(tmp_path, tiny_images):
    code = (
        "from tests import platforms; platforms.without_locks(); from sfumato.cli import main;"
        "sys.exit(main(['ledger', 'cap', sys.argv[1], '5', '--ledger', sys.argv[2]]))"
    )
    done = python(code, tiny_images, tmp_path / "ledger.sqlite")
    assert done.returncode == 14 and "no file locks" in done.stderr
    assert "run sfumato on Linux, macOS or Windows" in done.stderr
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_machine_without_temporary_files_is_told_the_cure(tmp_path, tiny_images):
    code = (
        "\nimport tempfile\n"
        "def nowhere(): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile.gettempdir = nowhere\n"
        "from sfumato.cli import main\n"
        "sys.exit(main(['plan', sys.argv[1], '--epsilon', '8', '--delta', '1e-3']))"
    )
    done = python(code, tiny_images)
    assert done.returncode == 14, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "sfumato: no writable folder for temporary files: set TMPDIR to one"
    )


def test_what_one_platform_alone_has_is_asked_for_in_few_places():
    found = walls.one_platform_only(ROOT)
    assert {line.partition(":")[0] for line in found} <= PLATFORM_FILES, found
