"""The walls between the rooms (pyproject.toml, tool.importlinter) stand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_walls():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_file_imports_torchvision():
    """It does not import beside many builds of torch, so nothing may need it."""
    for path in sorted((ROOT / "sfumato").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torchvision" for name in names), path.name


def test_the_command_line_starts_without_heavy_modules():
    """Modules that cli/ imports at the top of a file; torch and friends wait until a verb needs
    them.
    """
    light = sys.stdlib_module_names | {"typer"}
    for path in sorted((ROOT / "sfumato" / "cli").glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                assert all(a.name.split(".")[0] in light for a in node.names), path.name
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in light, path.name
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                # what loads no torch either, as the next test sees
                assert node.module in ("errors", "options", "methods", "planning.task"), path.name


def test_declaring_options_and_methods_loads_no_torch():
    program = "import sys, sfumato.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_package_has_no_loose_files():
    """A newcomer finds the room by its name: beside the rooms stand only what starts the package
    and its errors.
    """
    top = {path.name for path in (ROOT / "sfumato").glob("*.py")}
    assert top == {"__init__.py", "__main__.py", "errors.py"}


def test_every_room_says_what_is_in_it():
    for path in sorted((ROOT / "sfumato").rglob("__init__.py")):
        if "data" not in path.parts:
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


PARTS = ("unet", "vae", "text_encoder", "tokenizer", "alphas_cumprod")


def words_of(source: str) -> list[tuple[int, str]]:
    """(line, word) for all that a file's code says, docstrings and comments left out: names of
    variables, attributes, arguments, functions, classes and modules, and the text of strings.
    """
    tree = ast.parse(source)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    found, line = [], 1
    for node in ast.walk(tree):
        line = getattr(node, "lineno", line)
        for _, value in ast.iter_fields(node):
            values = value if isinstance(value, list) else [value]
            if id(node) not in docs:
                found += [(line, text) for text in values if isinstance(text, str)]
    return found


def names_of_parts(source: str) -> list[tuple[int, str]]:
    """Where a file's code names a part of a model family, alone or within a longer name."""
    word = re.compile(rf"(?<![a-zA-Z])({'|'.join(PARTS)})(?![a-zA-Z])")
    return [(line, text) for line, text in words_of(source) if word.search(text)]


def test_only_bases_names_the_parts_of_a_model_family():
    """Another family has other parts: the rest of the house asks the base for its denoiser, shapes,
    words and losses.
    """
    for path in sorted((ROOT / "sfumato").rglob("*.py")):
        if path.parts[len(ROOT.parts) + 1] != "bases":
            found = names_of_parts(path.read_text("utf-8"))
            assert not found, f"{path.relative_to(ROOT)}:{found[0][0]} names {found[0][1]!r}"


@pytest.mark.parametrize(
    "line",
    [
        "base.unet",
        "unet = 1",
        'model = {"unet": base}',
        'name = f"unet.{target}"',
        "def f(vae): pass",
        "f(text_encoder=1)",
        "from x import tokenizer",
        "def old_unet(): pass",
        "lambda tokenizer: 1",
        'pattern = r"model/(unet|vae)/"',
        "scheduler.alphas_cumprod[0]",
        "getattr(base, 'text_encoder')",
        "for unet in x: pass",
        "class vae: pass",
        "global unet",
    ],
)
def test_the_wall_of_parts_sees_every_way_to_name_one(line):
    assert names_of_parts(line)


def test_the_wall_of_parts_leaves_prose_alone():
    assert not names_of_parts('"""The unet."""\n# its vae\nx = "unets vaecation"')
