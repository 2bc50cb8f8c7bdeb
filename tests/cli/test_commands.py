"""The verbs on good input: help pages, listings, plans, and the one JSON line of the demo."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sfumato.cli import main, shell
from sfumato.cli.live import LiveLine, clock
from sfumato.cli.synthesize import shares_of
from sfumato.options import parse
from sfumato.options.parse import pairs, prompts, ratio_or_count, shard

VERBS = (
    "inspect",
    "split",
    "plan",
    "adapt",
    "synthesize",
    "evaluate",
    "compare",
    "studio",
    "select",
    "match",
    "release",
    "verify",
    "push",
    "export",
    "methods",
    "bases",
    "demo",
    "ledger",
    "ledger show",
    "ledger cap",
    "ledger export",
)


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in VERBS:
        assert verb.split()[0] in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(capsys, verb):
    assert main([*verb.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f" sfumato {verb}" in out.replace("Usage: sfumato", "") or verb == "ledger"


def test_methods(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines()} == {
        "attention", "lora", "saliency", "loda", "full", "inversion", "embedding", "evolution",
    }  # fmt: skip


def test_bases(capsys, monkeypatch):
    import sfumato.verbs
    from sfumato.bases import base_info

    monkeypatch.setattr(sfumato.verbs, "bases", lambda: {"glyphs": "A tiny base"})
    assert main(["bases"]) == 0
    head, row, about, folder = capsys.readouterr().out.splitlines()
    info = base_info("glyphs")
    assert head.split()[:3] == ["base", "image", "parameters"] and "licence" in head
    assert row.split()[:3] == ["glyphs", "32x32", "px"] and info.licence in row
    assert f"{info.parameters / 1e6:.1f} million" in row and f"{info.size / 1e6:.1f} MB" in row
    assert about.strip() == "A tiny base" and folder.strip() == str(info.folder)


def test_a_line_about_a_method_is_whole():
    from sfumato.verbs import methods

    assert all(line.endswith(".") for line in methods().values())


def test_a_line_about_a_base_does_not_point_below_itself():
    from sfumato.verbs import bases

    found = bases()
    assert {"glyphs", "letters", "icons", "things"} <= set(found)
    assert not [line for line in found.values() if "below" in line]


@pytest.mark.parametrize("words", ([], ["ledger"]))
def test_a_bare_command_shows_help_and_says_what_is_missing(capsys, words):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("sfumato: no verb given; see `sfumato")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["synthesise", "run"], "No such verb: 'synthesise' (did you mean synthesize?)"),
        (["ledger", "sett"], "No such verb: 'sett'"),
        (["."], "No such verb: '.' (to look at images: sfumato inspect FOLDER)"),
        (["plan", "scans", "--eps", "4"], "No such option: --eps (did you mean --epsilon?)"),
        (["plan", "scans", "--zzzz"], "No such option: --zzzz; see `sfumato plan --help`"),
    ],
)
def test_a_slip_is_told_what_was_meant(capsys, words, meant):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"sfumato: {meant}")


def test_inspect(capsys, tiny_images):
    assert main(["inspect", str(tiny_images)]) == 0
    out = capsys.readouterr().out
    assert "24 records" in out and "keep them on this machine" in out


def test_plan_as_json_and_as_table(capsys, tiny_images, tiny_base):
    words = [
        "plan",
        str(tiny_images),
        "--epsilon",
        "4",
        "--base",
        str(tiny_base),
        "--max-train-steps",
        "3",
    ]
    words += [
        "--learning_rate",
        "0.01",
        "--delta=1e-3",
        "--method",
        "lora",
        "--rank",
        "2",
        "--expected-batch-size",
        "8",
    ]
    assert main([*words, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    plan = body["plan"]
    assert (
        plan["epsilon"] <= 4
        and plan["steps"] == 3
        and plan["rank"] == 2
        and plan["learning_rate"] == 0.01
    )
    assert plan["events"][-1]["type"] == "poisson_gaussian"
    assert set(body["estimate"]) == {"seconds", "peak_bytes", "noise_norm", "signal_bound"}
    assert main(words) == 0
    page = capsys.readouterr().out
    for part in (
        "epsilon",
        "sigma",
        "sampling rate q",
        "0.333333",
        "zero-out",
        "noise norm",
        "memory here",
        "24",
        "circle",
    ):
        assert part in page


def test_the_plan_of_saliency_shows_what_the_probe_costs(capsys, tiny_images, whole_tiny_base):
    words = [
        "plan",
        str(tiny_images),
        "--epsilon",
        "4",
        "--base",
        str(whole_tiny_base),
        "--steps",
        "3",
        "--delta",
        "1e-3",
    ]
    assert (
        main([*words, "--method", "saliency", "--keep", "25%", "--expected-batch-size", "8"]) == 0
    )
    page = " ".join(capsys.readouterr().out.split())
    for part in (
        "saliency probe",
        "8 of 32 candidates",
        "sigma without it",
        "with it",
        "at most",
        "hides its scores",
    ):
        assert part in page


def test_demo_ends_with_one_json_line(capsys, tmp_path, monkeypatch):
    import sfumato.verbs.demo

    answer = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "accuracy": {"synthetic": 95.0, "public_only": 85.5, "non_private": 97.0, "real": 98.9},
        "seconds": 240.0,
        "release": str(tmp_path / "release"),
    }

    def run_demo(**options):
        assert options["base"] == "letters" and options["controls"] and options["epsilon"] == 10
        print("chatter")
        options["on_stage"]("training")
        return answer

    monkeypatch.setattr(sfumato.verbs.demo, "run_demo", run_demo)
    words = [
        "demo",
        "--base",
        "letters",
        "--epsilon",
        "10",
        "--controls",
        "-o",
        str(tmp_path / "new"),
    ]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == answer and out.count("\n") == 1
    assert "chatter" in err and "training ..." in err
    words = " ".join(err.split())
    for part in ("epsilon 1,", "95.0 %", "85.5 %", "98.9 %", "report.html", "PRIVACY.md"):
        assert part in words


def test_distances_are_figures_and_no_dictionaries():
    from sfumato.evaluation.tables import cells_of_distances

    shares = {"precision": 0.5, "recall": 0.25, "density": 1.5, "coverage": 0.125}
    counts = {"k": 5, "real": 100, "fake": 100}
    kernel = {"mean": 0.01234, "std": 0.001, "blocks": 4, "block_size": 50}
    figures = {"FD-x": 151.712, "KD-x": kernel, "manifold": shares | counts}
    assert cells_of_distances(figures) == {
        "Frechet": "152",
        "kernel": "0.012 ± 0.001",
        "precision": "0.50",
        "recall": "0.25",
        "density": "1.50",
        "coverage": "0.12",
    }
    one_block = figures | {"KD-x": kernel | {"std": None}}
    assert cells_of_distances(one_block)["kernel"] == "0.012"


def test_small_parsers():
    assert pairs("--init", ["a=b=c"]) == {"a": "b=c"}
    assert prompts(["a picture of a {class}"]) == "a picture of a {class}"
    assert prompts(["{class}=x"]) == "{class}=x"
    assert prompts(["a=x", "b=y"]) == {"a": "x", "b": "y"}
    assert [ratio_or_count(word) for word in ("0.3", "1.0", "30%", "38")] == [0.3, 1.0, 0.3, 38]
    assert isinstance(ratio_or_count("1"), int)
    assert shard("1/4") == (1, 4)
    assert shares_of(["a=.5,b=1", "c=0"]) == {"a": 0.5, "b": 1.0, "c": 0.0}
    assert [clock(0.4), clock(41), clock(3723)] == ["0:00", "0:41", "1:02:03"]
    said = [parse.about(seconds) for seconds in (0.2, 600, 7200, 360_000)]
    assert said == ["about 1 s", "about 10 min", "about 2 h", "about 100 h"]


def test_underscores_and_debug_are_understood():
    words = ["adapt", "a_b", "--learning_rate=1_0", "--debug", "--", "--x_y"]
    assert shell._normalise(words) == (True, ["adapt", "a_b", "--learning-rate=1_0", "--", "--x_y"])


def test_the_live_line_off_a_terminal(capsys):
    with LiveLine() as line:
        line.stage("training")
        line.say("too soon", force=False)
        line.last -= 11
        line.say("a", force=False)
    with LiveLine(quiet=True) as line:
        line.stage("nothing")
    assert capsys.readouterr().err == "training ...\na\n"


def test_notes_stay_above_the_live_line(monkeypatch, capsys):
    """A warning that the next stage wipes off a terminal was never seen."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with LiveLine() as line:
        line.stage("note: expect [little]")
        assert "note: expect [little]\n" in capsys.readouterr().err, (
            "printed at once, not by the refresh of the live line"
        )
        line.stage("training")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with LiveLine() as line:
        line.stage("note: as it is")
    assert capsys.readouterr().err.endswith("note: as it is\n")


def test_the_command_exists_and_help_loads_nothing_heavy():
    script = (
        "import sys, sfumato.cli as c; c.main(['adapt', '--help']); print([m for m in ('torch',"
        " 'diffusers', 'numpy', 'scipy', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
