"""What made somebody stop who saw the page for the first time."""

from __future__ import annotations

import json

from sfumato.web import commands

from .answers import LOOKED, PLANNED, done, opened
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


EARLIER = 6.0858061945018455e-06


def test_the_delta_of_earlier_runs_is_proposed_and_kept_to_the_last_digit(planned):
    browser, project, begun = planned
    one = opened(browser, project)
    one.change(one.version, delta=None)
    done(browser, project, "spent", commands.spent(one), {"runs": 1, "delta": EARLIER})
    page = browser.get(f"/{project}/promise").text
    assert f'value="{EARLIER!r}"' in page and "so it stays" in page
    other = browser.post(f"/{project}/do/promise", epsilon=4, delta="1e-05")
    assert other.status_code == 400 and repr(EARLIER) in other.text
    browser.post(f"/{project}/do/promise", epsilon="4.1234567", delta=repr(EARLIER))
    browser.post(f"/{project}/do/plan", base="icons", method="lora", time="5min")
    argv = begun[-1][1]
    assert argv[argv.index("--delta") + 1] == repr(EARLIER)
    assert argv[argv.index("--epsilon") + 1] == "4.1234567"
    browser.post(f"/{project}/do/cap", cap="9.87654321")
    assert "9.87654321" in begun[-1][1]


def test_a_delta_that_was_promised_before_the_ledger_answered_is_marked(planned):
    browser, project, _ = planned
    browser.post(f"/{project}/do/promise", epsilon=4, delta="1e-05")
    spent = commands.spent(opened(browser, project))
    done(browser, project, "spent", spent, {"runs": 1, "delta": EARLIER})
    page = browser.get(f"/{project}/promise").text
    assert 'value="1e-05"' in page and "would refuse the run" in page and repr(EARLIER) in page


def test_a_plan_that_the_ledger_refuses_leads_back_and_not_to_the_run(planned):
    browser, project, _ = planned
    place = browser.studio.top / project / "jobs" / "plan-lora-1" / "stdout"
    assert "On to the run" in browser.get(f"/{project}/plan").text
    told = {"refused": "the cap is 3", "remarks": ["adapt will refuse: the cap is 3", "a word"]}
    place.write_text(json.dumps(PLANNED | told))
    page = browser.get(f"/{project}/plan").text
    assert "On to the run" not in page and "Back to the promise" in page
    assert page.count("the cap is 3") == 1 and "a word" in page


def test_of_two_times_the_one_that_was_given_last_counts(planned):
    browser, project, begun = planned

    def time_of(**form):
        browser.post(f"/{project}/do/plan", base="icons", method="lora", **form)
        argv = begun[-1][1]
        return argv[argv.index("--time") + 1]

    assert time_of(time="5min", own_time="2min") == "2min"  # 5min is only proposed
    assert time_of(own_time="2min") == "2min"
    assert time_of(time="5min", own_time="2min") == "5min"  # 2min was kept, 5min chosen since


def test_a_folder_of_a_base_is_not_passed_over(planned, tmp_path):
    browser, project, begun = planned
    before = len(begun)
    answer = browser.post(
        f"/{project}/do/plan", base="icons", folder=str(tmp_path), method="lora", time="5min"
    )
    assert answer.status_code == 400 and "another base" in answer.text and len(begun) == before


def test_a_folder_that_the_owner_named_at_the_start_is_in_the_field(make):
    browser = make().enter()
    (root,) = browser.studio.roots.roots
    project = browser.project()
    assert f'value="{root}"' in browser.get(f"/{project}/images").text
    browser.studio.roots.named = False  # the home folder
    page = browser.get(f"/{project}/images").text
    assert f'value="{root}"' not in page and f"{root}/scans" in page
