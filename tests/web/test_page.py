"""What the page shows and does not show, and what it keeps."""

from __future__ import annotations

import json
import os
import signal
import stat
import time

import pytest

from sfumato.web import commands, jobs, results, standing

from .answers import LOOKED, PLANNED, done, opened
from .marks import MARK, shown


def test_nothing_that_is_answered_shows_a_name_a_caption_or_a_tag(make, marked):
    browser = make().enter()
    project = browser.project()
    browser.post(f"/{project}/do/folder", images=marked)
    assert browser.wait(project, "look").state == jobs.DONE
    page = browser.get(f"/{project}/images").text
    assert "cannot be used" in page and "What is in it" in page
    browser.post(f"/{project}/do/answers", what="classes", unit="image")
    browser.wait(project, "spent")
    for path in ("images", "promise", "status/images", "../"):
        browser.get(f"/{project}/{path}")
    assert len(browser.answers) > 9 and not shown(browser.answers)
    texts = [p.read_bytes() for p in (browser.studio.top / project).rglob("*") if p.is_file()]
    assert not any(MARK.encode() in text for text in texts)


def test_thumbnails_come_only_when_asked_and_are_not_kept(make, marked):
    browser = make().enter()
    project = browser.project()
    browser.post(f"/{project}/do/folder", images=marked)
    browser.wait(project, "look")
    assert not list((browser.studio.top / project).glob("*.png"))
    assert browser.get(f"/{project}/picture/sheet/1").status_code == 404
    browser.post(f"/{project}/do/sheet")
    assert browser.wait(project, "sheet").state == jobs.DONE
    page = browser.get(f"/{project}/images").text
    assert f'data-picture="/{project}/picture/sheet/1"' in page and "PRIVATE" in page
    assert f'src="/{project}/picture/sheet' not in page  # fetched when somebody opens it
    answer = browser.get(f"/{project}/picture/sheet/1")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    place = browser.studio.top / project / "sheet-1.PRIVATE.png"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_nobody_answers_the_question_of_the_unit(planned):
    browser, project, _ = planned
    browser.post(f"/{project}/do/folder", images=opened(browser, project).said("images"))
    assert not opened(browser, project).said("unit")
    refused = browser.post(f"/{project}/do/answers", what="classes")
    assert refused.status_code == 400 and "Nobody answered" in refused.text
    assert standing.reached(opened(browser, project)) == ["images"]


def test_what_is_charged_is_the_plan_on_the_page_after_a_yes(planned):
    browser, project, begun = planned
    page = browser.get(f"/{project}/run").text
    assert "a, b" in page and "--steps 5" in page and "--yes-public" in page
    version = browser.version(project)
    before = len(begun)
    assert browser.post(f"/{project}/do/run").status_code == 400  # no yes
    assert browser.post(f"/{project}/do/run", public="yes", version=version - 1).status_code == 409
    browser.post(f"/{project}/do/promise", epsilon=2)  # the plan was for 4
    late = browser.post(f"/{project}/do/run", public="yes")
    assert late.status_code == 400 and "no plan for these answers" in late.text
    assert len(begun) == before
    browser.post(f"/{project}/do/promise", epsilon=4)
    assert browser.post(f"/{project}/do/run", public="yes").status_code == 200
    name, argv = begun[-1]
    assert name == "adapt" and argv[-2:] == ["-o", str(opened(browser, project).run)]
    assert "--steps" in argv and "--time" not in argv and "4" in argv


def test_a_run_that_the_ledger_refuses_or_that_learns_nothing_is_not_begun_unasked(planned):
    browser, project, begun = planned
    place = browser.studio.top / project / "jobs" / "plan-lora-1" / "stdout"
    place.write_text(json.dumps(PLANNED | {"refused": "the cap is 3"}))
    assert browser.post(f"/{project}/do/run", public="yes").status_code == 400
    place.write_text(json.dumps(PLANNED | {"needs": ["--anyway"]}))
    assert browser.post(f"/{project}/do/run", public="yes").status_code == 400
    assert begun[-1][0] != "adapt"
    browser.post(f"/{project}/do/run", public="yes", anyway="yes")
    assert begun[-1][0] == "adapt" and "--anyway" in begun[-1][1]


def test_answers_stay_once_a_run_was_charged(planned):
    browser, project, begun = planned
    run = opened(browser, project).run
    run.mkdir()
    (run / "plan.json").write_text("{}")
    for action, form in (("folder", {"images": run.parent.parent}), ("promise", {"epsilon": 1})):
        refused = browser.post(f"/{project}/do/{action}", **form)
        assert refused.status_code == 400 and "begin a new project" in refused.text
    assert browser.post(f"/{project}/do/run", public="yes").status_code == 400
    assert browser.get(f"/{project}/promise").status_code == 200


def test_answers_may_change_after_a_run_that_was_refused_before_its_charge(planned):
    browser, project, begun = planned
    done(browser, project, "adapt", ["adapt"])
    ended = browser.studio.top / project / "jobs" / "adapt-1" / "ended"
    assert "stay as they are" in browser.get(f"/{project}/promise").text
    assert browser.post(f"/{project}/do/promise", epsilon=1).status_code == 400
    ended.write_text("12")
    assert "stay as they are" not in browser.get(f"/{project}/promise").text
    assert browser.post(f"/{project}/do/promise", epsilon=4).status_code == 200
    assert "Spend epsilon" in browser.get(f"/{project}/run").text
    browser.post(f"/{project}/do/run", public="yes")
    assert begun[-1][0] == "adapt"


