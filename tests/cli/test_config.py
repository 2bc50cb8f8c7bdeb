"""`sfumato.toml`: what a verb takes from it, what goes before it, and what is wrong with it."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest

import sfumato
from sfumato import verbs
from sfumato.cli import main
from sfumato.cli.app import VERBS
from sfumato.cli.ledger import app as ledger_app
from sfumato.errors import SfumatoError
from sfumato.options import PLACES, Privacy, Project, Reading, Recipe, Sampling
from sfumato.planning.config import Config

HEAD = 'format = 1\nsfumato = "0.1.0"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """project(text) writes ./sfumato.toml in a new working directory; returns that directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "sfumato.toml") -> Path:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(HEAD + text, "utf-8")
        return tmp_path

    return write


@pytest.fixture
def asked(monkeypatch):
    """What reaches a verb; the verb itself does nothing."""
    found = {}
    for name in ("plan", "adapt", "inspect", "synthesize", "export"):

        def verb(*places, _name=name, **keywords):
            found[_name] = places, keywords
            raise SfumatoError(f"{_name} was reached; --labels, --rank and --steps too")

        monkeypatch.setattr(verbs, name, verb)
    return found


SAID = """
[project]
images = "scans"
base = "icons"
method = "lora"
run = "run"
release = "release"
number = 12
[reading]
unit = "patient_id"
[privacy]
epsilon = 4
anyway = true
[schedule]
steps = 9
[recipe]
warmup_steps = 0
[sampling]
steps = 7
[lora]
rank = 3
[saliency]
rank = 5
keep = "25%"
"""


def test_a_verb_takes_what_is_its_own_and_says_so(project, asked, capsys):
    project(SAID).joinpath("scans").mkdir()
    assert main(["adapt"]) == 2
    places, said = asked["adapt"]
    assert places == (Path("scans"),) and said["output"] == Path("run")
    plain = ("unit", "epsilon", "anyway", "steps", "rank", "base", "method", "warmup_steps")
    assert {n: said[n] for n in plain} == {
        "unit": "patient_id", "epsilon": 4, "anyway": True, "steps": 9, "rank": 3, "base": "icons",
        "method": "lora", "warmup_steps": 0,
    }  # fmt: skip
    assert "keep" not in said and "number" not in said
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("from sfumato.toml: images scans, run run, ")
    for part in ("epsilon 4", "base icons", "unit patient_id", "rank 3", "anyway"):
        assert part in lines[0]
    Path("run").mkdir()
    assert main(["synthesize"]) == 2
    places, said = asked["synthesize"]
    assert places == (Path("run"), 12, Path("release")) and said["sampling"] == Sampling(steps=7)


def test_a_flag_goes_first_and_is_not_said_to_be_the_files(project, asked, capsys):
    project(SAID).joinpath("scans").mkdir()
    Path("other").mkdir()
    words = ["--epsilon", "1", "--steps", "2", "--method", "saliency", "--no-anyway", "--rank", "6"]
    assert main(["plan", "other", *words]) == 2
    places, said = asked["plan"]
    assert places == (Path("other"),)
    assert (said["epsilon"], said["steps"], said["method"], said["rank"]) == (1, 2, "saliency", 6)
    assert said["keep"] == 0.25, "of the method that was named, and of no other"
    assert "anyway" not in said
    line = capsys.readouterr().err.splitlines()[0]
    assert line == ("from sfumato.toml: unit patient_id, base icons, warmup steps 0, keep 0.25")


