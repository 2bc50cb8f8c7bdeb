"""Time, memory and machine: what every program here measures with."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

# glibc hands large freed blocks back to the kernel, which zeroes them again at the next step.
# Keeping them makes training on a CPU much faster, so all methods get the same; sfumato's own
# commands set it too.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
# Blocks of 64 kB and more go back to the kernel at once: memory in use is then what is held.
RETURN = {"MALLOC_MMAP_THRESHOLD_": "65536"}
PACKAGES = ("torch", "diffusers", "peft", "transformers", "opacus", "opake", "sfumato")


def prepare_process(threads: int, allocator: str = "keep") -> None:
    """Start this program anew unless allocator and thread settings are in force: both are read at
    start only.

    allocator: "keep" freed memory, "return" it, or the system's "default", which is what a program
    of one's own gets.
    """
    chosen = {"keep": MALLOC, "return": RETURN, "default": {}}[allocator]
    malloc = dict.fromkeys(MALLOC | RETURN, "") | chosen
    wanted = {
        **malloc,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
    if any(os.environ.get(name, "") != value for name, value in wanted.items()):
        quiet = {
            "TRANSFORMERS_VERBOSITY": "error",
            "DIFFUSERS_VERBOSITY": "error",
            "TQDM_DISABLE": "1",
        }
        environment = {n: v for n, v in {**os.environ, **wanted, **quiet}.items() if v}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    import torch

    torch.set_num_threads(threads)
    limit_memory()


def limit_memory(share: float = 0.85) -> None:
    """Let a method that needs more than `share` of the free memory fail by itself instead of ending
    the program.
    """
    import psutil

    try:
        import resource
    except ImportError:  # not on this system
        return
    bytes_ = int(psutil.virtual_memory().available * share)
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def clock(run: Callable[[], Any], device: str = "cpu") -> tuple[Any, float, float]:
    """(result, process CPU seconds, wall seconds); a GPU is waited for before and after."""
    wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wait(device)
    return result, time.process_time() - cpu, time.perf_counter() - wall


def wait(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def peak_bytes(run: Callable[[], Any], device: str = "cpu") -> tuple[Any, int]:
    """(result, the most that torch's allocator held above what it held before, while `run` ran).

    On a CPU from the profiler's allocation events, which slow `run` down: never time the same call.
    """
    import torch

    from sfumato.compute.memory import peak_bytes as peak

    gc.collect()
    results = []
    most = peak(lambda: results.append(run()), torch.device(device))
    return results[0], most


def peak_mb() -> int:
    """Most memory that this process had in use so far, MB. Not `ru_maxrss`: Linux starts that at
    the parent's.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


class Part:
    """Seconds of CPU and wall spent inside a function, summed over its calls; `take` reads and
    resets them.
    """

    def __init__(self, inner: Callable) -> None:
        self.inner, self.seconds = inner, [0.0, 0.0]

    def __call__(self, *args):
        result, *spent = clock(lambda: self.inner(*args))
        self.seconds = [a + b for a, b in zip(self.seconds, spent)]
        return result

    def take(self) -> list[float]:
        taken, self.seconds = self.seconds, [0.0, 0.0]
        return taken


class Step:
    """A full training step of one method on its own copy of the model, and the seconds it took, by
    part.
    """

    def __init__(self, case, run: Callable, forward: Part, stddev: float | None) -> None:
        """`run` -> (sums, norms); `stddev` of the noise on the sums, None for a step without
        privacy.
        """
        import torch

        self.case, self.run, self.stddev = case, run, stddev
        self.forward, self.noise, self.apply = forward, Part(self._add_noise), Part(self._apply)
        self.optimizer = torch.optim.AdamW(list(case.trainable.values()), lr=1e-4)
        self.saved = [p.detach().clone() for p in case.trainable.values()]
        self.generator = torch.Generator(self.saved[0].device).manual_seed(2)
        self.error: str | None = None
        # makes the optimiser's state
        self.apply({name: torch.zeros_like(p) for name, p in case.trainable.items()})
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.parts: list[dict[str, float]] = []

    def __call__(self) -> None:
        sums, _ = self.run()
        if self.stddev is not None:
            self.noise(sums)
        self.apply(sums)

    def _add_noise(self, sums) -> None:
        import torch

        for value in sums.values():
            noise = torch.randn(value.shape, generator=self.generator, device=value.device)
            value.add_(noise, alpha=self.stddev)

    def _apply(self, sums) -> None:
        for name, p in self.case.trainable.items():
            p.grad = (
                sums[name] if self.stddev is None else sums[name].div_(len(self.case.batch))
            ).to(p.dtype)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def timed(self, device: str, keep: bool = True) -> None:
        """One step from the first weights."""
        import torch

        with torch.no_grad():
            torch._foreach_copy_(list(self.case.trainable.values()), self.saved)
        for part in (self.forward, self.noise, self.apply):
            part.take()
        _, cpu, wall = clock(self, device)
        if not keep:
            return
        self.cpu.append(cpu)
        self.wall.append(wall)
        which = 0 if device == "cpu" else 1
        parts = {"forward": self.forward, "noise": self.noise, "optimiser": self.apply}
        spent = {name: part.take()[which] for name, part in parts.items()}
        self.parts.append(spent | {"gradients": (cpu, wall)[which] - sum(spent.values())})

    def report(self, device: str) -> dict[str, Any]:
        if self.error is not None:
            return {"error": self.error}
        seconds = self.cpu if device == "cpu" else self.wall
        best = self.parts[seconds.index(min(seconds))]
        return {
            "seconds": [round(s, 5) for s in seconds],
            "wall_seconds": [round(s, 5) for s in self.wall],
            "parts": {name: round(value, 5) for name, value in best.items()},
        }


def interleave(steps: dict[str, Step], rounds: dict[str, int], device: str) -> None:
    """`rounds` by method, round-robin with rotating order; before them an untimed step where there
    is more than one.
    """
    names = list(steps)
    turns = [[name for name in names if rounds[name] > 1]]
    for turn in range(max(rounds.values())):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        turns.append([name for name in order if turn < rounds[name]])
    for turn, order in enumerate(turns):
        for name in order:
            if steps[name].error is None:
                try:
                    steps[name].timed(device, keep=turn > 0)
                except Exception as error:  # noqa: BLE001  out of memory, most often
                    steps[name].error = first_line(error)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, threads, load, versions and commit: what a result is worth nothing without."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else "CPU",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "allocator": allocator_in_force(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := installed(name))},
        "commit": commit(),
    }


def allocator_in_force() -> str:
    if os.environ.get("MALLOC_MMAP_MAX_") == "0":
        return "glibc keeps freed memory"
    given_back = "MALLOC_MMAP_THRESHOLD_" in os.environ
    return "glibc returns freed memory" if given_back else "default"


def processor() -> str:
    """The processor's model name, if the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Short hash of the working tree's commit, with + if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        # the engine's code is what was measured; a result file that is being written changes
        # nothing
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "../sfumato"], check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip() + ("+" if changed else "")
