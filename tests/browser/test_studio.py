"""The page in a real browser: the whole way on bundled digits, paused, closed and cut off in the
middle, judged, and sent to a hub of the test; a wrong folder; a phone; the keyboard; axe-core.
Screenshots lie in build/browser/.
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
BEGUN = re.compile(r"^\s*([1-9]|[12]\d) of 40")


@pytest.fixture(scope="module")
def way(eye):
    """The eye after the whole way; what it met is asserted below."""
    eye.look("home")
    images(eye)
    promise_and_plan(eye)
    run(eye)
    pictures(eye)
    hand_over(eye)
    return eye


def images(eye) -> None:
    page = eye.page
    page.click("text=Begin a new project")
    eye.look("empty")
    page.click("text=Try it with")
    eye.wait("text=What is in it")
    assert page.locator("input[name=unit]:checked").count() == 0
    eye.look("images")
    eye.show("images", "h2:has-text('Whose images')")
    assert not page.locator("img").count()  # nobody asked for one
    page.click("text=Make thumbnails")
    eye.wait("text=Show them here (PRIVATE)")
    with page.expect_response("**/picture/sheet/1") as answered:
        page.click("text=Show them here (PRIVATE)")
    assert answered.value.headers["cache-control"] == "no-store"
    page.wait_for_function("document.querySelector('img.sheet').naturalWidth > 100")
    eye.look("thumbnails")
    page.click("text=Keep these answers")  # the browser itself asks for the unit
    assert page.url.endswith("/images#whose") or page.url.endswith("/images")
    page.check("input[name=unit][value=image]")
    page.check("input[name=aside]")
    page.click("text=Keep these answers")


def promise_and_plan(eye) -> None:
    page = eye.page
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
    eye.show("plan", "h1")
    page.click("summary:has-text('what your classes look like')")
    page.get_by_label("zero looks like").fill("zero")
    eye.look("words")
    page.click("text=Plan it with these words")
    page.wait_for_selector("text=Planning")
    eye.wait("text=On to the run")
    assert "--init zero=zero" in page.inner_text("#command")
    shorten(page.url, Path(eye.top))


def run(eye) -> None:
    page = eye.page
    page.click("text=On to the run")
    eye.look("promise-of-all")
    page.check("input[name=public]")
    page.check("input[name=anyway]")
    page.click("button:has-text('Spend')")
    page.locator("[data-now=step]").filter(has_text=BEGUN).wait_for()
    address = page.url
    eye.reopen(address)  # whoever closes the page comes back to the run
    page = eye.page
    page.locator("[data-now=step]").filter(has_text=BEGUN).wait_for()
    assert page.locator("[data-now=line]").count()
    page.click("button:has-text('Pause')")
    page.wait_for_selector("text=Paused.")
    eye.look("paused")
    page.click("button:has-text('Resume')")
    eye.wait("button:has-text('Pause'):enabled")
    cut_off(address, Path(eye.top))
    page.wait_for_selector("text=The run was cut off")
    eye.look("cut-off")
    page.click("button:has-text('Resume')")
    eye.wait("text=The run is finished")
    eye.look("run")
    eye.show("run")


def pictures(eye) -> None:
    page = eye.page
    page.click("text=On to the pictures")
    page.fill("#number", "100")
    page.click("text=Draw them")
    eye.wait(".pictures")
    eye.look("pictures")
    eye.show("pictures")
    page.click("button:has-text('Judge them')")  # the browser itself asks for the yes
    assert not page.locator("text=Judging …").count()
    page.check("input[name=look]")
    page.click("button:has-text('Judge them')")
    eye.wait("section[aria-label='Private figures']")
    assert "PRIVATE" in page.inner_text("section[aria-label='Private figures']")
    eye.look("judged")
    page.click("button:has-text('On to the statement')")


def hand_over(eye) -> None:
    page = eye.page
    page.fill("#title", "Digits")
    page.click("text=Build it")
    eye.wait("iframe")
    page.check("input[name=read]")
    page.fill("#name", "A. Owner")
    page.click("button:has-text('Sign')")
    eye.wait("text=Signed by A. Owner")
    assert not page.locator("#to").count()  # what was not verified is not sent
    page.click("button:has-text('Verify')")
    eye.wait("text=checks passed")
    eye.show("hand-over", "text=2. Read the statement")
    page.fill("#to", "museum/digits")
    page.click("text=Show what would be sent")
    eye.wait("summary:has-text('What would be sent')")
    page.check("input[name=send]")
    eye.look("hand-over")
    page.check("input[name=send]")
    page.click("button:has-text('Send')")
    eye.wait("text=the hub holds what was verified")
    eye.look("sent")


def project_at(url: str, top: Path) -> Path:
    return top / url.split("/")[3]


def shorten(url: str, top: Path) -> None:
    """The plan of the page, with fewer steps."""
    out = project_at(url, top) / "jobs" / "plan-attention-2" / "stdout"
    few = {"fixes": FEW, "needs": ["--yes-public", "--anyway"]}
    out.write_text(json.dumps(json.loads(out.read_text()) | few))


def cut_off(url: str, top: Path) -> None:
    """As if memory ran out."""
    known = json.loads((project_at(url, top) / "jobs/resume-1/process.json").read_text())
    os.kill(known["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_the_whole_way_with_a_pause_and_a_crash_in_the_middle(way, hub):
    project = project_at(way.page.url, Path(way.top))
    assert list(project.glob("signed-*.json"))
    assert (project / "jobs/adapt-1/ended").read_text() == "75"  # paused
    assert not (project / "jobs/resume-1/ended").exists()  # cut off
    assert (project / "jobs/resume-2/ended").read_text() == "0"
    assert not way.errors  # of scripts, and of the policy of content
    way.page.reload()
    assert way.page.locator("ul.ticks li").count() > 5
    assert way.page.locator("ul.ticks li.bad").count() == 0
    with open(project / "release/README.md", "a") as stream:
        stream.write("Nothing here is private.\n")
    way.page.click("text=Verify again")
    way.page.wait_for_selector("ul.ticks li.bad")
    assert not way.page.locator("text=checks passed").count()
    assert not way.page.locator("#to").count()


@pytest.mark.slow
def test_the_look_and_the_words_of_the_owner_are_in_certificate_and_statement(way):
    release = project_at(way.page.url, Path(way.top)) / "release"
    claim = json.loads((release / "privacy.json").read_text())
    assert claim["looks"]["exact"] == 1
    assert list(claim["public_facts"]["token_starts"].values()) == ["zero"]
    assert "1 look at exact private scores" in (release / "PRIVACY.html").read_text()


@pytest.mark.slow
def test_what_was_verified_is_on_the_hub_and_nothing_else(way, hub):
    release = project_at(way.page.url, Path(way.top)) / "release"
    assert list(hub.repositories) == [("dataset", "museum/digits")]
    sent = hub.repositories["dataset", "museum/digits"]
    assert sent.private
    assert sent.files["privacy.json"] == (release / "privacy.json").read_bytes()
    own = {str(p.relative_to(release)) for p in release.rglob("*") if p.is_file()}
    assert set(sent.files) <= own | {".gitattributes"}


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
    before = page.viewport_size
    page.set_viewport_size(eye.PHONE)  # all odds are seen, without a hidden scroll
    wide = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).length"
    assert page.locator(".scroll").count() == 2
    assert page.locator(".scroll").evaluate_all(wide) == 0
    page.set_viewport_size(before)
    eye.press("Promise this")
    page.wait_for_url("**/plan")
    page.fill("[name=own_time]", "2min")
    page.check("[name=time][value='20min']")
    assert page.input_value("[name=own_time]") == ""
    page.fill("[name=folder]", "/models")
    assert page.input_value("[name=base]:checked") == "own"


@pytest.mark.parametrize(
    "name, said",
    [
        ("nowhere", "Nothing is there: check the spelling"),
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