def test_a_look_is_begun_only_with_a_yes_to_it(planned, tmp_path):
    browser, project, begun = planned
    (opened(browser, project).run / "model").mkdir(parents=True)
    images = opened(browser, project).said("images")
    assert browser.post(f"/{project}/do/judge", test=images).status_code == 400
    assert begun[-1][0] != "evaluate"
    browser.post(f"/{project}/do/judge", test=images, look="yes")
    assert begun[-1][0] == "evaluate"


@pytest.mark.parametrize(("drawn", "moved"), [({}, False), ({"class_moments": {}}, True)])
def test_pictures_that_were_moved_are_told_apart_from_what_the_model_draws(planned, drawn, moved):
    browser, project, _ = planned
    found = opened(browser, project)
    (found.run / "model").mkdir(parents=True)
    found.release.mkdir()
    draft = {"certificate": {"synthesis": drawn}}
    (found.release / results.DRAFT).write_text(json.dumps(draft))
    row = {"file_name": "train/a/0.png", "label": "a", "seed": 1}
    (found.release / "metadata.jsonl").write_text(json.dumps(row))
    page = browser.get(f"/{project}/pictures").text
    assert ("were moved to the noisy class moments" in page) is moved
    assert ("what it draws is not moved to class moments" in page) is moved


def test_the_promise_is_said_in_odds_that_no_colour_judges(planned):
    browser, project, _ = planned
    page = browser.get(f"/{project}/promise").text
    assert "accused wrongly" in page and "Spent so far" in page and "Cap" in page
    for word in ("green", "safe!", "is safe<"):
        assert word not in page


def test_every_screen_has_labels_and_no_inline_script_or_style(planned):
    browser, project, _ = planned
    for screen in ("images", "promise", "plan", "run"):
        page = browser.get(f"/{project}/{screen}").text
        assert 'lang="en"' in page and "viewport" in page and 'href="#main"' in page
        for forbidden in (" style=", "<style", "onclick", "javascript:", "http://", "https://"):
            assert forbidden not in page, (screen, forbidden)
        assert page.count("<script") == 1 and 'src="/static/studio.js"' in page
        assert "The same on the command line" in page or screen == "images"


def test_a_job_outlives_its_studio_and_one_that_was_killed_is_seen_as_that(tmp_path):
    project = tmp_path / "project-1"
    project.mkdir()
    code = "import time; print('begun', flush=True); time.sleep(60)"
    job = jobs.start(project, "look", ["-c", code])
    assert job.state == jobs.RUNNING or job.code is not None
    until = time.monotonic() + 20
    while jobs.latest(project, "look").state == jobs.RUNNING and time.monotonic() < until:
        time.sleep(0.05)
    assert job.state == jobs.FAILED and "see `sfumato --help`" in job.error()
    again = jobs.start(project, "look", ["methods"])
    pid = json.loads((again.folder / "process.json").read_text())["pid"]
    assert again.number == 2 and os.getpgid(pid) == pid != os.getpgrp()
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while again.state == jobs.RUNNING and time.monotonic() < until:
        time.sleep(0.02)
    assert again.state == jobs.CRASHED and "memory ran out" in again.error()
    assert stat.S_IMODE(again.folder.stat().st_mode) == 0o700
    for name in ("asked.json", "stdout", "stderr"):
        assert stat.S_IMODE((again.folder / name).stat().st_mode) == 0o600


def test_private_words_are_not_in_the_list_of_processes(tmp_path, monkeypatch):
    seen = []
    real = jobs.subprocess.Popen

    def watched(words, **how):
        seen.append(words)
        return real([words[0], "-c", "pass"], **how)

    monkeypatch.setattr(jobs.subprocess, "Popen", watched)
    (tmp_path / "project-1").mkdir()
    jobs.start(tmp_path / "project-1", "look", ["inspect", f"/{MARK}"])
    assert seen and not any(MARK in word for word in seen[0])


def test_an_owner_may_go_on_without_the_files_that_cannot_be_used(planned):
    browser, project, begun = planned
    answers = {"what": "classes", "unit": "image"}
    assert 'name="bad"' not in browser.get(f"/{project}/images").text
    place = browser.studio.top / project / "jobs" / "look-1" / "stdout"
    place.write_text(json.dumps(LOOKED | {"stops": ["4 of 28 are bad: raise --max-bad above 0.1"]}))
    page = browser.get(f"/{project}/images").text
    assert (
        'href="#bad"' in page and 'id="bad" name="bad" value="yes">' in page
    )  # nobody said so yet
    before = len(begun)
    asked = browser.post(f"/{project}/do/answers", **answers, bad="yes")
    looked, *ledger = begun[before:]
    assert asked.url.path.endswith("images")  # and it is looked at anew
    assert looked[0] == "look" and looked[1][-3:] == ["--max-bad", "1", "--json"]
    assert not any("--max-bad" in argv for _, argv in ledger)
    one = opened(browser, project)
    assert all(
        "--max-bad" in argv for argv in (commands.plan(one, "lora"), commands.set_apart(one))
    )


def test_a_style_is_told_in_words_of_its_owner(planned):
    browser, project, begun = planned
    opened(browser, project).change(browser.version(project), what="style")
    page = browser.get(f"/{project}/plan").text
    assert '<label for="anchor">' in page and '<label for="prompt">' in page
    said = {"prompt": "icon, {class} style", "anchor": "filled"}
    browser.post(f"/{project}/do/plan", base="icons", method="inversion", **said)
    argv = begun[-1][1]
    assert argv[argv.index("--prompt") + 1] == "icon, {class} style"
    assert argv[argv.index("--initializer-token") + 1] == "filled"
    opened(browser, project).change(browser.version(project), what="classes")
    assert "--initializer-token" not in commands.plan(opened(browser, project), "lora")
