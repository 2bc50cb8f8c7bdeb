"""What the forms of a run do: train, draw, judge, hand over. Each verb has a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import Reading
from ..options.toml import text_of
from . import asking, commands, forms, jobs, results, standing
from .checks import Form, require_finished, require_shown, version
from .forms import Wrong
from .project import Project

if TYPE_CHECKING:
    from .app import Studio

Action = Callable[["Studio", Project, Form], str]
YES_NOTE = "The class names that the studio showed, and that its owner said may be public."


def run(studio: Studio, project: Project, form: Form) -> str:
    """The step that spends: only the plan that the page shows, after a yes to what it publishes."""
    require_shown(project, form)
    found = standing.planned(project)
    if found is None:
        raise Wrong("there is no plan for these answers: make one first")
    if found.get("refused"):
        raise Wrong("the ledger refuses this run: see the plan")
    if project.run.exists() or standing.begun(project):
        raise Wrong("this project has a run already: resume it, or begin a new project")
    if form.get("public") != "yes":
        raise Wrong("say that all of the list may be public: every release would publish it")
    anyway = "--anyway" in found.get("needs", ())
    if anyway and form.get("anyway") != "yes":
        raise Wrong("the forecast is that nothing can be learned: say that you pay all the same")
    project = project.change(version(project, form))  # no other tab changes answers from here on
    yes = _said_yes(project, found)
    jobs.start(
        project.folder, "adapt", commands.adapt(project, project.said("method"), found, anyway, yes)
    )
    return "run"


def _said_yes(project: Project, found: dict[str, Any]) -> Path | None:
    """A config with the class names on the page: what comes to lie there later has no yes."""
    if commands.YES not in found.get("needs", ()):
        return None
    shown = Reading(yes_public=tuple(found["plan"]["classes"]))
    place = project.folder / "yes.toml"
    part = place.with_suffix(".part")
    made = metadata.version("sfumato")
    part.write_text(text_of({"reading": shown}, made, YES_NOTE), "utf-8")
    part.replace(place)
    return place


def pause(studio: Studio, project: Project, form: Form) -> str:
    """Asks the run to stop at its next step."""
    job = standing.running(project)
    if job is not None and not results.learning(project):
        raise Wrong("a run can be stopped once it is charged and learns: wait for that")
    if job is not None:
        job.stop()
    return "run"


def anew(studio: Studio, project: Project, form: Form) -> str:
    """Puts the folder of a run aside that was cut off before its charge."""
    job = standing.running(project)
    cut = job is not None and job.state == jobs.FAILED and "never charged" in job.error()
    if not cut or project.finished:
        raise Wrong("this run was charged: resume it")
    project.run.rename(project.folder / f"run-not-charged-{time.time_ns()}")
    return "run"


def resume(studio: Studio, project: Project, form: Form) -> str:
    """Goes on at the last checkpoint, at no extra cost."""
    return _go_on(project)


def finish(studio: Studio, project: Project, form: Form) -> str:
    """Trains no more: the last checkpoint is the model. The whole charge stays."""
    return _go_on(project, "--finish-here")


def _go_on(project: Project, *more: str) -> str:
    job = standing.running(project)
    if not project.charged or project.finished:
        raise Wrong("there is no run to go on with")
    if job is not None and job.state == jobs.RUNNING:
        raise jobs.Busy
    jobs.start(project.folder, "resume", commands.resume(project, *more))
    return "run"


def draw(studio: Studio, project: Project, form: Form) -> str:
    """Pictures of the adapted model; they cost no privacy."""
    require_finished(project)
    number = forms.whole(form, "number", 1, forms.MOST_PICTURES)
    if project.release.exists():
        raise Wrong("the pictures are drawn already")
    project = project.change(version(project, form), number=number)
    jobs.start(project.folder, "synthesize", commands.synthesize(project, number))
    return "pictures"


def judge(studio: Studio, project: Project, form: Form) -> str:
    """An exact figure of private images: a look, which certificates count."""
    require_finished(project)
    require_shown(project, form)
    if form.get("look") != "yes":
        raise Wrong("say that you know that this is a look: later certificates count it")
    test = None
    if not project.split.exists():
        test = str(studio.roots.place(form.get("test", "")))
        project = project.change(version(project, form), test=test)
    argv = commands.evaluate(project, test, thorough=form.get("thorough") == "yes")
    jobs.start(project.folder, "evaluate", argv)
    return "pictures"


def hand(studio: Studio, project: Project, form: Form) -> str:
    """Pictures or the model."""
    require_finished(project)
    kind = forms.one_of(form, "hand", ["pictures", "model"])
    project = project.change(version(project, form), hand=kind)
    if kind == "model" and not project.model.exists():
        jobs.start(project.folder, "export", commands.export(project))
        return "pictures"
    return "hand-over"


def release(studio: Studio, project: Project, form: Form) -> str:
    """The finished folder."""
    require_finished(project)
    require_shown(project, form)
    title, licence = forms.words(form, "title"), forms.words(form, "licence", 40)
    if licence and not forms.LICENCE.fullmatch(licence):
        raise Wrong("licence: write its short name, such as cc-by-4.0")
    jobs.start(project.folder, "release", commands.release(project, title, licence))
    return "hand-over"


def verify(studio: Studio, project: Project, form: Form) -> str:
    """Every hash, and epsilon again."""
    require_shown(project, form)
    jobs.start(project.folder, "verify", commands.verify(project))
    return "hand-over"


def sign(studio: Studio, project: Project, form: Form) -> str:
    """Who stands by the statement: kept in the project, beside the hash of what was read."""
    require_shown(project, form)
    name = forms.words(form, "name")
    if not name or form.get("read") != "yes":
        raise Wrong("read the statement, say so, and write your name")
    try:
        claim = (project.handed / "privacy.json").read_bytes()
    except OSError:
        raise Wrong("there is no statement yet: build the release first") from None
    body = {
        "name": name,
        "date": time.strftime("%Y-%m-%d"),
        "sha256": hashlib.sha256(claim).hexdigest(),
    }
    place = project.folder / f"signed-{body['sha256'][:16]}.json"
    place.write_text(json.dumps(body), "utf-8")
    return "hand-over"


def show(studio: Studio, project: Project, form: Form) -> str:
    """Opens the release in the file manager of this machine."""
    if not (project.handed / "privacy.json").exists():
        raise Wrong("there is no release yet")
    opener = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    try:
        subprocess.Popen(
            [opener, str(project.handed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
        )
    except OSError:
        raise Wrong("this machine has no file manager that can be asked: copy the path") from None
    return "hand-over"


def push_dry(studio: Studio, project: Project, form: Form) -> str:
    """What would be sent, and nothing is."""
    return _push(project, form, dry=True)


def push(studio: Studio, project: Project, form: Form) -> str:
    """Sends it: the only step that uses the network."""
    if form.get("send") != "yes":
        raise Wrong("say that these files may leave this machine")
    return _push(project, form, dry=False)


def _push(project: Project, form: Form, dry: bool) -> str:
    require_shown(project, form)
    check = jobs.current(project.folder, "verify", commands.verify(project))
    if check is None or check.state != jobs.DONE:
        raise Wrong("verify the release first: what does not pass is not sent")
    to = forms.shaped(form, "to", forms.HUB, "ORG/NAME")
    argv = commands.push(project, to, dry, form.get("seen") == "public")
    jobs.start(project.folder, "push-dry" if dry else "push", argv)
    return "hand-over"


ACTIONS: dict[str, Action] = {
    "folder": asking.folder,
    "bundled": asking.bundled,
    "look": asking.look,
    "sheet": asking.sheet,
    "answers": asking.answers,
    "promise": asking.promise,
    "cap": asking.cap,
    "spent": asking.spent,
    "plan": asking.plan,
    "words": asking.words,
    "compare": asking.compare,
    "choose": asking.choose,
    "run": run,
    "pause": pause,
    "anew": anew,
    "resume": resume,
    "finish": finish,
    "draw": draw,
    "judge": judge,
    "hand": hand,
    "release": release,
    "verify": verify,
    "sign": sign,
    "show": show,
    "push-dry": push_dry,
    "push": push,
}
