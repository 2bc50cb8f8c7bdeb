"""Commands that train nothing start without the libraries that training needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sfumato.cli import shell
from sfumato.releases import write_release

from ..releases.conftest import facts, make_images

FOREIGN = ("diffusers", "transformers", "peft", "datasets", "accelerate", "sklearn")
MODELS = ("torch", *FOREIGN)
PRICES = ("dp_accounting", "scipy")
# A command, and what it must not load: prices are made again by `verify`, and stated by `ledger`.
COMMANDS = {
    "--help": (*MODELS, *PRICES, "numpy"),
    "--version": (*MODELS, *PRICES, "numpy"),
    "adapt --help": (*MODELS, *PRICES, "numpy"),
    "methods": (*MODELS, *PRICES),
    "bases": FOREIGN,
    "inspect {images}": (*MODELS, *PRICES),
    "ledger cap {images} 5": MODELS,
    "ledger show {images}": MODELS,
    "verify {release}": MODELS,
    "push {release} --to me/pictures --dry-run": (*MODELS, "huggingface_hub", "c2pa"),
    "adapt {images} --epsilon 0 --base icons": MODELS,
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    top = tmp_path_factory.mktemp("made")
    return write_release(make_images(top / "source"), top / "release", **facts())


def run(command: str) -> tuple[int, str, set[str]]:
    """Exit code, standard output and loaded modules of a command in a process of its own."""
    code = (
        "import sys; from sfumato.cli import main; code = main(sys.argv[1:]);"
        "sys.stderr.write('\\n' + ' '.join(n for n in sys.modules if '.' not in n)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, set(done.stderr.rpartition("\n")[2].split())


def test_a_command_loads_what_it_needs(tiny_images, release, ledger_of_the_test):
    """In one test, for a ledger is shown after it was made."""
    for command, absent in COMMANDS.items():
        command = command.format(images=tiny_images, release=release)
        code, out, loaded = run(command)
        assert "sfumato" in loaded and code == (2 if "--epsilon" in command else 0), (command, out)
        assert not loaded & set(absent), (command, loaded & set(absent))


def test_the_check_sees_what_is_loaded(tiny_images, monkeypatch):
    """Without this the test above could look at nothing."""
    code, _, loaded = run(f"plan {tiny_images} --epsilon 8 --delta 1e-3 --base nowhere")
    assert code != 0 and {"torch", "dp_accounting", "scipy"} <= loaded


@pytest.mark.parametrize(
    ("said", "kept"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=str,
)
def test_idle_threads_sleep_soon_unless_the_user_says_otherwise(said, kept):
    code = (
        "import os, sys; from sfumato.cli import main; main(['--version']);"
        "assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=own | said, capture_output=True)
    assert done.stdout.split()[-1:] == [kept.encode()], done.stderr


def test_ctrl_c_while_it_starts_is_one_line(monkeypatch, capsys):
    class Pressed:
        def find_spec(self, name, path=None, target=None):
            if name == "sfumato.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "sfumato.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    assert shell.main(["methods"]) == 130
    assert capsys.readouterr().err == "sfumato: interrupted from the keyboard\n"
