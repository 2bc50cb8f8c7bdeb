"""From folder to verified release through the page's own forms."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time

import pytest
from PIL import Image
from starlette.routing import Match

from sfumato.web import commands, jobs, screens, standing
from sfumato.web.actions import ACTIONS

from .marks import MARK, holds_mark, mark_all, shown
from .test_page import PLANNED, done, opened


@pytest.mark.slow
def test_the_whole_way(make, tmp_path, tiny_images, tiny_base, ledger_of_the_test):
    images = mark_all(tiny_images, tmp_path / "images")
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
    assert refused.status_code == 400 and "Nobody answered" in refused.text
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

    everything_else(browser, project, images)
    assert not shown(browser.answers)
    texts = [p for p in (browser.studio.top / project / "jobs").rglob("std*")]
    assert texts and not any(MARK.encode() in p.read_bytes() for p in texts)
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


AFTER = {"hand", "release", "verify", "sign", "show", "push-dry", "push"}  # the hand-over's own


def everything_else(browser, project: str, images) -> None:
    """Asks for all that the page has and the way above did not, also wrongly; none is left out."""
    name, do = f"{MARK}-0.png", f"/{project}/do/"
    browser.post(do + "sheet")
    assert browser.wait(project, "sheet").state == jobs.DONE
    assert browser.get(f"/{project}/picture/sheet/1").status_code == 200
    sheets = [place for place in (browser.studio.top / project / "run/samples").glob("step-*")]
    for kind in ("sample/2", "sample/3", "public/0", "drawn/0", "base/0", "anchor/0", "none/0"):
        browser.get(f"/{project}/picture/{kind}")
    assert len(sheets) == 2
    for page in ("evaluation", "statement", "report", name):
        browser.get(f"/{project}/page/{page}")
    for screen in (*screens.SCREENS, name):
        browser.get(f"/{project}/{screen}"), browser.get(f"/{project}/status/{screen}")
    for asset in ("studio.css", "style.css", "studio.js", "icon.svg", name):
        browser.get(f"/static/{asset}")
    for typed in ("", images, f"{images}/", f"{images}/circle/", f"{images}/circle/{name}"):
        browser.post("/paths", path=typed)
    later = browser.project()
    for action in sorted(set(ACTIONS) - AFTER):
        if action not in ("run", "draw", "bundled"):
            browser.post(f"/{later}/do/{action}", name=name, images=images / name)
        browser.post(do + action, method=name, base=name, number=name, cap=name, test=name)
    for wrong in (images / name, images.parent.parent / name, f"../{name}", name):
        browser.post(f"/{later}/do/folder", images=wrong)
    browser.post(f"/{later}/do/folder", images=images, version=99)
    browser.get("/")
    browser.get(f"/{MARK}/images")
    met = [(one.method, one.path) for one in browser.answers]
    for route in browser.studio.application().routes:
        asked = {"type": "http", "method": "GET"}
        assert any(
            route.matches(asked | {"path": path, "method": method})[0] == Match.FULL
            for method, path in met
        ), route.path
    assert {p.rpartition("/")[2] for m, p in met if "/do/" in p} >= set(ACTIONS) - AFTER
    assert {one.status for one in browser.answers} >= {200, 303, 400, 404, 409}


def test_a_marker_would_be_seen(tmp_path, tiny_images):
    """In names and captions, and in the pixels of a picture in the middle of a page."""
    images = mark_all(tiny_images, tmp_path / "images")
    own = next(images.rglob("*.png"))
    plain = io.BytesIO()
    Image.open(own).convert("RGB").save(plain, "PNG")
    assert MARK.encode() not in plain.getvalue()
    assert holds_mark(b"head" + plain.getvalue() + b"tail")
    assert holds_mark(own.with_suffix(".txt").read_bytes())
    assert not any(holds_mark(place.read_bytes()) for place in tiny_images.rglob("*.png"))


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
    plan = PLANNED["plan"] | {"classes": sorted(place.name for place in tiny_images.iterdir())}
    done(browser, project, "plan-attention", argv, PLANNED | {"fixes": fixes, "plan": plan})
    browser.post(do + "run", public="yes")
    assert browser.post(do + "run", public="yes").status_code in (400, 409)  # once

    def reached(step: int) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            status = browser.get(f"/{project}/status/run").json()
            if status["pace"]["step"] >= step:
                return
            assert status["busy"], standing.running(opened(browser, project)).said()
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
    job = later.wait(project, "resume", 900)  # most of the steps, on a busy machine, too
    assert job.number == 2 and job.state == jobs.DONE, job.said()
    assert "The run is finished" in later.get(f"/{project}/run").text
