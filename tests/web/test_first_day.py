"""What made somebody stop who saw the page for the first time."""

from __future__ import annotations

import json

from sfumato.web import commands

from .answers import LOOKED, done, opened
from .conftest import ORIGIN


def test_the_delta_on_the_page_is_the_one_that_is_run(planned):
    browser, project, begun = planned
    looked = browser.studio.top / project / "jobs" / "look-1" / "stdout"
    looked.write_text(json.dumps(LOOKED | {"n_units": 3000}))
    assert 'value="6.08e-06"' in browser.get(f"/{project}/promise").text
    browser.post(f"/{project}/do/promise", epsilon=4, delta="6.08e-06")
    browser.post(f"/{project}/do/plan", base="icons", method="lora", time="5min")
    argv = begun[-1][1]
    assert argv[argv.index("--delta") + 1] == "6.08e-06"


def test_what_was_refused_leads_back_to_the_screen_and_names_no_path(planned):
    browser, project, _ = planned
    refused = browser.client.post(
        f"/{project}/do/folder",
        data={"images": "/etc", "version": "0"},
        headers={"origin": ORIGIN, "referer": f"{ORIGIN}/{project}/images"},
    )
    assert refused.status_code == 400 and "/etc" not in refused.text
    assert f'href="/{project}/images"' in refused.text and ">That lies outside" in refused.text
    assert str(browser.studio.roots.roots[0]) in browser.get(f"/{project}/images").text
    away = browser.post(f"/{project}/do/draw", number=0).text  # no word of where it came from
    assert f'href="/{project}/run"' in away


def test_the_ledger_as_it_was_before_the_run_is_not_shown_after_it(planned):
    browser, project, _ = planned
    done(browser, project, "spent", commands.spent(opened(browser, project)), {"runs": []})
    before = browser.get(f"/{project}/promise").text
    assert "Nothing was ever charged" in before and "ask it again" not in before
    done(browser, project, "adapt", ["adapt"])
    after = browser.get(f"/{project}/promise").text
    assert "ask it again" in after and "Nothing was ever charged" not in after


def test_the_first_look_is_the_loud_button_and_a_second_one_is_not(planned):
    browser, project, _ = planned
    assert 'class="quiet">Look into this folder' in browser.get(f"/{project}/images").text
    assert "&#34;quiet" not in browser.get(f"/{project}/images").text
    fresh = browser.project()
    assert "<button>Look into it" in browser.get(f"/{fresh}/images").text


def test_a_folder_that_names_nobody_says_how_people_can_be_protected(planned):
    browser, project, _ = planned
    two = browser.get(f"/{project}/images").text
    assert "Whose images are they?" in two and "only choice" not in two
    asked = LOOKED["questions"]
    alone = asked | {"unit": asked["unit"] | {"choices": [["image", "x"]]}}
    place = browser.studio.top / project / "jobs" / "look-1" / "stdout"
    place.write_text(json.dumps(LOOKED | {"questions": alone}))
    assert "only choice" in browser.get(f"/{project}/images").text


def test_a_page_of_a_verb_has_no_link_that_its_box_refuses(planned):
    browser, project, _ = planned
    release = opened(browser, project).release
    release.mkdir()
    for name in ("PRIVACY.html", "report.html"):
        text = '<p><a href="report.html#words">report.html</a>, <a href="#b">b</a></p>'
        (release / name).write_text(text)
    for name in ("statement", "report"):
        page = browser.get(f"/{project}/page/{name}").text
        assert page == '<p>report.html, <a href="#b">b</a></p>'
    assert 'href="report.html' in (release / "PRIVACY.html").read_text()


def test_no_judging_command_is_shown_before_there_are_images_to_judge_on(planned, tmp_path):
    browser, project, _ = planned
    one = opened(browser, project)
    (one.run / "model").mkdir(parents=True)
    (one.release / "train").mkdir(parents=True)
    rows = "".join(json.dumps({"file_name": f"{n}.png", "label": "a"}) + "\n" for n in range(9))
    (one.release / "metadata.jsonl").write_text(rows)
    page = browser.get(f"/{project}/pictures").text
    assert "sfumato evaluate" not in page and "8 of the 9 synthetic pictures" in page
    assert 'href="#hand-over"' in page
    one.change(one.version, test=str(tmp_path))
    assert f"--test {tmp_path}" in browser.get(f"/{project}/pictures").text