def test_no_config_reads_none_and_config_reads_another(project, asked, capsys):
    project(SAID)
    assert main(["plan", "--no-config", "--epsilon", "1", "--base", "icons"]) == 2
    assert capsys.readouterr().err.startswith("sfumato: IMAGES is missing: give it, or write")
    project('[project]\nimages = "x"\nbase = "b"\n[privacy]\nepsilon = 2', "deep/own.toml")
    Path("deep", "x").mkdir()
    Path("deep", "b").mkdir()
    assert main(["plan", "--config", "deep/own.toml"]) == 2
    places, said = asked["plan"]
    assert places == (Path("deep/x"),) and said["base"] == "deep/b" and said["epsilon"] == 2
    assert "from own.toml: images deep/x" in capsys.readouterr().err
    assert main(["plan", "--config", "deep/own.toml", "--no-config"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert main(["plan", "--config", "none.toml"]) == 2
    assert "no config at none.toml" in capsys.readouterr().err


def test_without_a_config_nothing_is_said(project, asked, capsys, tmp_path):
    project("", "elsewhere/sfumato.toml")
    Path("scans").mkdir()
    assert main(["inspect", "scans"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_config_in_a_folder_above_is_not_read(project, asked, capsys, monkeypatch):
    """Whoever works in a subfolder would else charge by options that nobody sees there."""
    project(SAID)
    Path("below", "scans").mkdir(parents=True)
    monkeypatch.chdir("below")
    assert main(["plan", "scans", "--base", "icons", "--epsilon", "1"]) == 2
    places, said = asked["plan"]
    assert places == (Path("scans"),) and "unit" not in said and said["epsilon"] == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_inspect_compares_with_the_base_and_the_public_images_of_the_project(
    project, asked, capsys
):
    said = '[project]\nimages = "scans"\nbase = "icons"\npublic_data = "open"'
    project(said).joinpath("scans").mkdir()
    assert main(["inspect"]) == 2
    assert "[project] public_data, and nothing is there" in capsys.readouterr().err
    Path("open").mkdir()
    assert main(["inspect"]) == 2
    (places, said), line = asked["inspect"], capsys.readouterr().err.splitlines()[0]
    assert places == (Path("scans"),) and str(said["base"]) == "icons"
    assert said["public_data"] == Path("open")
    assert line == "from sfumato.toml: images scans, base icons, public data open"
    assert main(["inspect", "--base", "glyphs", "--public-data", "other"]) == 2
    said = asked["inspect"][1]
    assert (said["base"], said["public_data"]) == ("glyphs", Path("other"))
    assert main(["inspect", "--no-near"]) == 2, "which contradicts public images"
    assert asked["inspect"][1]["public_data"] is None


def test_a_contradiction_names_the_file(project, capsys, tiny_images):
    shutil.copytree(tiny_images, project("[reading]\nunlabelled = true") / "scans")
    assert main(["inspect", "scans", "--labels", "x"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "sfumato: --labels and --unlabelled exclude each other: give one of them (--unlabelled"
        " comes from sfumato.toml)"
    )
    assert main(["inspect", "scans", "--labels", "x", "--no-unlabelled"]) == 0
    assert "sfumato.toml" not in capsys.readouterr().err


def test_a_flag_that_says_the_same_in_another_way_goes_first(project, asked):
    project("[schedule]\ntime = 1200.0").joinpath("scans").mkdir()
    assert main(["plan", "scans", "--epsilon", "1", "--base", "icons", "--steps", "10"]) == 2
    _, said = asked["plan"]
    assert said["steps"] == 10 and said.get("time") is None


def test_a_name_that_is_part_of_another_is_not_blamed(project, asked, capsys):
    project("[recipe]\nwarmup_steps = 2\n[schedule]\nsteps = 3").joinpath("scans").mkdir()
    words = ["--epsilon", "1", "--base", "icons"]
    assert main(["plan", "scans", *words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("(--steps comes from sfumato.toml)")


@pytest.mark.parametrize(
    ("words", "text", "what"),
    [
        (["plan"], '[project]\nimages = "gone"', "'gone' as [project] images, and nothing is"),
        (["export"], '[project]\nrun = "gone"', "[project] run, and nothing is there: run"
         " `sfumato adapt` first"),
        (["release"], '[project]\nrelease = "gone"', "run `sfumato synthesize` first"),
        (["verify"], '[project]\nrelease = "gone"', "run `sfumato synthesize` first"),
        (["inspect", "."], '[project]\nimages = "gone"', None),
        (["plan", "."], '[project]\nbase = "gone"', "'gone' as [project] base"),
        (["plan", ".", "--base", "icons"], '[project]\nbase = "gone"', None),
        (["plan", "."], '[project]\nbase = "icons"', None),
        (["evaluate", ".", "."], '[project]\ntest = "gone"', "'gone' as [project] test"),
    ],
)  # fmt: skip
def test_a_place_that_moved_is_named_before_anything_begins(
    words, text, what, project, asked, capsys, ledger_of_the_test
):
    folder = project(text)
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    if what is None:
        assert "nothing is there" not in said
    else:
        assert said.startswith("sfumato: sfumato.toml names ") and what in said
    assert sorted(p.name for p in folder.iterdir()) == ["sfumato.toml"]
    assert not ledger_of_the_test.exists()


@pytest.mark.parametrize(
    "text",
    ["[privacy]\nepsilom = 1", "[privacy]\nepsilon = 'x'", "[x]", "[privacy", "[lora]\nrank = 0"],
)
@pytest.mark.parametrize("verb", ["adapt", "ledger cap", "audit", "release"])
def test_a_bad_config_stops_every_verb(verb, text, project, capsys, ledger_of_the_test):
    folder = project(text)
    assert main([*verb.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("sfumato: sfumato.toml")
    assert sorted(p.name for p in folder.iterdir()) == ["sfumato.toml"]
    assert not ledger_of_the_test.exists()


def test_a_config_of_another_format_stops_every_verb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sfumato.toml").write_text("format = 7\nsfumato = '3.0'")
    assert main(["inspect", "."]) == 2
    assert "has the format 7, written by sfumato 3.0" in capsys.readouterr().err


def test_a_split_is_of_the_project_and_made_of_no_other(project, asked, capsys, monkeypatch):
    text = '[project]\nimages = "x"\n[reading]\nunit = "patient_id"\nsplit = "split.json"'
    project(text, "deep/sfumato.toml")
    Path("deep", "x").mkdir()
    assert main(["inspect", "--config", "deep/sfumato.toml"]) == 2
    assert "names 'split.json' as [reading] split, and nothing is" in capsys.readouterr().err
    Path("deep", "split.json").touch()
    assert main(["inspect", "--config", "deep/sfumato.toml"]) == 2
    reading = {name: asked["inspect"][1][name] for name in ("unit", "split")}
    assert reading == {"unit": "patient_id", "split": "deep/split.json"}
    monkeypatch.setattr(verbs, "split", lambda images, **said: asked.update(split=said) or 1 / 0)
    assert main(["split", "--config", "deep/sfumato.toml"]) == 70
    assert asked["split"]["unit"] == "patient_id" and "split" not in asked["split"]
    found = Config.read("deep/sfumato.toml")
    assert "split" not in found.keywords(sfumato.split)
    assert found.keywords(sfumato.inspect)["split"] == "deep/split.json"


def test_a_resumed_run_keeps_its_own_options(project, asked):
    project(SAID).joinpath("scans").mkdir()
    assert main(["adapt", "--resume"]) == 2
    _, said = asked["adapt"]
    assert said["unit"] == "patient_id" and said["resume"]
    assert not {"epsilon", "steps", "method", "base", "rank", "anyway"} & set(said)


def test_a_cap_alone_is_for_the_images_of_the_config(project, capsys, tiny_images):
    shutil.copytree(tiny_images, project('[project]\nimages = "scans"') / "scans")
    assert main(["ledger", "cap", "8"]) == 0
    assert "cap 8 on 24 images" in capsys.readouterr().out
    assert main(["ledger", "cap", "scans"]) == 2
    assert "the cap is missing" in capsys.readouterr().err
    assert main(["ledger", "cap", "scans", "9", "--raise"]) == 0
    assert main(["ledger", "cap"]) == 2
    assert "the cap is missing" in capsys.readouterr().err


def test_the_ledger_reads_a_table_as_the_config_says(project, capsys, tiny_images):
    folder = project('[project]\nimages = "scans"\n[reading]\nlabels = "kind"')
    table_of(tiny_images, folder / "scans")
    assert main(["ledger", "cap", "8"]) == 0
    assert main(["ledger", "show", "scans"]) == 0
    assert "the cap is 8" in capsys.readouterr().out
    assert main(["ledger", "show", "scans", "--no-config"]) == 0, "nor does it fail without one"


def table_of(images: Path, folder: Path) -> None:
    """The pictures flat, with a table whose label column has no usual name."""
    folder.mkdir()
    rows = ["file_name,kind,patient_id"]
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        name = f"{number:03d}.png"
        shutil.copy(path, folder / name)
        rows.append(f"{name},{path.parent.name},P{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def test_every_place_is_an_argument_and_a_field():
    from sfumato.options import declared

    fields = {one.name for one in declared(Project)}
    flags = {verb.__name__: inspect.signature(verb).parameters for verb in VERBS}
    for info in ledger_app.registered_commands:
        flags[f"ledger {info.callback.__name__}"] = inspect.signature(info.callback).parameters
    for verb, places in PLACES.items():
        assert set(places.values()) <= fields
        if verb not in ("resume", "ledger"):
            assert set(places) <= set(flags[verb])
            assert {"config", "no_config"} <= set(flags[verb])


def test_keywords_for_python_are_those_of_the_verb(tmp_path):
    (tmp_path / "a.toml").write_text(HEAD + SAID)
    config = Config.read(tmp_path / "a.toml")
    assert config.keywords(sfumato.plan) == {
        "images": str(tmp_path / "scans"), "base": "icons", "method": "lora", "rank": 3,
        "unit": "patient_id", "epsilon": 4, "anyway": True, "steps": 9, "warmup_steps": 0,
    }  # fmt: skip
    assert config.keywords(sfumato.adapt) == config.keywords(sfumato.plan) | {
        "output": str(tmp_path / "run")
    }
    assert config.keywords(sfumato.synthesize) == {
        "run": str(tmp_path / "run"), "output": str(tmp_path / "release"), "n": 12, "steps": 7,
    }  # fmt: skip
    evaluating = config.keywords(sfumato.evaluate)
    assert "unit" not in evaluating, "held-out images are read as the run read its own"
    assert evaluating["release"] == str(tmp_path / "release") and "steps" not in evaluating
    assert config.keywords(sfumato.verify) == {"folder": str(tmp_path / "release")}
    assert sfumato.Config is Config


def test_a_verb_called_from_python_reads_no_file(project, tiny_images):
    project("[privacy")
    assert sfumato.inspect(tiny_images).n == 24


def test_a_plan_from_a_config_is_the_plan_of_its_flags(
    project, capsys, tiny_images, tiny_base, tmp_path
):
    said = Config.of(
        project=Project(images=str(tiny_images), base=str(tiny_base), method="lora", seed=3),
        privacy=Privacy(epsilon=4.0, delta=1e-3),
        recipe=Recipe(learning_rate=0.01),
        reading=Reading(classes=("circle", "cross", "square")),
    )
    flags = ["--base", tiny_base, "--method", "lora", "--seed", 3, "--epsilon", 4, "--delta", 1e-3]
    flags += ["--learning-rate", 0.01, "--classes", "circle,cross,square", "--no-config"]
    assert main(["plan", str(tiny_images), "--json", *map(str, flags)]) == 0
    right = json.loads(capsys.readouterr().out)
    project("")
    said.write(force=True)
    assert main(["plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"] == right["plan"] and found["public"] == right["public"]
    report = sfumato.plan(**Config.read().keywords(sfumato.plan))
    assert report.plan.to_json() == right["plan"]


def test_a_config_is_private_whole_and_never_replaced_unasked(tmp_path):
    made = Config.of(tmp_path / "new" / "a.toml", privacy=Privacy(epsilon=4))
    made.write()
    text = made.path.read_text("utf-8")
    assert text.startswith("# PRIVATE: ") and "epsilon = 4" in text
    assert made.path.stat().st_mode & 0o077 == 0
    with pytest.raises(SfumatoError, match="is there already: .*--force"):
        Config.of(made.path, privacy=Privacy(epsilon=9)).write()
    assert made.path.read_text("utf-8") == text
    assert [p.name for p in made.path.parent.iterdir()] == ["a.toml"]
    with pytest.raises(SfumatoError, match="privacy is no table of a config"):
        Config.of(privacy=Recipe())


def test_plan_sends_on_to_the_run_of_the_config(project, tiny_images, tiny_base, capsys):
    places = f"[project]\nimages = {str(tiny_images)!r}\nbase = {str(tiny_base)!r}\n"
    rest = "[privacy]\nepsilon = 4\ndelta = 1e-3\n[schedule]\nsteps = 3\n"
    project(places + 'run = "run"\n' + rest, "other.toml")
    assert main(["plan", "--config", "other.toml"]) == 0
    out = capsys.readouterr().out
    assert "next: sfumato adapt --config other.toml" in out and "-o run" not in out
    project(places + rest, "other.toml")
    assert main(["plan", "--config", "other.toml"]) == 0
    assert "with the same options" in (out := capsys.readouterr().out) and "and -o run" in out
