"""The seeded bugs themselves: each applies to the code as it is now, and every row of the trap
table is one or has a reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .run import HERE, ROOT, mutants, read, verdict

ROWS = {f"X{number:02d}" for number in range(1, 99)}


def row(mutant) -> str:
    return re.match(r"X\d+", mutant.id)[0]


def test_every_row_is_a_patch_or_says_why_not():
    there = {row(mutant) for mutant in mutants()}
    excused = set(re.findall(r"^\| (X\d\d) \|", (HERE / "README.md").read_text("utf-8"), re.M))
    assert there | excused >= ROWS and not there & excused
    assert len(there) >= 60


@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: m.id)
def test_it_applies_and_its_checks_exist(mutant):
    """A patch that no longer fits must be made anew: it watches over nothing."""
    if shutil.which("git") is None:
        pytest.skip("patches are applied with git")
    done = subprocess.run(
        ["git", "apply", "-C1", "--check", str(mutant.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert mutant.files and all(name.startswith("sfumato/") for name in mutant.files)
    for check in mutant.checks:
        if not check.startswith("audit "):
            file, _, name = check.partition("::")
            assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text("utf-8"), check


def test_a_patch_without_its_words_is_refused(tmp_path):
    path = tmp_path / "X01_some.patch"
    path.write_text("X01 some bug\nEffect: large\n\n--- a/x\n")
    with pytest.raises(ValueError, match="Killed by"):
        read(path)


@pytest.mark.parametrize(
    ("found", "killed", "words"),
    [
        ({"broken": "does not apply: x"}, False, "does not apply"),
        ({"outcomes": {"t": "passed"}, "failure": None}, False, "SURVIVED"),
        ({"outcomes": {}, "failure": None}, False, "did not run"),
        ({"outcomes": {"t": "skipped"}, "failure": None}, False, "did not run"),
        ({"kind": "AssertionError", "when": "call"}, True, "tests/t.py:3: assert x"),
        ({"kind": "Failed", "when": "call"}, True, "tests/t.py:3"),
        ({"kind": "AssertionError", "when": "setup"}, False, "no assertion"),
        ({"kind": "TypeError", "when": "call"}, False, "no assertion"),
        ({"kind": "SyntaxError", "when": "collect"}, False, "no assertion"),
    ],
)
def test_only_an_assertion_kills(found, killed, words):
    if "kind" in found:
        found = {
            "outcomes": {"t": "failed"},
            "failure": {**found, "where": "tests/t.py:3", "line": "assert x", "said": ""},
        }
    dead, why = verdict(found)
    assert dead == killed and words in why


@pytest.mark.slow
def test_one_mutant_is_killed_and_one_that_changes_nothing_survives(tmp_path):
    """The machinery itself, in a copy with two patches: a bug, and a comment."""
    for name in ("sfumato", "tests"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.patch", "data"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    folder = tmp_path / "tests" / "mutants"
    bug = (HERE / "X08_rate_10_percent.patch").read_text("utf-8")
    (folder / "X08_bug.patch").write_text(bug)
    (folder / "X09_comment.patch").write_text(
        re.sub(
            r"^\+    threshold = .*$",
            "+    threshold = int(float(sampling_rate) * 2.0**64)",
            bug,
            flags=re.M,
        )
    )
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"killed .* X08_bug", done.stdout) and re.search(
        r"ALIVE .* X09_comment: SURVIVED", done.stdout
    )
    assert "1 of 2 mutants killed" in done.stdout
    (folder / "X09_comment.patch").unlink()
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    assert (
        Path(tmp_path / "sfumato/privacy/random/sampling.py").read_text()
        == (ROOT / "sfumato/privacy/random/sampling.py").read_text()
    )
