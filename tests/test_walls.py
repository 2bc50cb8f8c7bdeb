"""The walls between the rooms (pyproject.toml, tool.importlinter) stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

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


def test_only_bases_names_the_parts_of_a_model_family():
    """Another family has other parts: the rest of the house asks the base for its denoiser, shapes,
    words and losses.
    """
    parts = {"unet", "vae", "text_encoder", "tokenizer", "alphas_cumprod"}
    for path in sorted((ROOT / "sfumato").rglob("*.py")):
        if path.parts[len(ROOT.parts) + 1] == "bases":
            continue
        found = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr in parts
        ]
        assert not found, f"{path.relative_to(ROOT)}:{found[0].lineno} names {found[0].attr}"
