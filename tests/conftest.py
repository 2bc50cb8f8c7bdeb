"""What many tests share: tiny random Stable Diffusion folders and folders of tiny pictures."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
from pathlib import Path

# Before any foreign import: no hub and no chatter.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
# The account's home, where ledgers are noted too, is that of whoever runs the tests: a folder that
# is not there is asked instead.
os.environ["SFUMATO_ACCOUNT_HOME"] = "/nonexistent/home-of-the-tests"

# Nothing that a test runs depends on how quick the machine is; tests of the timing switch it on.
os.environ.setdefault("SFUMATO_MEASURE", "0")

import pytest

from sfumato.bases import loading
from sfumato.bases.tiny import CLASSES, WORDS, make_tiny_base, make_tiny_images, make_tiny_tokenizer
from sfumato.compute.allocator import keep_memory
from sfumato.methods import checks, dpsgd, pace
from sfumato.planning import timing
from sfumato.privacy import accounting
from sfumato.releases import prices

# Tests write and delete 50,000 small files, and runs wait until each is on the disk. In memory,
# where there is enough, that takes no time; PYTEST_DEBUG_TEMPROOT or --basetemp say another place.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

keep_memory()  # as the verbs do: tests that train without one take less time, too

__all__ = ["CLASSES", "WORDS", "make_tiny_base", "make_tiny_images", "make_tiny_tokenizer"]


@pytest.fixture(scope="module", autouse=True)
def coarse_prices(request):
    """Figures on a coarse grid, which is quick, but in tests of the figures: a module that says
    `FINE_PRICES`, and those of the accounting.
    """
    if getattr(request.module, "FINE_PRICES", False) or "/privacy/" in str(request.path):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
        patch.setattr(accounting, "PLANNING_GRID", 1e-2)
        fine = prices.group_grid
        patch.setattr(prices, "group_grid", lambda events, k: 20 * fine(events, k))
        yield


@pytest.fixture(scope="module", autouse=True)
def trusted_gradients(request):
    """Without the check of the gradients before each charge, a fifth of a short run, where a module
    makes many runs and asks about what follows: it says `TRUSTED_GRADIENTS`. Tests of methods,
    charges and bases keep it.
    """
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request.module, "TRUSTED_GRADIENTS", False):
            patch.setattr(checks, "self_check", lambda *_, **__: [])
            patch.setattr(checks, "check_neighbours", lambda prepared: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def models_read_once(request, models_read):
    """Models of a folder are read from it once and copied, but in tests of bases: a run opens its
    base three times, which is a fifth of a short one.
    """
    if "/bases/" in str(request.path):
        yield
        return
    read = loading._read

    def copied(component: Path, cls: type):
        files = [(path.name, path.stat()) for path in sorted(component.iterdir())]
        key = component, cls, tuple((name, s.st_mtime_ns, s.st_size) for name, s in files)
        if key not in models_read:
            if len(models_read) > 24:
                models_read.clear()
            models_read[key] = read(component, cls)
        return copy.deepcopy(models_read[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_read", copied)
        yield


@pytest.fixture(scope="session")
def models_read():
    return {}


@pytest.fixture(scope="module", autouse=True)
def short_measurements(request):
    """What a plan times is timed twice, and on a few dummy files: no test asks how exact that is,
    only what follows from it. What a microbatch holds is measured in tests of memory.
    """

    def peak(work, where):
        work()
        return 1 << 20

    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "MEASURED_MEMORY", False):
            patch.setattr(dpsgd, "_peak_of_ranks", peak)
        patch.setattr(pace, "REPEATED", 0.0)
        patch.setattr(timing, "DUMMIES", timing.FEW + 1)
        yield


@pytest.fixture(scope="module", autouse=True)
def ledger_of_the_module(tmp_path_factory):
    """No test ever writes into the home folder: runs made by a module's fixtures share one ledger
    ...
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """numbered(): a new folder. Those of pytest look at all that there are, twice for each test."""
    top, numbers = tmp_path_factory.mktemp("numbered"), itertools.count()

    def new() -> Path:
        folder = top / str(next(numbers))
        folder.mkdir()
        return folder

    return new


@pytest.fixture(autouse=True)
def ledger_of_the_test(monkeypatch, numbered):
    """... and those made by a test have one of their own; returns its path."""
    place = numbered() / "ledger.sqlite"
    monkeypatch.setenv("SFUMATO_LEDGER", str(place))
    monkeypatch.setenv("XDG_STATE_HOME", str(numbered()))
    return place


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A v-prediction StableDiffusionPipeline folder, randomly initialised, with one layer of
    attention: what a test asks of verbs, runs and releases is the same with four. Tests of bases
    and gradients take `whole_tiny_base`.
    """
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny-v", sparse=True)


@pytest.fixture(scope="session")
def whole_tiny_base(tmp_path_factory) -> Path:
    """The same with attention on all ways of the U-Net."""
    return make_tiny_base(tmp_path_factory.mktemp("whole-bases") / "tiny-v")


@pytest.fixture(scope="session")
def tiny_base_epsilon(tmp_path_factory) -> Path:
    """The same with epsilon-prediction."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny-epsilon", "epsilon")


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory) -> Path:
    """Class folders circle, cross and square with 8 pictures of 16x16 each. Read only: it serves
    the whole session.
    """
    return make_tiny_images(tmp_path_factory.mktemp("images") / "shapes")
