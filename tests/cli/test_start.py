"""`sfumato start`: what it asks, of whom, and what it writes."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

import sfumato
from sfumato.bases import bundled_bases
from sfumato.cli import main
from sfumato.options import Privacy, Project, Reading, Schedule
from sfumato.planning.config import Config

from .test_asking import Typed
from .test_config import table_of

TWENTY = Schedule(time=1200.0)  # the default
NEW = {"run": "run", "release": "release", "model": "model"}


@pytest.fixture
def scans(tmp_path, monkeypatch, tiny_images) -> Path:
    """A working directory with class folders in ./scans."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_images, "scans")
    return Path("scans")


@pytest.fixture
def typed(monkeypatch):
    """typed(lines): what a person at a terminal types."""

    def sit(*lines: str) -> None:
        monkeypatch.setattr(sys, "stdin", Typed("".join(line + "\n" for line in lines)))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    return sit


def test_every_question_has_a_flag(scans, capsys, ledger_of_the_test):
    words = ["--yes", "--base", "icons", "--epsilon", "2", "-n", "50", "--results", "out"]
    assert main(["start", "scans", *words, "--unit", "image", "--what", "classes"]) == 0
    out, err = capsys.readouterr()
    project = Project(
        images="scans", base="icons", run="out/run", release="out/release", model="out/model",
        number=50,
    )  # fmt: skip
    tables = {"project": project, "privacy": Privacy(epsilon=2), "schedule": TWENTY}
    assert Config.read().tables == tables
    assert err == "" and "class 'circle': 8" in out and "next: sfumato plan\n" in out
    assert (
        "a release will publish the number of units (24), the unit (record)" in out
        and "circle, cross" in out
    )
    there = sorted(p.name for p in Path().iterdir())
    assert there == ["scans", "sfumato.toml", "sheet.PRIVATE.png"]
    assert not ledger_of_the_test.exists(), "nothing is charged"


def test_classes_that_were_found_are_not_declared(scans):
    """Else class names that look like people would be public without a yes."""
    assert main(["start", "scans", "--yes", "--base", "icons"]) == 0
    reading = Config.read().tables.get("reading", Reading())
    assert reading.classes is None and reading.yes_public is False


def test_a_yes_is_kept_for_the_names_that_were_there(scans, capsys):
    """Else a class that comes later would be public though nobody has seen its name."""
    assert main(["start", "scans", "--yes", "--base", "icons", "--yes-public"]) == 0
    assert Config.read().table("reading")["yes_public"] == ("circle", "cross", "square")
    assert main(["inspect"]) == 0
    shutil.copytree("scans/circle", "scans/anna")
    assert main(["plan", "--epsilon", "4"]) == 2
    assert "are not those found, word for word" in capsys.readouterr().err
    text = Path("sfumato.toml").read_text()
    start, end = text.index("yes_public"), text.index("]", text.index("yes_public = ")) + 1
    Path("sfumato.toml").write_text(text[:start] + "yes_public = true" + text[end:])
    assert main(["inspect"]) == 2
    assert "[reading] yes_public: true would declare" in capsys.readouterr().err
    with pytest.raises(sfumato.errors.SfumatoError, match="yes_public: true"):
        Config.of(reading=Reading(yes_public=True))


@pytest.mark.parametrize(("unit", "number"), [("image", 10_000), ("patient", 1000)])
def test_how_many_are_drawn_follows_the_units_and_not_their_pictures(
    scans, monkeypatch, unit, number
):
    """It is published, and how many pictures a person has is private."""
    monkeypatch.setattr("sfumato.verbs.questions.MANY", 20)
    names = sorted(str(p.relative_to(scans)) for p in scans.rglob("*.png"))
    rows = [f"{name},{name.split('/')[0]},p{i // 3}" for i, name in enumerate(names)]
    (scans / "metadata.csv").write_text("\n".join(["file_name,label,patient", *rows]))
    assert main(["start", "scans", "--yes", "--base", "icons", "--unit", unit]) == 0
    assert len(names) == 24 and Config.read().table("project")["number"] == number


