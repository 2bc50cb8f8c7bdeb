"""`make mutants`: each seeded bug is put into a copy of the real code, and the check that its patch
names must see it.

Every check runs in a fork of this process, which has loaded the heavy libraries already but never
`sfumato`: the child imports the patched copy. Named checks must also pass on the code as it is.
Exit code 1 if a mutant survives, does not apply, or is seen by anything but an assertion of its
check.

    python tests/mutants/run.py [X01 X15 ...] [-j JOBS] [--check NODE] [--keep]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT = 120  # seconds for one check; a mutant that hangs is no kill
# an assertion, or an exception that was expected and did not come
KILLS = ("AssertionError", "Failed")


@dataclass(frozen=True)
class Mutant:
    """One patch of this folder; its header says what it is and which check sees it."""

    path: Path
    title: str
    effect: str
    checks: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.path.name.partition("_")[0]

    @property
    def files(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(\S+)", self.path.read_text("utf-8"), re.M)


def read(path: Path) -> Mutant:
    """The header of a patch; ValueError if a line is missing."""
    head = path.read_text("utf-8").partition("\n--- a/")[0]
    title = head.splitlines()[0].partition(" ")[2]
    effect = re.findall(r"^Effect: (.+)$", head, re.M)
    checks = re.findall(r"^Killed by: (\S.*)$", head, re.M)
    if not (title and effect and checks):
        raise ValueError(f"{path.name}: the header needs a title, 'Effect:' and 'Killed by:'")
    return Mutant(path, title, effect[0], tuple(checks))


def mutants() -> list[Mutant]:
    return [read(path) for path in sorted(HERE.glob("X*.patch"))]


def copy_tree(to: Path) -> None:
    """The package and its tests; what no patch touches is linked."""
    ignore = shutil.ignore_patterns("__pycache__", "data", "*.patch")
    shutil.copytree(ROOT / "sfumato", to / "sfumato", ignore=ignore)
    os.symlink(ROOT / "sfumato" / "data", to / "sfumato" / "data")
    shutil.copytree(ROOT / "tests", to / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)


def apply(mutant: Mutant, to: Path) -> str:
    """Patch the copy; what went wrong, or nothing."""
    before = {name: (to / name).read_bytes() for name in mutant.files}
    # A copy below a repository would be taken for a part of it, and git would skip the patch in
    # silence.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(to.parent)}
    done = subprocess.run(
        ["git", "apply", "-C1", str(mutant.path)],
        cwd=to,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return "does not apply: " + done.stderr.strip().partition("\n")[0]
    same = [name for name, blob in before.items() if (to / name).read_bytes() == blob]
    return f"changed nothing in {same[0]}" if same or not before else ""


def preload() -> None:
    """What tests import and no patch touches."""
    # Before any foreign import, as in tests/conftest.py; one thread, so that a fork finds no pool
    # of them.
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }.items():
        os.environ.setdefault(name, value)
    libraries = (
        "absl.logging",
        "cryptography.hazmat.primitives.ciphers",
        "diffusers",
        "dp_accounting.pld",
        "dp_accounting.rdp",
        "hypothesis.strategies",
        "jinja2",
        "peft",
        "PIL.Image",
        "pyarrow.parquet",
        "pytest",
        "safetensors.torch",
        "scipy.optimize",
        "scipy.stats",
        "torch",
        "torch._dynamo",
        "torch.distributed",
        "transformers",
    )
    loaded = {name: importlib.import_module(name) for name in libraries}
    pipelines = (
        "AutoencoderKL",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "StableDiffusionPipeline",
    )
    for name in (*pipelines, "UNet2DConditionModel", "DiTTransformer2DModel"):
        getattr(loaded["diffusers"], name)
    for name in ("CLIPTextConfig", "CLIPTextModel", "CLIPTokenizer"):
        getattr(loaded["transformers"], name)
    loaded["torch"].set_num_threads(1)
    if "sfumato" in sys.modules:
        raise RuntimeError("a library imported sfumato: the copies would not be")


class Watch:
    """A pytest plugin: outcome of each test, and where the first failure was raised."""

    def __init__(self, root: Path):
        self.root, self.outcomes, self.failure = root, {}, None

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_exception_interact(self, call, report) -> None:
        if self.failure is not None:
            return
        frames = [
            f
            for f in traceback.extract_tb(call.excinfo.tb)
            if Path(f.filename).is_relative_to(self.root)
        ]
        last = frames[-1] if frames else None
        self.failure = {
            "kind": call.excinfo.type.__name__,
            "where": last and f"{Path(last.filename).relative_to(self.root)}:{last.lineno}",
            "line": last and last.line,
            "said": str(call.excinfo.value).strip().partition("\n")[0][:160],
            "when": getattr(report, "when", "collect"),
        }


def child(mutant: Mutant | None, checks: list[str], folder: Path) -> dict:
    """In the fork: copy, patch, import, check."""
    root = folder / "copy"
    copy_tree(root)
    if mutant is not None and (wrong := apply(mutant, root)):
        return {"broken": wrong}
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)
    sys.path.insert(0, str(root))
    try:
        import sfumato

        if not Path(sfumato.__file__).is_relative_to(root):
            return {"broken": "the copy was not the one that was imported"}
        for name in mutant.files if mutant is not None else ():
            importlib.import_module(name.removesuffix(".py").replace("/", "."))
    except Exception as error:  # whatever it is, this mutant is no code that runs
        return {"broken": f"does not import: {type(error).__name__}: {error}"}
    if checks[0].startswith("audit "):
        return audit(checks)
    import pytest

    watch = Watch(root)
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'base'}", "--tb=short"]
    code = pytest.main(
        [*checks, *options, *(["-x"] if mutant is not None else [])], plugins=[watch]
    )
    return {"code": int(code), "outcomes": watch.outcomes, "failure": watch.failure}


def audit(checks: list[str]) -> dict:
    """Checks of the audit ("audit M1"), in the words of `Watch`: a finding that did not pass is an
    assertion, a crash is none.
    """
    from sfumato.auditing import Settings, run_checks

    outcomes, failure = {}, None
    for check in checks:
        for found in run_checks([check.removeprefix("audit ")], Settings(quick=True), stop=True):
            outcomes[check] = "passed" if found.passed else "failed"
            if not found.passed and failure is None:
                crash = found.detail.startswith("stopped with")
                where = f"{check}, {found.subject}"
                failure = {
                    "kind": "crash" if crash else "AssertionError",
                    "where": where,
                    "line": found.detail[:160],
                }
                failure |= {"said": found.detail[:160], "when": "call"}
    return {"code": int(failure is not None), "outcomes": outcomes, "failure": failure}


def fork(mutant: Mutant | None, checks: list[str], keep: bool) -> tuple[int, Path]:
    folder = Path(tempfile.mkdtemp(prefix="mutant-")).resolve()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, folder
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setpgrp()
    try:
        found = child(mutant, checks, folder)
    except BaseException as error:  # the parent reads the reason; nothing may return from this fork
        found = {"broken": f"{type(error).__name__}: {error}"}
    (folder / "found.json").write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


def run_all(jobs: list[tuple[Mutant | None, list[str]]], at_once: int, keep: bool):
    """Yield (mutant, checks, found, seconds, processor seconds) as the forks end, at most `at_once`
    of them at a time.
    """
    waiting, running, awake, last = list(jobs), {}, 0.0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < at_once:
            mutant, checks = waiting.pop(0)
            pid, folder = fork(mutant, checks, keep)
            running[pid] = (mutant, checks, folder, awake)
        now = time.monotonic()
        # a machine that slept, or was paused, is no hang
        awake, last = awake + min(now - last, 1.0), now
        pid, _, used = os.wait4(-1, os.WNOHANG)
        late = [
            p
            for p, (_, checks, _, began) in running.items()
            if awake - began > LIMIT * (1 + len(checks))
        ]
        if not pid and not late:
            time.sleep(0.02)
            continue
        for number in late:
            os.killpg(number, signal.SIGKILL)
            *_, used = os.wait4(number, 0)
        for number in late or [pid]:
            mutant, checks, folder, began = running.pop(number)
            report = folder / "found.json"
            found = (
                json.loads(report.read_text())
                if report.exists()
                else {"broken": "died or did not end in time"}
            )
            found["folder"] = str(folder)
            yield mutant, checks, found, awake - began, used.ru_utime + used.ru_stime
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def verdict(found: dict) -> tuple[bool, str]:
    """Whether the mutant was killed by an assertion, and by which."""
    if "broken" in found:
        return False, found["broken"]
    failure = found["failure"]
    if failure is None:
        return False, (
            "SURVIVED" if "passed" in found["outcomes"].values() else "the check did not run"
        )
    if failure["kind"] not in KILLS or failure["when"] != "call":
        return False, f"no assertion: {failure['kind']} at {failure['where']}: {failure['said']}"
    return True, f"{failure['where']}: {failure['line']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ids", nargs="*", help="mutants, such as X01; all of them by default")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--check", help="another check than the named ones, to try it")
    parser.add_argument(
        "--keep", action="store_true", help="leave the copies where they are and say where"
    )
    said = parser.parse_args()
    began = time.monotonic()
    chosen = [
        m for m in mutants() if not said.ids or any(m.id == i or m.path.stem == i for i in said.ids)
    ]
    if not chosen:
        print("no such mutant")
        return 2
    preload()
    gc.collect()
    gc.freeze()
    print(f"libraries loaded in {time.monotonic() - began:.1f} s", flush=True)
    named = {m: [said.check] if said.check else list(m.checks) for m in chosen}
    jobs: list[tuple[Mutant | None, list[str]]] = [
        (m, [check]) for m in chosen for check in named[m]
    ]
    files: dict[str, list[str]] = {}
    for _, (check,) in jobs:
        file = "audit" if check.startswith("audit ") else check.partition("::")[0]
        files.setdefault(file, []).append(check)
    jobs += [(None, list(dict.fromkeys(checks))) for checks in files.values()]
    clean, rows = True, []
    spent = 0.0
    for mutant, checks, found, seconds, used in run_all(jobs, said.jobs, said.keep):
        spent += used
        if mutant is None:
            passed = found.get("code") == 0 and set(found["outcomes"].values()) == {"passed"}
            if not passed:
                clean = False
                print(
                    f"NOT CLEAN  {' '.join(checks)}:"
                    f" {found.get('failure') or found.get('broken') or found}",
                    flush=True,
                )
            continue
        killed, why = verdict(found)
        rows.append((mutant.path.stem, mutant, checks[0], killed, why, used))
        at = f" [{found['folder']}]" if said.keep else ""
        print(
            f"{'killed' if killed else 'ALIVE '} {seconds:5.1f} s ({used:4.1f} s of a core) "
            f" {mutant.path.stem}: {why}{at}",
            flush=True,
        )
    table(sorted(rows, key=lambda row: row[0]))
    alive = {row[0] for row in rows if not row[3]}
    dead = {row[0] for row in rows} - alive
    print(
        f"{len(dead)} of {len(chosen)} mutants killed, of {len({name[:3] for name in dead})} rows"
        f" of the trap table, by {len(rows)} checks; checks clean without a bug:"
        f" {'yes' if clean else 'NO'}; {time.monotonic() - began:.0f} s ({spent:.0f} s of a core in"
        " the checks)"
    )
    return 0 if clean and not alive else 1


def table(rows: list[tuple]) -> None:
    """Mutant, effect, check, seconds of a core (what else runs on the machine does not change
    them).
    """
    width = max(len(row[0]) for row in rows)
    print(f"\n{'mutant':{width}}  {'seconds':>7}  check that kills it, and the effect of the bug")
    for name, mutant, check, killed, _, seconds in rows:
        print(f"{name:{width}}  {seconds:7.1f}  {'' if killed else 'NOT killed by '}{check}")
        print(f"{'':{width}}  {'':7}  {mutant.title}: {mutant.effect}")


if __name__ == "__main__":
    sys.exit(main())
