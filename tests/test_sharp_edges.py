"""docs/sharp-edges.md is whole: every planted bug has a row, every row a grade, and every test that
it names exists.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GRADES = {"Critical", "Theoretical", "Negligible"}


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "sharp-edges.md").read_text("utf-8").splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| ")
    ]
    return [row for row in cells if row[0] != "id"]


def test_every_row_is_graded_and_says_what_is_done():
    for row in rows():
        assert len(row) == 5 and row[2] in GRADES and row[1] and row[3], row
        # What has no test is either somebody's to decide, or not claimed.
        assert row[4] != "-" or "**yours**" in row[3] or row[2] == "Theoretical", row


def test_every_planted_bug_is_named_once():
    named = [name for row in rows() for name in re.findall(r"\bX\d+\b", row[0])]
    patches = {
        re.match(r"X\d+", path.name)[0] for path in (ROOT / "tests" / "mutants").glob("X*.patch")
    }
    without = set(
        re.findall(
            r"^\| (X\d+) \|", (ROOT / "tests" / "mutants" / "README.md").read_text("utf-8"), re.M
        )
    )
    assert len(named) == len(set(named)) and set(named) == patches | without


def test_the_tests_exist():
    seen = 0
    for row in rows():
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[4]):
            tree = ast.parse((ROOT / path).read_text("utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
                f"{path}::{name}"
            )
            seen += 1
    assert seen >= 50