def test_a_person_may_take_every_default_but_the_base(scans, typed, capsys):
    typed("", "", "", "no such base", "icons", "", "", "")
    assert main(["start", "scans"]) == 0
    out, err = capsys.readouterr()
    project = Project(images="scans", base="icons", number=1000, **NEW)
    tables = {"project": project, "privacy": Privacy(epsilon=4.0), "schedule": TWENTY}
    assert Config.read().tables == tables
    for part in ("What are the pictures?", "what [classes]: ", "unit [image]: ", "epsilon [4]: "):
        assert part in err
    assert "this one has no default" in err and "no base at no such base" in err
    for name in bundled_bases():
        assert f"\n{name}  " in err, "the table of `sfumato bases`"
    assert "24 records" in out


def test_answers_are_words_or_places_and_asked_again_when_they_are_none(scans, typed, capsys):
    typed("both", "2", "person", "1", "icons", "much", "-1", "8", "0", "20", "scans/circle/000.png")
    assert main(["start", "scans"]) == 2
    out, err = capsys.readouterr()
    for part in (
        "--what both: choose classes, style",
        "--unit person: choose image",
        "--epsilon much: write a number",
        "--epsilon -1: must be above 0",
        "--number 0: must be at least 1",
        "is a file: name a folder",
    ):
        assert part in err
    assert "the answers ended before the last question: nothing is written" in err
    assert not Path("sfumato.toml").exists()


def test_a_style_is_a_token_of_one_class(scans, capsys):
    assert main(["start", "scans", "--yes", "--what", "style", "--base", "icons"]) == 0
    found = Config.read()
    assert (
        found.table("project")["method"] == "inversion" and found.table("project")["number"] == 100
    )
    assert found.table("reading") == {"unlabelled": True}
    out = capsys.readouterr().out
    assert "no class names" in out and "sfumato export, sfumato release model" in out


def test_a_flat_folder_is_a_style_and_no_classes(scans, capsys):
    Path("flat").mkdir()
    for number, path in enumerate(sorted(scans.rglob("*.png"))):
        shutil.copy(path, f"flat/{number}.png")
    words = ["start", "flat", "--yes", "--base", "icons"]
    assert main([*words, "--what", "classes"]) == 2
    assert "the folder is flat and has no classes" in capsys.readouterr().err
    assert main(words) == 0
    assert Config.read().table("project")["method"] == "inversion"


def test_the_columns_of_a_table_are_offered(scans, typed, capsys):
    table_of(scans, Path("tabled"))
    typed("classes", "kind", "", "icons", "1", "5min", "")
    assert main(["start", "tabled"]) == 0
    out, err = capsys.readouterr()
    assert "Which column holds the class?" in err and "unit [patient_id]: " in err
    assert "the number of units (12), the unit (patient_id), the class names circle, cross" in out
    assert Config.read().table("reading") == {"labels": "kind", "unit": "patient_id"}
    assert main(["start", "tabled", "--yes", "--base", "icons", "--force"]) == 0
    assert Config.read().table("reading") == {"labels": "kind", "unit": "patient_id"}
    words = ["--labels", "kind", "--unit", "nobody"]
    assert main(["start", "tabled", "--yes", "--base", "icons", "--force", *words]) == 2
    assert "--unit nobody: choose image, patient_id" in capsys.readouterr().err


def test_a_folder_per_person_is_offered_where_there_are_some(scans, typed):
    for place, path in enumerate(sorted(scans.rglob("*.png"))):
        person = path.parent / f"p{place % 3}"
        person.mkdir(exist_ok=True)
        path.rename(person / path.name)
    typed("", "folder", "icons", "", "", "")
    assert main(["start", "scans"]) == 0
    assert Config.read().table("reading") == {"unit": "folder"}


