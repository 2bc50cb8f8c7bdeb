"""`--device`: every verb that computes takes it, from the command line, Python and a config."""

from __future__ import annotations

import json

import pytest
import torch

import sfumato
from sfumato.cli import main
from sfumato.compute.device import device, device_name
from sfumato.errors import MachineError, SfumatoError
from sfumato.verbs.machine import computes

VERBS = {
    "plan": ["IMAGES", "--epsilon", "2", "--base", "BASE"],
    "adapt": ["IMAGES", "--epsilon", "2", "--base", "BASE", "--yes-public", "-o", "NEW"],
    "synthesize": ["RUN", "-n", "4", "-o", "NEW"],
    "export": ["RUN", "-o", "NEW"],
    "select": ["RUN", "RUN", "--data", "IMAGES", "--epsilon", "1"],
    "audit": ["--quick"],
    "demo": ["-o", "NEW"],
}


@pytest.fixture(autouse=True)
def ground(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(tiny_images, tiny_base, tmp_path):
    places = {"IMAGES": tiny_images, "BASE": tiny_base, "NEW": tmp_path / "new"}
    places |= {"RUN": tmp_path / "run", "RELEASE": tmp_path / "release"}
    for name in ("RUN", "RELEASE"):
        places[name].mkdir()
    return lambda words: [str(places.get(word, word)) for word in words]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("word", "code"), [("cuda", 14), ("cuda:7", 14), ("gpu", 2)])
def test_a_device_that_is_not_there_is_one_line_and_nothing_is_made(
    verb, word, code, said, capsys, tmp_path
):
    before = sorted(tmp_path.rglob("*"))
    assert main([verb, *said(VERBS[verb]), "--device", word]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "--device" in line]
    assert len(lines) == 1 and f"--device {word}: " in lines[0]
    assert "--device cpu" in lines[0] or "choose auto, cpu, cuda or cuda:N" in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_evaluation_asks_for_its_device_first(tmp_path):
    for judge in (sfumato.evaluate, sfumato.audit_pictures):
        with pytest.raises(MachineError, match="--device cuda: "):
            judge(tmp_path / "run", tmp_path / "release", device="cuda")


def test_a_verb_that_computes_nothing_has_no_device(said, capsys):
    assert main(["inspect", *said(["IMAGES"]), "--device", "cpu"]) == 2
    assert "this verb computes nothing: leave it out" in capsys.readouterr().err


def test_a_plan_shows_its_device(tiny_images, tiny_base, capsys):
    words = [str(tiny_images), "--epsilon", "2", "--base", str(tiny_base), "--steps", "2", "--json"]
    assert main(["plan", *words]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cpu"


def test_a_config_names_the_device(tiny_images, tiny_base, tmp_path, capsys):
    config = sfumato.Config.of(tmp_path / "sfumato.toml", machine=sfumato.Machine(device="cuda:3"))
    config.write()
    words = [str(tiny_images), "--epsilon", "2", "--base", str(tiny_base)]
    assert main(["plan", *words]) == 14
    assert "--device cuda:3: " in (error := capsys.readouterr().err)
    assert "comes from sfumato.toml" in error


def test_in_python_it_is_a_keyword_or_an_object(tiny_images, tiny_base):
    asked = {"epsilon": 2.0, "base": tiny_base}
    for more in ({"device": "cuda"}, {"machine": sfumato.Machine(device="cuda")}):
        with pytest.raises(MachineError, match="--device cuda: "):
            sfumato.plan(tiny_images, **asked, **more)
    with pytest.raises(SfumatoError, match="given twice"):
        sfumato.plan(tiny_images, **asked, device="cpu", machine=sfumato.Machine())
    with pytest.raises(SfumatoError, match="must be a text"):
        sfumato.plan(tiny_images, **asked, device=0)


def test_a_verb_computes_where_it_was_told_to_and_only_it(monkeypatch):
    monkeypatch.setattr(
        "sfumato.compute.device.settle", lambda asked: (asked, torch.device("meta"))
    )

    @computes
    def verb(more):
        return device(), device_name(), more

    assert verb(3, device="there") == (torch.device("meta"), "there", 3)
    assert verb(3) == (torch.device("meta"), "auto", 3)
    assert device() == torch.device("cpu")
