"""From folder to verified release through the page's own forms."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import pytest

from sfumato.web import commands, jobs, screens

from .test_page import MARK, PLANNED, done, opened


@pytest.mark.slow
def test_the_whole_way(make, tmp_path, tiny_images, tiny_base, ledger_of_the_test):
    images = tmp_path / "images"
    for number, place in enumerate(sorted(tiny_images.rglob("*.png"))):
        (images / place.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(place, images / place.parent.name / f"{MARK}-{number}.png")
    browser = make(images, tiny_base.parent).enter()
    project = browser.project()
    do = f"/{project}/do/"
    page = browser.post(do + "folder", images=images)
    assert page.status_code == 200 and "Looking into the folder" in page.text
    assert browser.wait(project, "look").state == jobs.DONE
    page = browser.get(f"/{project}/images").text
    assert "What is in it" in page and re.search(r'name="unit"[^>]*checked', page) is None
    assert browser.get(f"/{project}/promise").url.path.endswith("images")

    refused = browser.post(do + "answers", what="classes", aside="yes")
    assert refused.status_code == 400 and "nobody answered" in refused.text
    page = browser.post(do + "answers", what="classes", unit="image", aside="yes")
    assert page.url.path.endswith("promise"), page.text
    browser.wait(project, "split"), browser.wait(project, "spent")
    assert "there is no ledger on this machine yet" in browser.get(f"/{project}/promise").text
    assert not ledger_of_the_test.exists()
    page = browser.post(do + "promise", epsilon=8, delta="1e-3")
    assert page.url.path.endswith("plan")
    page = browser.post(do + "plan", base="own", folder=tiny_base, method="attention", time="")
    assert page.status_code == 200, page.text
    job = browser.wait(project, "plan-attention")
    assert job.state == jobs.DONE, job.said()
    # no time that a busy machine may be too slow for, and few steps
    few: dict = {"fixes": "--steps 3 --expected-batch-size 8 --samples-every 2"}
    few["needs"] = ["--yes-public", "--anyway"]  # so few teach nothing
    (job.folder / "stdout").write_text(json.dumps(job.facts() | few))
    page = browser.get(f"/{project}/run").text
    assert "What every release would make public" in page
    assert browser.post(do + "run").status_code == 400  # no yes
    page = browser.post(do + "run", public="yes", anyway="yes")
    job = browser.wait(project, "adapt")
    assert job.state == jobs.DONE, job.said()
    assert "The run is finished" in browser.get(f"/{project}/run").text

    browser.post(do + "draw", number=12)
    assert browser.wait(project, "synthesize").state == jobs.DONE
    page = browser.get(f"/{project}/pictures").text
    pictures = re.findall(rf'src="(/{project}/picture/drawn/\d+)"', page)
    assert len(pictures) == 12
    answer = browser.get(pictures[0])
    assert answer.content.startswith(b"\x89PNG") and answer.headers["cache-control"] == "no-store"
    public = re.findall(rf'src="(/{project}/picture/base/\d+)"', page)
    assert public and browser.get(public[0]).content.startswith(b"\x89PNG")
    assert browser.post(do + "judge").status_code == 400  # no yes to the look

    assert not any(MARK.encode() in body for body in browser.seen)
    page = browser.post(do + "hand", hand="pictures")
    assert page.url.path.endswith("hand-over"), page.text
    assert browser.post(do + "push", to="me/x", send="yes").status_code == 400  # not verified
    browser.post(do + "release", title="Shapes", licence="cc-by-4.0")
    assert browser.wait(project, "release").state == jobs.DONE
    assert "Read the statement" in browser.get(f"/{project}/hand-over").text
    statement = browser.get(f"/{project}/page/statement")
    assert "sandbox" in statement.headers["content-security-policy"]
    assert browser.post(do + "sign", name="A. Owner").status_code == 400
    page = browser.post(do + "sign", name="A. Owner", read="yes")
    assert "Signed by A. Owner" in page.text
    browser.post(do + "verify")
    assert browser.wait(project, "verify").state == jobs.DONE
    page = browser.get(f"/{project}/hand-over").text
    assert "checks passed" in page and "load_dataset" in page
    claim = json.loads((browser.studio.top / project / "release/privacy.json").read_text())
    assert claim["looks"]["exact"] == 0


@pytest.mark.slow
def test_a_run_that_is_paused_and_one_that_is_killed_go_on(make, tiny_images, tiny_base):
    browser = make(tiny_images.parent, tiny_base.parent).enter()
    project = browser.project()
    do, folder = f"/{project}/do/", browser.studio.top / project
    browser.post(do + "folder", images=tiny_images)
    browser.wait(project, "look")
    browser.post(do + "answers", what="classes", unit="image")
    browser.post(do + "promise", epsilon=8, delta="1e-3")
    how = {"base": str(tiny_base), "method": "attention"}
    opened(browser, project).change(browser.version(project), **how)
    argv = commands.plan(opened(browser, project), "attention")
    fixes = "--steps 400 --expected-batch-size 8 --checkpointing-steps 20"
    done(browser, project, "plan-attention", argv, PLANNED | {"fixes": fixes})
    browser.post(do + "run", public="yes")
    assert browser.post(do + "run", public="yes").status_code in (400, 409)  # once

    def reached(step: int) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            status = browser.get(f"/{project}/status/run").json()
            if status["pace"]["step"] >= step:
                return
            assert status["busy"], screens.running(opened(browser, project)).said()
            time.sleep(0.05)
        raise AssertionError("no step")

    reached(1)
    browser.post(do + "pause")
    job = browser.wait(project, "adapt")
    assert job.state == jobs.PAUSED, job.said()
    page = browser.get(f"/{project}/run").text
    assert "Paused." in page and "Resume" in page
    step = browser.get(f"/{project}/status/run").json()["pace"]["step"]
    browser.post(do + "resume")
    assert browser.post(do + "resume").status_code == 409  # two writers
    reached(step + 25)
    process = json.loads((folder / "jobs/resume-1/process.json").read_text())
    os.kill(process["pid"], signal.SIGKILL)
    assert browser.wait(project, "resume").state == jobs.CRASHED
    assert "cut off" in browser.get(f"/{project}/run").text
    # another studio, later, finds it and goes on
    later = make(tiny_images.parent, top=browser.studio.top).enter()
    later.post(do + "resume")
    job = later.wait(project, "resume")
    assert job.number == 2 and job.state == jobs.DONE, job.said()
    assert "The run is finished" in later.get(f"/{project}/run").text
