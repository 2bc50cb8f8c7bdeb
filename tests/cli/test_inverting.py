"""Token options on the command line: what they become, and what they do not go with."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.methods import Inversion, Lora
from sfumato.planning.task import task_of


def test_options_become_arguments():
    _, _, task = task_of(
        method="inversion",
        base="icons",
        clip_norm=0.3,
        placeholder="<ink>",
        initializer="filled",
        num_vectors=2,
        aggregate="clip",
        shrink=False,
    )
    assert task.method == Inversion(num_vectors=2, shrink=False, radius=0.3)
    assert (task.prompting.placeholder, task.prompting.initializer) == ("<ink>", "filled")
    assert task.privacy.clip_norm is None  # it is the radius
    _, _, task = task_of(method=Lora(rank=2), base="icons", clip_norm=0.3)
    assert task.method == Lora(rank=2) and task.privacy.clip_norm == 0.3


@pytest.mark.parametrize(
    "method, given",
    [
        ("embedding", {"dimensions": 3}),
        ("attention", {"shrink": True}),
    ],
)
def test_options_of_other_methods_are_refused(method, given):
    with pytest.raises(SfumatoError, match="does not go with --method"):
        task_of(method=method, base="icons", **given)


@pytest.fixture
def artwork(tiny_images, tmp_path):
    """A plain folder of pictures."""
    (tmp_path / "artwork").mkdir()
    for path in sorted(tiny_images.rglob("*.png")):
        shutil.copy(path, tmp_path / "artwork" / f"{path.parent.name}-{path.name}")
    return tmp_path / "artwork"


def test_the_whole_way_on_the_command_line(tiny_base, artwork, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SFUMATO_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.chdir(tmp_path)
    said = [
        "--epsilon",
        "1",
        "--method",
        "inversion",
        "--base",
        str(tiny_base),
        "--prompt",
        "a {class} picture",
    ]
    said += ["--inversion-steps", "2", "--inversion-draws", "1", "--dimensions", "4"]
    assert main(["plan", "artwork", *said]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "expected cosine" in out and "exact integer noise" in out
    assert main(["plan", "artwork", *said, "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["forecast"]["cosine"] <= 1
    assert (
        main(
            [
                "adapt",
                "artwork",
                *said,
                "--anyway",
                "--yes-public",
                "--micro-batch-size",
                "8",
                "-o",
                "run",
                "--shard",
                "0/2",
            ]
        )
        == 0
    )
    assert "shard 0/2 is done" in capsys.readouterr().out
    assert main(["adapt", "artwork", "-o", "run", "--resume", "--num-vectors", "2"]) == 2
    assert "--num-vectors does not go with --resume" in capsys.readouterr().err
    assert main(["adapt", "artwork", "-o", "run", "--resume"]) == 0
    assert (tmp_path / "run" / "model" / "learned_embeds.safetensors").is_file()


def test_the_readmes_commands_run(tiny_base, artwork, tmp_path, monkeypatch, capfd):
    """Word for word, but for fewer steps."""
    monkeypatch.setenv("SFUMATO_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.chdir(artwork.parent)
    shutil.copytree(tiny_base, "base")
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (block,) = [
        b
        for b in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if "./artwork" in b
    ]
    commands = [
        shlex.split(part, comments=True)
        for line in block.splitlines()
        for part in line.partition("#")[0].split(";")
    ]
    assert [words[1] for words in commands] == ["plan", "adapt", "export", "release", "verify"]
    for words in commands:
        short = (
            ["--inversion-steps", "2", "--inversion-draws", "1", "--anyway", "--yes-public"]
            if words[1] in ("plan", "adapt")
            else []
        )
        assert main([*words[1:], *short]) == 0, capfd.readouterr().err
    assert (artwork.parent / "token" / "learned_embeds.safetensors").is_file()


def test_the_controls_of_the_docs_on_the_command_line(
    tiny_base, artwork, tmp_path, monkeypatch, capfd
):
    """The block of docs/methods.md word for word, on a tiny base and with fewer steps and
    pictures.
    """
    monkeypatch.setenv("SFUMATO_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.chdir(artwork.parent)
    shutil.copytree(artwork, "held-out")
    for place in Path("held-out").rglob("*.png"):  # other images than those of the run
        Image.open(place).rotate(90).save(place)
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text("utf-8")
    (block,) = [
        b
        for b in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if "--beside" in b
    ]
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [words[1] for words in commands] == ["adapt", "adapt", "synthesize", "evaluate"]
    fewer = {
        "inversion": [
            "--inversion-steps",
            "2",
            "--inversion-draws",
            "1",
            "--anyway",
            "--yes-public",
        ],
        "embedding": ["--steps", "1", "--expected-batch-size", "8", "--anyway", "--yes-public"],
    }
    for words in commands:
        words = [
            str(tiny_base) if word == "icons" else "12" if word == "300" else word for word in words
        ]
        short = next((more for method, more in fewer.items() if method in words), [])
        assert (
            main([*words[1:], *short, *(["--steps", "1"] if words[1] == "synthesize" else [])]) == 0
        ), capfd.readouterr()
    out = " ".join(capfd.readouterr().out.split())
    for part in (
        "one image's token",
        "embedding at epsilon 1",
        "cosine to the exact mean",
        "PRIVATE: no epsilon covers",
    ):
        assert part in out
    assert (artwork.parent / "run-style" / "controls" / "non-private" / "PRIVATE").is_file()
    words = ["synthesize", "run-style", "-n", "2", "--steps", "1", "--no-controls", "-o", "plain"]
    assert main(words) == 0 and main(["release", "plain"]) == 0
    page = (artwork.parent / "plain" / "report.html").read_text()
    assert "the public anchor alone" in page and page.count("data:image/png") == 2