def test_a_pipe_is_no_person(scans, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed("classes\n" * 9))
    monkeypatch.setattr(Typed, "terminal", False)
    assert main(["start", "scans", "--epsilon", "4"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "this is no terminal: answer --what, --unit, --base, --time, --results as flags" in err
    assert "sfumato start scans --yes --base icons --epsilon 4" in err
    assert not Path("sfumato.toml").exists()
    words = ["--what", "classes", "--unit", "image", "--base", "icons", "--epsilon", "4", "-n", "9"]
    assert main(["start", "scans", *words, "--results", "."]) == 2
    assert "answer --time as flags" in capsys.readouterr().err


def test_what_it_proposes_without_a_terminal_works(scans, monkeypatch, capsys):
    """A table without a usual label column, in a folder whose name has a space."""
    table_of(scans, Path("my scans"))
    monkeypatch.setattr(sys, "stdin", Typed(""))
    monkeypatch.setattr(Typed, "terminal", False)
    assert main(["start", "my scans", "--base", "icons"]) == 2
    proposed = capsys.readouterr().err.split("take the defaults: sfumato ")[1]
    assert main(shlex.split(proposed)) == 0
    assert Config.read().table("reading") == {"labels": "kind", "unit": "patient_id"}


@pytest.mark.parametrize("state", ["bad files", "few", "doubtful units"])
def test_what_plan_will_stop_at_is_said_at_the_end(scans, state, capsys):
    """Else the next command that it names is refused."""
    words = []
    if state == "bad files":
        for path in sorted(scans.rglob("*.png"))[:3]:
            path.write_bytes(b"cut")
    if state == "few":
        Path("scans/rare").mkdir()
        shutil.copy("scans/circle/000.png", "scans/rare/000.png")
    if state == "doubtful units":
        table_of(scans, Path("tabled"))
        table = Path("tabled/metadata.csv").read_text()
        Path("tabled/metadata.csv").write_text(table.replace(",P1\n", ",P-1\n", 1))
        words = ["--labels", "kind", "--classes", "circle,cross,square", "--unit", "patient_id"]
    images = "tabled" if words else "scans"
    assert main(["start", images, "--yes", "--base", "icons", *words]) == 0
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last[0].startswith("`plan` and `adapt` would stop: ")
    assert f"mend that (sfumato inspect {images} shows where), then sfumato plan" in last[1]
    assert main(["plan"]) == 10
    err = capsys.readouterr().err
    assert last[0].removeprefix("`plan` and `adapt` would stop: ") in err


def test_results_do_not_lie_among_the_images(scans, monkeypatch, capsys):
    """A run would be a class of the next one. In the folder itself, the one above is proposed."""
    words = ["--yes", "--base", "icons"]
    assert main(["start", "scans", *words, "--results", "scans/new"]) == 2
    assert "--results scans/new: would lie among the private images" in capsys.readouterr().err
    assert not Path("sfumato.toml").exists()
    table_of(scans, Path("tabled"))  # a table says itself what belongs to it
    assert main(["start", "tabled", *words, "--results", "tabled"]) == 0
    monkeypatch.chdir("scans")
    assert main(["start", ".", *words]) == 0
    assert Config.read().table("project")["run"] == "../run"


def test_a_sheet_that_is_there_stays(scans):
    Path("sheet.PRIVATE.png").write_bytes(b"mine")
    assert main(["start", "scans", "--yes", "--base", "icons"]) == 0
    assert Path("sheet.PRIVATE.png").read_bytes() == b"mine"
    assert Path("sheet-2.PRIVATE.png").stat().st_size > 100


def test_with_all_flags_nobody_is_asked(scans, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Typed(""))
    monkeypatch.setattr(Typed, "terminal", False)
    words = ["--what", "classes", "--unit", "image", "--base", "icons", "--epsilon", "4", "-n", "9"]
    assert main(["start", "scans", *words, "--time", "5min", "--results", "."]) == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "--base is required, a public model that knows your kind of picture"),
        (["--base", "nowhere"], "no base at nowhere"),
        (["--base", "icons", "--epsilon", "0"], "--epsilon 0: must be above 0"),
        (["--base", "icons", "-n", "0"], "--number 0: must be at least 1"),
        (["--base", "icons", "--what", "x"], "--what x: choose classes, style"),
        (["--base", "icons", "--unit", "x"], "--unit x: choose image"),
        (["--base", "icons", "--results", "full"], "it holds run already"),
    ],
)
def test_a_bad_answer_is_refused_and_nothing_is_written(scans, words, what, capsys):
    Path("full", "run").mkdir(parents=True)
    assert main(["start", "scans", "--yes", *words]) == 2
    err = capsys.readouterr().err
    assert what in err and len(err.splitlines()) == 1
    assert sorted(p.name for p in Path().iterdir()) == ["full", "scans"]


