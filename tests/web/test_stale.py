"""Pages that show what is not so any more: what is charged, capped, signed or sent from them is
refused, and figures of privacy are those of the ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

import pytest

from sfumato.planning.config import Config
from sfumato.web import commands, jobs, results
from sfumato.web.project import Changed, open_project

from .answers import PLANNED, done, opened


def said_yes(argv: list[str]) -> tuple[str, ...]:
    """The class names that a run may publish."""
    assert "--yes-public" not in argv  # which would hold for whatever lies there by then
    return Config.read(argv[argv.index("--config") + 1]).table("reading")["yes_public"]


def test_a_yes_is_to_the_class_names_on_the_page(planned):
    browser, project, begun = planned
    names = ["a", "b, c", 'd "e"']
    place = browser.studio.top / project / "jobs" / "plan-lora-1" / "stdout"
    place.write_text(json.dumps(PLANNED | {"plan": PLANNED["plan"] | {"classes": names}}))
    browser.post(f"/{project}/do/run", public="yes")
    name, argv = begun[-1]
    assert name == "adapt" and list(said_yes(argv)) == names


def test_a_yes_to_an_earlier_plan_is_none_to_a_later_one(planned):
    """Another tab plans the same answers anew, and finds a class that the first never showed."""
    browser, project, begun = planned
    shown = browser.version(project)
    browser.post(f"/{project}/do/compare", method="lora")
    asked = begun[-1][1]
    later = PLANNED | {"plan": PLANNED["plan"] | {"classes": ["a", "b", "Jane"]}}
    folder = browser.studio.top / project / "jobs" / "plan-lora-2"
    folder.mkdir()
    (folder / "asked.json").write_text(json.dumps({"argv": asked, "started": time.time()}))
    (folder / "stdout").write_text(json.dumps(later))
    (folder / "ended").write_text("0")
    assert browser.post(f"/{project}/do/run", public="yes", version=shown).status_code == 409
    assert begun[-1][0] != "adapt"


def test_no_answer_changes_once_a_run_begins(planned):
    """Of two studios, one begins the run while the other has passed its checks."""
    browser, project, begun = planned
    other = opened(browser, project)
    browser.post(f"/{project}/do/run", public="yes")
    assert begun[-1][0] == "adapt"
    with pytest.raises(Changed):
        other.change(other.version, epsilon=9.0)


def test_of_two_writers_one_changes_the_answers_on_a_disk_without_links(planned, monkeypatch):
    def refuse(*_) -> None:
        raise PermissionError

    monkeypatch.setattr("sfumato.web.project.os.link", refuse)
    browser, project, _ = planned
    one = opened(browser, project)
    assert one.change(one.version, epsilon=2.0).said("epsilon") == 2.0
    with pytest.raises(Changed):
        one.change(one.version, epsilon=3.0)
    assert opened(browser, project).said("epsilon") == 2.0


@pytest.mark.parametrize("epsilon", [4.004, 10.006, 0.1234])
def test_what_is_spent_is_said_to_the_last_digit(planned, epsilon):
    browser, project, _ = planned
    place = browser.studio.top / project / "jobs" / "plan-lora-1" / "stdout"
    place.write_text(json.dumps(PLANNED | {"plan": PLANNED["plan"] | {"epsilon": epsilon}}))
    page = browser.get(f"/{project}/run").text
    assert f"Spend epsilon {epsilon} and train" in page and f"epsilon {epsilon} is written" in page


@pytest.mark.parametrize(
    ("spent", "of", "said"), [(1.2301, 8.004, (1.24, 8.004)), (8.0039, 8.004, (8.004, 8.004))]
)
def test_epsilon_so_far_is_never_said_to_be_less(planned, spent, of, said):
    browser, project, _ = planned
    found = opened(browser, project)
    found.run.mkdir()
    now = {"step": 5, "steps": 40, "epsilon": spent, "of": of, "rate": 3.0, "left": "1 min"}
    (found.run / "progress.json").write_text(json.dumps(now | {"ended": False}))
    pace = results.pace(found)
    assert (pace.epsilon, pace.target) == said


def test_a_cap_is_for_the_images_on_the_page_alone(planned, tmp_path):
    browser, project, begun = planned
    shown = browser.version(project)
    capped = commands.cap(opened(browser, project), 2.0)
    done(browser, project, "cap", capped, "the cap is 2 now")
    assert "the cap is 2 now" in browser.get(f"/{project}/promise").text
    (tmp_path / "others").mkdir()
    browser.post(f"/{project}/do/folder", images=tmp_path / "others")
    late = browser.post(f"/{project}/do/cap", cap=3, version=shown)
    assert late.status_code == 409 and begun[-1][0] != "cap"
    one = opened(browser, project)
    one.change(one.version, what="classes", unit="image")
    assert "the cap is 2 now" not in browser.get(f"/{project}/promise").text


@pytest.mark.parametrize("when", ["begun later", "charged later", "not charged yet"])
def test_a_run_of_another_project_makes_what_the_ledger_said_old(planned, when, monkeypatch):
    browser, project, _ = planned
    other = browser.project()
    run = opened(browser, other).run
    run.mkdir()
    if when != "begun later":
        done(browser, other, "adapt", ["adapt"])
    done(browser, project, "spent", commands.spent(opened(browser, project)), {"runs": []})
    if when == "begun later":
        done(browser, other, "adapt", ["adapt"])
    if when == "not charged yet":
        monkeypatch.setattr(jobs.Job, "_alive", lambda self: self.name == "adapt")
        (browser.studio.top / other / "jobs" / "adapt-1" / "ended").unlink()
    else:
        (run / "active.lock").write_text("")
    assert "ask it again" in browser.get(f"/{project}/promise").text
    (run / "active.lock").write_text("")
    asked = browser.studio.top / other / "jobs" / "adapt-1" / "asked.json"
    asked.write_text(json.dumps({"argv": ["adapt"], "started": 1}))
    os.utime(run / "active.lock", (1, 1))
    assert "ask it again" not in browser.get(f"/{project}/promise").text


def test_what_was_verified_and_signed_is_what_is_on_the_page(planned):
    """The pictures passed and were signed; then the owner chooses to hand over the model."""
    browser, project, begun = planned
    found = opened(browser, project)
    (found.run / "model").mkdir(parents=True)
    for place in (found.release, found.model):
        place.mkdir()
        (place / "privacy.json").write_text(f'{{"of": "{place.name}"}}')
    done(browser, project, "verify", commands.verify(found), "ok    every hash\n")
    dry = commands.push(found, "me/x", dry=True, public=False)
    done(browser, project, "push-dry", dry, "metadata.jsonl")
    browser.post(f"/{project}/do/sign", name="A. Owner", read="yes")
    page = browser.get(f"/{project}/hand-over").text
    assert "checks passed" in page and "Signed by A. Owner" in page and "metadata.jsonl" in page
    shown = browser.version(project)
    browser.post(f"/{project}/do/hand", hand="model")
    page = browser.get(f"/{project}/hand-over").text
    for old in ("checks passed", "Signed by", "metadata.jsonl", "Send these files"):
        assert old not in page
    stale = [("sign", {"name": "A", "read": "yes"}), ("push", {"to": "me/x", "send": "yes"})]
    for action, form in (*stale, ("verify", {}), ("release", {"title": "x"})):
        before = len(begun)
        late = browser.post(f"/{project}/do/{action}", version=shown, **form)
        assert late.status_code == 409 and len(begun) == before, action
    sent = browser.post(f"/{project}/do/push", to="me/x", send="yes")
    assert sent.status_code == 400 and "Verify the release first" in sent.text
    browser.post(f"/{project}/do/sign", name="B. Owner", read="yes")
    assert "Signed by B. Owner" in browser.get(f"/{project}/hand-over").text
    browser.post(f"/{project}/do/hand", hand="pictures")
    assert "Signed by A. Owner" in browser.get(f"/{project}/hand-over").text
    own = hashlib.sha256((found.model / "privacy.json").read_bytes()).hexdigest()
    assert (found.folder / f"signed-{own[:16]}.json").exists()


def test_thumbnails_of_another_folder_are_not_shown_for_this_one(planned, tmp_path):
    browser, project, _ = planned
    done(browser, project, "sheet", commands.sheet(opened(browser, project), 1))
    address = f"/{project}/picture/sheet/1"
    assert address in browser.get(f"/{project}/images").text
    (tmp_path / "others").mkdir()
    browser.post(f"/{project}/do/folder", images=tmp_path / "others")
    assert address not in browser.get(f"/{project}/images").text


def test_a_page_that_stumbles_claims_nothing_of_what_it_began(planned, monkeypatch):
    """The verb may run already: a full disk meets what is written after its start."""
    browser, project, _ = planned

    def full(*_) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(jobs, "start", full)
    page = browser.post(f"/{project}/do/run", public="yes")
    assert page.status_code == 500 and "disk full" not in page.text
    assert "Nothing was charged" not in page.text and "before you ask once more" in page.text


def test_a_studio_that_dies_while_it_writes_answers_leaves_the_ones_before(planned, monkeypatch):
    browser, project, _ = planned
    one = opened(browser, project)

    def dies(*_, **__) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sfumato.web.project.json.dump", dies)
        with pytest.raises(KeyboardInterrupt):
            one.change(one.version, epsilon=9.0)
    again = open_project(browser.studio.top, project)
    assert again is not None and again.version == one.version and again.said("epsilon") == 4.0
    assert again.change(again.version, epsilon=3.0).said("epsilon") == 3.0
