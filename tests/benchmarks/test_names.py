"""What benchmarks and recipes import of the package and of each other is there.

Most of them run for minutes, and import inside their functions: a name that moved would show late.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "recipes").glob("*.py")])


def imports(program: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import, wherever it stands; a dot before the modules of a package."""
    for node in ast.walk(ast.parse(program.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dot, names = "." * node.level, [alias.name for alias in node.names]
            if node.module is None:  # from . import things
                yield from ((dot + name, None) for name in names)
            else:
                yield from ((dot + node.module, name) for name in names)


def names_of(program: Path) -> set[str]:
    """What the top level of a program defines or imports."""
    found = set()
    for node in ast.parse(program.read_text("utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found


def is_there(module: str, name: str | None) -> bool:
    """Whether the package has the module, and in it the name."""
    try:
        found = importlib.import_module(module)
        return name is None or hasattr(found, name) or is_there(f"{module}.{name}", None)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("sfumato"):
            return False
        raise


def missing(program: Path) -> list[tuple[str, str | None]]:
    """Imports of the package and of siblings that find nothing."""
    lost = []
    for module, name in imports(program):
        sibling = program.with_name(f"{module.removeprefix('.')}.py")
        if module.split(".")[0] == "sfumato":
            there = is_there(module, name)
        elif sibling.exists():
            there = name is None or name in names_of(sibling)
        else:
            there = not module.startswith(".")  # another library: not every machine has it
        if not there:
            lost.append((module, name))
    return lost


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_program_imports_is_there(program):
    assert missing(program) == []


def test_a_name_that_moved_is_seen_inside_a_function_too(tmp_path):
    program = tmp_path / "program.py"
    (tmp_path / "sibling.py").write_text("HERE = 1\n\n\ndef read(): ...\n")
    program.write_text(
        "from sibling import HERE, read, gone\n\n\ndef late():\n"
        "    from sfumato.verbs.evaluate import draw\n"
        "    from sfumato.verbs.row_images import draw\n"
        "    import sfumato.verbs.nowhere\n"
        "    from . import sibling, lost\n"
    )
    assert missing(program) == [
        ("sibling", "gone"),
        ("sfumato.verbs.evaluate", "draw"),
        ("sfumato.verbs.nowhere", None),
        (".lost", None),
    ]
