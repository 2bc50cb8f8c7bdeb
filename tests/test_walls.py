"""The walls between the rooms stand, and each falls when it is broken on purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from . import walls

ROOT = Path(__file__).resolve().parents[1]
STANDING = (
    walls.floors,
    walls.torchvision,
    walls.light_start,
    walls.loose_files,
    walls.unnamed_rooms,
    walls.family_parts,
    walls.devices,
    walls.many_parameters,
    walls.method_kinds,
)
# (wall, file, what is added to it at its end): a file that is not there is made.
BREAKS = [
    (walls.torchvision, "evaluation/features.py", "from torchvision.transforms import v2"),
    (walls.torchvision, "records/decode.py", "def f():\n    import torchvision.io"),
    (walls.light_start, "cli/plan.py", "import numpy as np"),
    (walls.light_start, "cli/plan.py", "from ..planning import prepare"),
    (walls.one_platform_only, "runs/lock.py", "import fcntl"),
    (walls.one_platform_only, "runs/lock.py", "def f():\n    from pwd import getpwuid"),
    (walls.one_platform_only, "verbs/demo.py", "def f():\n    return os.getuid()"),
    (walls.one_platform_only, "records/worker.py", "signal.setitimer(signal.ITIMER_PROF, 1)"),
    (walls.loose_files, "helpers.py", "x = 1"),
    (walls.unnamed_rooms, "attic/__init__.py", "x = 1"),
    (walls.family_parts, "methods/full.py", "def f(base):\n    return base.unet.config"),
    (walls.family_parts, "runs/budget.py", "def f(base):\n    return len(base.tokenizer)"),
    *(
        (walls.family_parts, "runs/budget.py", line)
        for line in (
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
            "def f():\n    global unet",
        )
    ),
    (walls.devices, "training/loop.py", "from torch import autocast"),
    (walls.devices, "gradients/step.py", "def f(x):\n    with torch.autocast(x.device.type): ..."),
    (walls.devices, "bases/pixels.py", 'def f(x):\n    return x.to("cuda:1")'),
    (walls.devices, "audit/noise.py", "def f(x):\n    return x.device.type == 'cpu'"),
    (walls.devices, "runs/execute.py", "torch.set_num_threads(3)"),
    (walls.devices, "training/data.py", "def f(x):\n    return x.cuda()"),
    (walls.devices, "compute/memory.py", "def f(x):\n    return x.is_cuda"),
    (walls.devices, "training/prefetch.py", "def f(x):\n    return x.pin_memory()"),
    (
        walls.many_parameters,
        "verbs/release.py",
        "def f(a, b, c, d, e, f, g, /, h, i, j, *, k, l, m): ...",
    ),
    (walls.method_kinds, "verbs/release.py", 'def f(x):\n    return x == "lora"'),
    (walls.method_kinds, "verbs/release.py", 'def f(x):\n    return x in ("lora", "saliency")'),
    (walls.method_kinds, "verbs/release.py", "def f(plan, x):\n    return plan.method != x"),
    (
        walls.method_kinds,
        "verbs/release.py",
        "def f(plan):\n    match plan.method:\n        case _: ...",
    ),
    (walls.method_kinds, "verbs/release.py", "def f(plan):\n    return plan.probe is not None"),
    (walls.method_kinds, "verbs/release.py", "def f(run):\n    if run.plan.aggregation: ..."),
    (walls.method_kinds, "verbs/release.py", "def f(run):\n    return not run.plan.probe"),
    (walls.method_kinds, "verbs/release.py", "def f(p):\n    return p.adaptation.inversion"),
    (walls.method_kinds, "verbs/release.py", "from ..methods import TOKEN_METHODS"),
    (walls.method_kinds, "releases/cards.py", 'def f(x):\n    return "inversion" == x'),
    (walls.method_kinds, "privacy/checks.py", 'def f(plan):\n    return plan.method == "full"'),
]
# One break for each contract of pyproject.toml; none touches another contract.
FLOORS = {
    "Imports point downwards": ("compute/clocks.py", "from ..bases import open"),
    "privacy/ imports nothing": ("privacy/events.py", "from ..errors import SfumatoError"),
    "The pillars of privacy/": ("privacy/rounding.py", "from sfumato.privacy import events"),
    "gradients/ imports nothing": ("gradients/cost.py", "from ..compute import device"),
    "Only bases/ knows diffusers": ("synthesis/dataset.py", "def f():\n    import diffusers"),
    "From the loop on": ("training/data.py", "from ..records import decode"),
    "web/ opens no private file": ("web/app.py", "def f():\n    from ..records import decode"),
}
# Allowed where it stands, though it looks like a break.
LEAVES = [
    (walls.devices, "compute/device.py", 'def f(x):\n    return x.to("cuda")'),
    (walls.devices, "training/loop.py", '# autocast on "cuda"\n"""autocast on the "cpu"."""'),
    (walls.devices, "runs/looks.py", 'WORDS = {"cpu_seconds": 1, "cuda.md": 2}'),
    (walls.one_platform_only, "runs/lock.py", 'USER = getattr(os, "getuid", int)()'),
    (
        walls.family_parts,
        "runs/budget.py",
        'def f():\n    """The unet."""\n    # its vae\n    return "unets vaecation"',
    ),
    (walls.family_parts, "bases/pixels.py", "def f(base):\n    return base.vae"),
    (walls.method_kinds, "methods/lora.py", 'def f(x):\n    return x == "lora"'),
    (walls.method_kinds, "privacy/checks.py", "def f(plan):\n    return plan.probe is None"),
    (walls.method_kinds, "releases/figures.py", "def f(plan):\n    return plan.probe is None"),
    (walls.method_kinds, "verbs/release.py", "def f(plan):\n    return METHODS[plan.method]"),
    (walls.many_parameters, "verbs/release.py", "def f(a, b, c, d, e, f, g, h, i, j, k, *l): ..."),
]


@pytest.mark.parametrize("wall", STANDING, ids=lambda wall: wall.__name__)
def test_a_wall_stands(wall):
    assert wall(ROOT) == []


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The package's sources once more, without its data."""
    root = tmp_path_factory.mktemp("house")
    ignored = shutil.ignore_patterns("__pycache__", "data", "templates")
    shutil.copytree(ROOT / "sfumato", root / "sfumato", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def added(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text("utf-8") if path.exists() else ""
    path.write_text(f"{before}\n\n{text}\n", "utf-8")


@pytest.fixture
def planted(tmp_path):
    """planted(wall, file, text): what the wall finds in that file (these walls look at one file at
    a time) as it stands in the package, and with the text at its end.
    """

    def ask(wall, name, text):
        own = tmp_path / "sfumato" / name
        own.parent.mkdir(parents=True)
        if (ROOT / "sfumato" / name).exists():
            shutil.copy(ROOT / "sfumato" / name, own)
        before = wall(tmp_path)
        added(own, text)
        return before, wall(tmp_path)

    return ask


@pytest.mark.parametrize("wall, name, text", BREAKS)
def test_a_wall_falls_when_it_is_broken(planted, wall, name, text):
    before, found = planted(wall, name, text)
    assert len(found) > len(before) and any(name in line for line in set(found) - set(before))


@pytest.mark.parametrize("wall, name, text", LEAVES)
def test_a_wall_stands_where_something_is_allowed(planted, wall, name, text):
    before, found = planted(wall, name, text)
    assert found == before


@pytest.fixture
def plant(copied):
    """plant(file, text) adds text to the end of a file of the copy, until the test ends."""
    before = {}

    def put(name, text):
        path = copied / "sfumato" / name
        before.setdefault(path, path.read_text("utf-8"))
        added(path, text)

    yield put
    for path, text in before.items():
        path.write_text(text, "utf-8")


@pytest.mark.parametrize("words", FLOORS)
def test_each_floor_falls_alone(copied, plant, words):
    plant(*FLOORS[words])
    (broken,) = walls.floors(copied)
    assert broken.startswith(words)
