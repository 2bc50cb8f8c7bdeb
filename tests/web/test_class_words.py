"""Words for the classes: proposed, answered, run, and refused in a line."""

from __future__ import annotations

import json
import re

from sfumato.web import class_words
from sfumato.web.commands import images

from .answers import LOOKED, PLANNED, opened

WORDS = [
    {"name": "a", "prompt": "a", "token": None, "start": None, "proposed": None},
    {"name": "b", "prompt": "<b>", "token": "<b>", "start": None, "proposed": "cross"},
]


def field(page: str, name: str) -> str:
    """What stands in a field that has a label."""
    assert f'<label for="{name}">' in page
    return re.findall(rf'id="{name}" name="{name}" [^>]*value="([^"]*)"', page)[0]


def worded(planned, words=WORDS):
    """The project with a plan that says what each class is told."""
    browser, project, begun = planned
    place = browser.studio.top / project / "jobs" / "plan-lora-1" / "stdout"
    place.write_text(json.dumps(PLANNED | {"words": words}))
    return browser, project, begun


def test_each_class_has_a_row_with_what_it_is_told_and_what_its_name_suggests(planned):
    browser, project, _ = worded(planned)
    page = browser.get(f"/{project}/plan").text
    assert "the model is told “a”." in page and '<details id="words" open>' in page
    assert "“&lt;b&gt;”, where &lt;b&gt; is a new word that starts from nothing" in page
    assert (field(page, "like-0"), field(page, "like-1")) == ("", "cross")
    assert field(page, "prompt-0") == "" and "These words are public" in page
    assert "--init" not in page  # proposed is not asked
    # asked before the way on, which a name that tells the base nothing would make a poor one
    assert page.index('id="words"') < page.index("On to the run")
    plain = [one | {"token": None, "proposed": None} for one in WORDS]
    page = browser.get(f"/{worded(planned, plain)[1]}/plan").text
    assert page.index("On to the run") < page.index('<details id="words">')  # it knows them all


def test_the_words_of_an_owner_are_planned_anew_and_run(planned):
    browser, project, begun = worded(planned)
    given = {"like-1": "a cross", "prompt-0": "an ‘a’", "prompt-1": ""}
    page = browser.post(f"/{project}/do/words", **given)
    assert page.status_code == 200, page.text
    name, argv = begun[-1]
    told = ["--prompt", "a=an ‘a’", "--prompt", "b={class}", "--init", "b=a cross"]
    assert name == "plan-lora" and argv[argv.index("--prompt") :][:6] == told
    assert "--init &#39;b=a cross&#39;" in page.text  # the command line, to copy
    assert field(page.text, "like-1") == "a cross" and field(page.text, "prompt-0") == "an ‘a’"
    late = browser.post(f"/{project}/do/run", public="yes")  # the plan was made without them
    assert late.status_code == 400 and "no plan for these answers" in late.text
    asked = browser.studio.top / project / "jobs" / "plan-lora-1" / "asked.json"
    asked.write_text(json.dumps({"argv": argv, "started": 1}))
    assert browser.post(f"/{project}/do/run", public="yes").status_code == 200
    assert begun[-1][0] == "adapt" and "b=a cross" in begun[-1][1]
    # a template goes where a class has no text of its own, and emptied fields stay empty
    browser.post(f"/{project}/do/plan", base="icons", method="lora", prompt="one {class}")
    assert "b=one {class}" in begun[-1][1]
    page = browser.post(f"/{project}/do/words", **dict.fromkeys(given, "")).text
    assert "--init" not in begun[-1][1] and begun[-1][1].count("--prompt") == 1
    assert field(page, "like-1") == ""


def test_bad_words_are_refused_in_the_line_of_the_page_or_of_the_verb(planned):
    browser, project, begun = worded(planned)
    before = len(begun)
    for wrong in ("-x", "two\nlines", "x" * 121):
        refused = browser.post(f"/{project}/do/words", **{"like-1": wrong})
        assert refused.status_code == 400 and ">B: write one line" in refused.text
    assert len(begun) == before
    browser.post(f"/{project}/do/words", **{"like-1": "banana", "prompt-1": "no place"})
    job = browser.studio.top / project / "jobs" / "plan-lora-1"
    (job / "asked.json").write_text(json.dumps({"argv": begun[-1][1], "started": 1}))
    (job / "ended").write_text("2")
    (job / "stderr").write_text("sfumato: trainable class tokens need {class} in every prompt\n")
    page = browser.get(f"/{project}/plan").text
    assert 'role="alert"' in page and "class tokens need {class} in every prompt" in page
    assert field(page, "like-1") == "banana" and field(page, "prompt-1") == "no place"


def test_words_are_not_asked_where_names_may_not_be_shown_or_are_too_many(planned):
    browser, project, _ = worded(planned)
    look = browser.studio.top / project / "jobs" / "look-1" / "stdout"
    many = {f"class-{n}": 1 for n in range(class_words.MOST + 1)}
    for facts in ({"people": True}, {"classes": many}, {"classes": {"a=b": 1}}):
        look.write_text(json.dumps(LOOKED | facts))
        assert 'id="words"' not in browser.get(f"/{project}/plan").text
        assert browser.post(f"/{project}/do/words", **{"like-0": "x"}).status_code == 400
    look.write_text(json.dumps(LOOKED | {"classes": dict(list(many.items())[:-1])}))
    full = {f"{kind}-{n}": "x" for kind in ("like", "prompt") for n in range(class_words.MOST)}
    assert browser.post(f"/{project}/do/words", **full).status_code == 200  # a form may be so long


def test_words_are_forgotten_with_the_classes_that_they_were_for(planned):
    browser, project, _ = worded(planned)
    browser.post(f"/{project}/do/words", **{"like-0": "x", "prompt-1": "y"})
    assert opened(browser, project).said("init") == {"a": "x"}
    browser.post(f"/{project}/do/folder", images=images(opened(browser, project)))
    assert opened(browser, project).said("init") is None
    assert opened(browser, project).said("prompts") is None
