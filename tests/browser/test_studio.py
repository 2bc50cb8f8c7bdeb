"""The page in a real browser: the whole way on bundled digits, cut off in the middle; a wrong
folder; a phone; the keyboard; axe-core. Screenshots lie in build/browser/.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

# A plan of the page is for minutes: few steps are enough to be cut off and to go on.
FEW = "--steps 40 --expected-batch-size 32 --samples-every 10 --checkpointing-steps 2"
MIDDLE = re.compile(r"^\s*([4-9]|[12]\d|3[0-5]) of 40")


@pytest.fixture(scope="module")
def way(eye):
    """The eye after the whole way; what it met is asserted below."""
    page = eye.page
    eye.look("home")
    page.click("text=Begin a new project")
    eye.look("empty")
    page.click("text=Try it with")
    eye.wait("text=What is in it")
    assert page.locator("input[name=unit]:checked").count() == 0
    eye.look("images")
    eye.show("images", "h2:has-text('Whose images')")
    page.click("text=Keep these answers")  # the browser itself asks for the unit
    assert page.url.endswith("/images")
    page.check("input[name=unit][value=image]")
    page.click("text=Keep these answers")
    page.wait_for_url("**/promise")
    eye.wait("text=there is no ledger on this machine yet")
    eye.look("promise")
    page.fill("#epsilon", "8")
    eye.show("promise", "h2:has-text('What it means')")
    page.click("text=Promise this")
    page.wait_for_url("**/plan")
    while not page.locator("input[name=base][value=glyphs]").count():
        page.wait_for_timeout(1000)  # the bundled models are listed
        page.reload()
    page.check("input[name=base][value=glyphs]")
    eye.look("choices")
    page.click("text=Plan it")
    eye.wait("text=On to the run")
    eye.look("plan")
    eye.show("plan", "text=Beside each other")
    shorten(page.url, Path(eye.top))
    page.click("text=On to the run")
    eye.look("promise-of-all")
    page.check("input[name=public]")
    page.check("input[name=anyway]")
    page.click("button:has-text('Spend')")
    page.locator("[data-now=step]").filter(has_text=MIDDLE).wait_for()
    cut_off(page.url, Path(eye.top))
    page.wait_for_selector("text=The run was cut off")
    eye.look("cut-off")
    page.click("button:has-text('Resume')")
    eye.wait("text=The run is finished")
    eye.look("run")
    eye.show("run")
    page.click("text=On to the pictures")
    page.fill("#number", "40")
    page.click("text=Draw them")
    eye.wait(".pictures")
    eye.look("pictures")
    eye.show("pictures")
    page.click("button:has-text('On to the statement')")
    page.fill("#title", "Digits")
    page.click("text=Build it")
    eye.wait("iframe")
    page.check("input[name=read]")
    page.fill("#name", "A. Owner")
    page.click("button:has-text('Sign')")
    eye.wait("text=Signed by A. Owner")
    page.click("button:has-text('Verify')")
    eye.wait("text=checks passed")
    eye.show("hand-over", "text=2. Read the statement")
    eye.look("hand-over")
    return eye


def project_at(url: str, top: Path) -> Path:
    return top / url.split("/")[3]


def shorten(url: str, top: Path) -> None:
    """The plan of the page, with fewer steps."""
    out = project_at(url, top) / "jobs" / "plan-attention-1" / "stdout"
    few = {"fixes": FEW, "needs": ["--yes-public", "--anyway"]}
    out.write_text(json.dumps(json.loads(out.read_text()) | few))


def cut_off(url: str, top: Path) -> None:
    """As if memory ran out."""
    known = json.loads((project_at(url, top) / "jobs/adapt-1/process.json").read_text())
    os.kill(known["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_the_whole_way_with_a_crash_in_the_middle(way):
    project = project_at(way.page.url, Path(way.top))
    assert (project / "signed.json").exists()
    assert json.loads((project / "release/privacy.json").read_text())
    assert (project / "jobs/resume-1/ended").read_text() == "0"
    assert not way.errors  # of scripts, and of the policy of content
    way.page.reload()
    assert way.page.locator("ul.ticks li").count() > 5
    assert way.page.locator("ul.ticks li.bad").count() == 0
    with open(project / "release/README.md", "a") as stream:
        stream.write("Nothing here is private.\n")
    way.page.click("text=Verify again")
    way.page.wait_for_selector("ul.ticks li.bad")
    assert not way.page.locator("text=checks passed").count()


@pytest.mark.slow
def test_no_page_scrolls_sideways(way):
    assert len(way.looked) >= 20 and not way.wide


@pytest.mark.slow
def test_axe_finds_no_serious_fault(way):
    if way.axe is None:
        pytest.skip("no axe-core: make test-browser fetches it")
    assert not way.faults, "\n".join(way.faults)


@pytest.mark.slow
def test_pictures_for_the_docs_are_small(way):
    made = sorted(way.seen.glob("studio-*.png"))
    assert len(made) == 6 and all(one.stat().st_size < 150_000 for one in made)


@pytest.mark.slow
def test_the_keyboard_reaches_everything_and_shows_where_it_is(way):
    assert not way.lost, "\n".join(way.lost)


def test_questions_are_answered_by_the_keyboard_alone(eye):
    page = eye.page
    page.goto("/".join(page.url.split("/")[:3]))
    eye.press("Begin a new project")
    page.wait_for_url("**/images")
    eye.press("Try it with")
    eye.wait("text=What is in it")
    eye.tab_to("input[name=unit]")
    page.keyboard.press("Space")
    eye.press("Keep these answers")
    page.wait_for_url("**/promise")
    eye.tab_to("#slide")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    epsilon = page.input_value("#epsilon")
    assert float(epsilon) > 0 and page.inner_text("[data-now=at]") == epsilon
    assert page.get_attribute("#slide", "aria-valuetext") == f"epsilon {epsilon}"
    eye.press("Promise this")
    page.wait_for_url("**/plan")


@pytest.mark.parametrize(
    "name, said",
    [
        ("nowhere", "nothing is there: check the spelling"),
        ("empty", "the folder holds no images"),
        ("/etc", "outside"),
    ],
)
def test_a_wrong_folder_is_said_in_a_line_and_another_can_be_chosen(eye, place, name, said):
    (place / "empty").mkdir(exist_ok=True)
    page = eye.page
    page.goto("/".join(page.url.split("/")[:3]))
    page.click("text=Begin a new project")
    page.wait_for_url("**/images")
    page.fill("#path", str(place / name))
    page.click("text=Look into it")
    alert = page.wait_for_selector("[role=alert]")
    assert said in alert.inner_text()
    page.go_back()
    page.wait_for_selector("#path")