def test_a_folder_of_bad_images_is_no_project(scans, capsys):
    for path in scans.rglob("*.png"):
        path.write_bytes(b"cut")
    assert main(["start", "scans", "--yes", "--base", "icons"]) == 10
    assert capsys.readouterr().err.startswith("sfumato: ")
    assert sorted(p.name for p in Path().iterdir()) == ["scans"]


def test_a_config_that_is_there_is_kept(scans, capsys):
    Path("sfumato.toml").write_text("mine")
    assert main(["start", "scans", "--yes", "--base", "icons"]) == 2
    assert "sfumato.toml is there already: edit it, or replace it with --force" in (
        capsys.readouterr().err
    )
    assert Path("sfumato.toml").read_text() == "mine"
    assert main(["start", "scans", "--yes", "--base", "icons", "--force"]) == 0
    assert Config.read().table("project")["base"] == "icons"


def test_an_interruption_leaves_nothing(scans, typed, monkeypatch, capsys):
    typed("")

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdin, "readline", interrupted)
    assert main(["start", "scans"]) == 130
    assert sorted(p.name for p in Path().iterdir()) == ["scans"]


def test_a_config_elsewhere_names_the_places_from_there(scans, tiny_base, capsys):
    shutil.copytree(tiny_base, "base")
    words = ["--yes", "--base", "base", "--config", "deep/own.toml", "--test", "scans"]
    assert main(["start", "scans", *words]) == 0
    assert "sfumato plan --config deep/own.toml" in capsys.readouterr().out
    text = Path("deep/own.toml").read_text()
    assert 'images = "../scans"' in text and 'base = "../base"' in text
    found = Config.read("deep/own.toml").table("project")
    assert Path(found["images"]).samefile("scans") and Path(found["test"]).samefile("scans")


def test_start_from_python_takes_defaults(scans):
    made = sfumato.start("scans", base="icons", labels=None)
    assert made.found.n == 24 and made.config.table("privacy") == {"epsilon": 4.0}
    with pytest.raises(sfumato.SfumatoError, match="did you mean 'labels'"):
        sfumato.start("scans", base="icons", label="x", config="b.toml")


@pytest.mark.end_to_end
def test_after_start_no_verb_needs_a_word(scans, tiny_base, capsys):
    """From the questions to a verified release, with nothing named twice."""
    shutil.copytree(tiny_base, "base")
    shutil.copytree("scans", "held-out")
    words = ["--yes", "--base", "base", "-n", "30", "--test", "held-out"]
    assert main(["start", "scans", *words]) == 0
    text = Path("sfumato.toml").read_text("utf-8").replace("time = 1200.0", "steps = 2")
    text += "[sampling]\nsteps = 2\n[judging]\nsteps = 5\nseeds = 1\n"
    Path("sfumato.toml").write_text(text, "utf-8")
    for verb in ("inspect", "plan"):
        assert main([verb]) == 0, capsys.readouterr().err
    assert main(["adapt", "--anyway"]) == 10, "found class names still need a yes"
    assert "--yes-public" in capsys.readouterr().err and not Path("run").exists()
    for verb in (["adapt", "--yes-public", "--anyway"], ["synthesize"], ["release"], ["verify"]):
        assert main(verb) == 0, capsys.readouterr().err
    assert main(["export"]) == 0 and Path("model").is_dir()
    assert "from sfumato.toml" in capsys.readouterr().err
    assert len(list(Path("release", "train").rglob("*.png"))) == 30
