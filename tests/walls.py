"""The walls between the rooms, each as a function over a folder that holds `sfumato/` (and, for the
floors, `pyproject.toml`): what breaks it, as `file:line what`, nothing where it stands.

`tests/test_walls.py` asks them about this package, and about copies with one break planted in each.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

FAMILY_PARTS = (
    "transformer", "unet", "vae", "vqvae", "text_encoder", "tokenizer", "alphas_cumprod",
)  # fmt: skip
DEVICES = {"cpu", "cuda", "mps"}
NAMING = {f'"{name}"' for name in DEVICES} | {
    "cpu", "cuda", "mps", "is_cpu", "is_cuda", "is_mps", "pin_memory", "non_blocking",
}  # fmt: skip
ARGUED = {
    # what the processor can do, whatever the device
    "compute/fingerprint.py": {"cpu", '"cpu"'},
    "compute/precision.py": {"cpu", "cuda", "is_cuda"},
    # the engine imports torch alone; its bounds on rounding ask how kernels add up
    "gradients/grams.py": {"is_cpu"},
    "gradients/rules.py": {"is_cpu", "is_cuda"},
    "gradients/randomness.py": {"cuda", '"cuda"'},  # generators of the device
    "gradients/sums.py": {"is_cpu"},
    "gradients/step.py": {"cpu"},
    # privacy/ imports torch alone: where noise is made decides how
    "privacy/random/noise.py": {"is_cpu"},
    "privacy/random/on_device.py": {"is_cpu", "is_cuda"},
}
METHODS = {"full", "attention", "lora", "loda", "embedding", "saliency", "inversion", "evolution"}
# fields of a plan of which one kind of method alone has each
KINDS = {"aggregation", "probe", "moments"}
FLAGS = {"errors", "options", "methods", "planning.task"}
TOP = {"__init__.py", "__main__.py", "errors.py"}
PARAMETERS = 12
ONE_PLATFORM = set(
    "fcntl msvcrt pwd grp resource winreg termios os.getuid os.geteuid os.getgid os.fork"
    " os.register_at_fork os.posix_fallocate os.statvfs os.sysconf os.mkfifo os.killpg os.setsid"
    " os.O_DIRECTORY os.O_NOFOLLOW os.O_NONBLOCK os.O_BINARY os.getloadavg os.sched_getaffinity"
    " signal.SIGKILL signal.SIGHUP signal.SIGPROF signal.SIGALRM signal.setitimer"
    " signal.ITIMER_PROF ctypes.windll errno.EDQUOT".split()
)


def floors(root: Path) -> list[str]:
    """Contracts of pyproject.toml (tool.importlinter) that are broken, by name."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    if bool(broken) != bool(done.returncode):
        raise RuntimeError(done.stdout + done.stderr)
    return broken


def torchvision(root: Path) -> list[str]:
    """It does not import beside many builds of torch, so nothing may need it."""
    return [
        f"{place(root, path, node)} imports torchvision"
        for path, tree in sources(root)
        for node in ast.walk(tree)
        if "torchvision" in imported(node)
    ]


def light_start(root: Path) -> list[str]:
    """cli/ imports at the top of a file what flags are made of, and nothing else: torch and friends
    wait until a verb needs them (tests/cli/test_startup.py sees what is loaded).
    """
    light = sys.stdlib_module_names | {"typer"}
    found = []
    for path, tree in sources(root):
        if room(root, path) != "cli":
            continue
        for node in tree.body:
            above = isinstance(node, ast.ImportFrom) and node.level == 2
            if (above and node.module not in FLAGS) or imported(node) - light:
                found.append(f"{place(root, path, node)} imports more than it starts with")
    return found


def loose_files(root: Path) -> list[str]:
    """A newcomer finds the room by its name: beside the rooms stand only what starts the package
    and its errors.
    """
    return sorted({path.name for path in (root / "sfumato").glob("*.py")} ^ TOP)


def unnamed_rooms(root: Path) -> list[str]:
    """Every room says in a docstring what is in it."""
    return [
        place(root, path)
        for path, tree in sources(root)
        if path.name == "__init__.py" and not ast.get_docstring(tree)
    ]


def family_parts(root: Path) -> list[str]:
    """Only bases/ names the parts of a model family, alone or within a longer name: another family
    has other parts, so the rest of the house asks the base for its denoiser, shapes, words and
    losses.
    """
    word = re.compile(rf"(?<![a-zA-Z])({'|'.join(FAMILY_PARTS)})(?![a-zA-Z])")
    return [
        f"{place(root, path)}:{line} names {text!r}"
        for path, tree in sources(root)
        if room(root, path) != "bases"
        for line, text in _words(tree)
        if word.search(text)
    ]


