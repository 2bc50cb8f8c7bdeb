"""What verbs say, in the words of the page."""

from __future__ import annotations

import json

import pytest

from sfumato.web import results
from sfumato.web.digits import FOLDER
from sfumato.web.project import new_project
from sfumato.web.words import by_flags, odds_in_words, proposed_delta, stage


@pytest.mark.parametrize(
    "remark, said, cure",
    [
        ("the unit is one record: name a column with --unit", "the unit is one record", "name a"),
        ("fit: unknown (--stand-in names images)", "fit: unknown", "--stand-in names images"),
        ("a: b (c, d): declare it with --classes", "a: b (c, d)", "declare it with --classes"),
        ("--time 1min: too short", "--time 1min: too short", ""),
        ("delta is not below 1/n: such a run publishes", None, ""),
        ("no cut before --here", "no cut before --here", ""),
    ],
)
def test_a_cure_by_flags_is_told_apart(remark, said, cure):
    told, flags = by_flags(remark)
    assert told == (said or remark) and flags.startswith(cure) and bool(flags) == bool(cure)
    assert not flags.endswith("images)")


def test_a_bound_is_never_said_to_be_reached():
    said = odds_in_words(8, 1e-5)
    assert said["groups"][-1] == "> 99.99 %"
    assert not any(text.startswith("100") for texts in said.values() for text in texts)


@pytest.mark.parametrize(
    "every, steps, first", [(18, 70, 18), (0, 70, None), (None, 70, None), (80, 70, None)]
)
def test_the_run_says_when_its_first_picture_comes(tmp_path, every, steps, first):
    project = new_project(tmp_path)
    assert results.first_sample(project) is None
    project.run.mkdir()
    (project.run / "options.json").write_text(json.dumps({"performance": {"samples_every": every}}))
    (project.run / "plan.json").write_text(json.dumps({"steps": steps}))
    assert results.first_sample(project) == first


def test_only_the_bundled_digits_are_called_public(make, tmp_path):
    browser = make().enter()
    for place, public in ((browser.studio.top / FOLDER, True), (tmp_path / FOLDER, False)):
        project = new_project(browser.studio.top)
        project.change(0, images=str(place), unit="image", what="classes")
        text = browser.get(f"/{project.name}/promise").text
        assert ("these public digits" in text) is public
        assert 'name="epsilon"' in text and 'value=""' in text  # and nothing is chosen


@pytest.mark.parametrize(
    "n, delta", [(0, 1e-5), (100, 1e-5), (3000, 6.08e-6), (10**6, 1e-9), (12345, 7.29e-7)]
)
def test_the_page_proposes_a_delta_that_no_plan_would_make_smaller(n, delta):
    assert proposed_delta(n) == pytest.approx(delta, rel=1e-9)
    assert n == 0 or proposed_delta(n) <= min(1e-5, n**-1.5)


@pytest.mark.parametrize(
    "line, shown",
    [("step 19/155 ε 1.82/5 355.0 img/s ETA 2:24", "training"), ("warming up", "warming up")],
)
def test_a_line_of_figures_is_not_said_beside_the_figures(line, shown):
    assert stage(line) == shown


def test_a_paused_run_is_not_said_to_have_no_time_left(tmp_path):
    project = new_project(tmp_path)
    project.run.mkdir()
    said = {"step": 5, "steps": 40, "epsilon": 1, "of": 8, "rate": 3.0, "left": None, "ended": True}
    (project.run / "progress.json").write_text(json.dumps(said))
    assert results.pace(project).left == ""
    (project.run / "progress.json").write_text(json.dumps(said | {"step": 40}))
    assert results.pace(project).left == "none"
    (project.run / "progress.json").write_text(json.dumps(said))
    (project.run / "model").mkdir()  # finished at its last checkpoint
    assert results.pace(project).left == "none"