def _words(tree: ast.Module) -> list[tuple[int, str]]:
    """(line, word) for all that a file's code says, docstrings and comments left out: names of
    variables, attributes, arguments, functions, classes and modules, and the text of strings.
    """
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


def devices(root: Path) -> list[str]:
    """Only compute/device.py names a device or asks which it is, and only compute/ switches mixed
    precision or sets how many threads there are: a tensor is made where its model is.
    """
    found = []
    for path, tree in sources(root):
        here = path.relative_to(root / "sfumato").as_posix()
        if here == "compute/device.py":
            continue
        named = NAMING | (set() if here.startswith("compute/") else {"autocast", "set_num_threads"})
        for node in ast.walk(tree):
            names = {getattr(node, "id", None), getattr(node, "attr", None)} | imports(node)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                device = node.value.partition(":")[0]
                names |= {f'"{device}"'} & {f'"{name}"' for name in DEVICES}
            for name in (names & named) - ARGUED.get(here, set()):
                found.append(f"{place(root, path, node)} names {name}")
    return found


def many_parameters(root: Path) -> list[str]:
    """No function has more than 12 parameters, not counting `self`, nor those that a decorator
    makes of an option class.
    """
    found = []
    for path, tree in sources(root):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                count = len([a for a in given if a.arg not in ("self", "cls")])
                if count > PARAMETERS:
                    found.append(f"{place(root, path, node)} {node.name} has {count} parameters")
    return found


def method_kinds(root: Path) -> list[str]:
    """Outside methods/ nobody asks which method a run has, or of which kind: it has an interface.

    privacy/ and releases/ may ask for a plan's mechanisms, which are facts that they price and
    state; not for a method's name.
    """
    found = []
    for path, tree in sources(root):
        where = room(root, path)
        if where == "methods":
            continue
        asked = _questions(tree, mechanisms=where not in ("privacy", "releases"))
        found += [f"{place(root, path, node)} asks for {what}" for node, what in asked]
    return found


def _questions(tree: ast.Module, mechanisms: bool) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(s, ast.Attribute) and s.attr == "method" for s in sides):
                yield node, "the method"
            elif any(_strings(side) & METHODS for side in sides):
                yield node, "a method's name"
        if isinstance(node, ast.Match) and getattr(node.subject, "attr", "") == "method":
            yield node, "the method"
        if "TOKEN_METHODS" in ({getattr(node, "id", None)} | imports(node)):
            yield node, "TOKEN_METHODS"
        if isinstance(node, ast.Attribute) and node.attr == "inversion":
            if getattr(node.value, "attr", getattr(node.value, "id", "")) == "adaptation":
                yield node, "adaptation.inversion"
        if mechanisms:
            for asked in _tested(node):
                if isinstance(asked, ast.Attribute) and asked.attr in KINDS:
                    yield asked, f"{asked.attr} or none"


def _tested(node: ast.AST) -> list[ast.expr]:
    """What the node asks the truth of, or compares with None."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "bool":
        return node.args
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        none = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
        return sides if none else []
    return []


def _strings(node: ast.expr) -> set[str]:
    """A string, or the strings of a tuple, list or set."""
    nodes = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def one_platform_only(root: Path) -> list[str]:
    """Modules and names that POSIX or Windows alone has, said plainly: `getattr(os, name, ...)` and
    `hasattr` know that there are others.
    """
    found = []
    for path, tree in sources(root):
        for node in ast.walk(tree):
            names = imported(node) & ONE_PLATFORM
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names |= {f"{node.value.id}.{node.attr}"} & ONE_PLATFORM
            found += [f"{place(root, path, node)} needs {name}" for name in sorted(names)]
    return found


def sources(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the package with its syntax: comments are not in it."""
    for path in sorted((root / "sfumato").rglob("*.py")):
        if "data" not in path.relative_to(root).parts:
            yield path, _parsed(path.read_text("utf-8"))


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def room(root: Path, path: Path) -> str:
    """The first folder below the package, "" for a file at its top."""
    parts = path.relative_to(root / "sfumato").parts
    return parts[0] if len(parts) > 1 else ""


def place(root: Path, path: Path, node: ast.AST | None = None) -> str:
    """`sfumato/room/file.py:line`."""
    where = path.relative_to(root).as_posix()
    return f"{where}:{node.lineno}" if node is not None else where


def imported(node: ast.AST) -> set[str]:
    """Packages that an absolute import names."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return {(node.module or "").split(".")[0]}
    return set()


def imports(node: ast.AST) -> set[str]:
    """Names that a `from` import brings in."""
    return {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
