"""What the forms of a project do: keep an answer, or start a verb in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from . import commands, digits, forms, jobs, results, screens
from .forms import Wrong
from .project import Changed, Project

if TYPE_CHECKING:
    from .app import Studio

Form = Mapping[str, str]
Action = Callable[["Studio", Project, Form], str]
SPENT = "the run was started, and its answers stay as they are: begin a new project to change them"


def folder(studio: Studio, project: Project, form: Form) -> str:
    """Where the images lie; what was answered about others is forgotten."""
    _require_free(project)
    place = studio.roots.place(form.get("images", ""))
    if place.resolve() in (project.folder, *project.folder.parents):
        raise Wrong("that folder holds the studio's own projects: name the folder of the images")
    return _look_at(project, str(place), form)


def bundled(studio: Studio, project: Project, form: Form) -> str:
    """The bundled digits, to try everything; they are public."""
    _require_free(project)
    known = {"prompt": digits.TEXT, "base": digits.SUITED}
    return _look_at(project, str(digits.unpack(studio.top)), form, **known)


def _look_at(project: Project, images: str, form: Form, **known: str) -> str:
    gone = ("unit", "what", "labels", "dicom", "epsilon", "delta", "method", "base", "test")
    gone += ("prompt", "aside", "time")
    said = {**dict.fromkeys(gone), **known, "images": images}
    project = project.change(_version(project, form), **said)
    project.split.unlink(missing_ok=True)
    jobs.instead(project.folder, "look", commands.look(project))
    return "images"


def look(studio: Studio, project: Project, form: Form) -> str:
    """Once more, as it is read now."""
    _require_images(project)
    jobs.instead(project.folder, "look", commands.look(project))
    return "images"


def sheet(studio: Studio, project: Project, form: Form) -> str:
    """Thumbnails, because somebody asked for them."""
    _require_images(project)
    before = jobs.latest(project.folder, "sheet")
    number = 1 if before is None else before.number + 1
    jobs.start(project.folder, "sheet", commands.sheet(project, number))
    return "images"


def answers(studio: Studio, project: Project, form: Form) -> str:
    """What the pictures are and who is protected."""
    _require_free(project)
    asked = _questions(project)
    what = forms.one_of(form, "what", [name for name, _ in asked["what"]["choices"]])
    if not form.get("unit"):
        raise Wrong(
            "nobody answered whose images they are: choose who is protected, a picture or"
            " everything of one person"
        )
    unit = forms.one_of(form, "unit", [name for name, _ in asked["unit"]["choices"]])
    labels = None
    if "labels" in asked and what == commands.CLASSES:
        labels = forms.one_of(form, "labels", [name for name, _ in asked["labels"]["choices"]])
    facts = _looked(project)
    kept = True if form.get("aside") else None
    said = {"what": what, "unit": unit, "labels": labels, "aside": kept}
    said["dicom"] = True if "DICOM" in facts.get("kinds", {}) else None
    changed = {n: v for n, v in said.items() if project.said(n) != v}
    before = project
    project = project.change(_version(project, form), **said)
    if changed and before.split.exists():
        before.split.unlink(missing_ok=True)
    if kept and not project.split.exists():
        jobs.instead(project.folder, "split", commands.set_apart(project))
    if commands.look(before) != commands.look(project):
        jobs.instead(project.folder, "look", commands.look(project))
        jobs.instead(project.folder, "spent", commands.spent(project))
        return "images"
    jobs.instead(project.folder, "spent", commands.spent(project))
    return "promise"


def promise(studio: Studio, project: Project, form: Form) -> str:
    """How much may be learned of any one of them."""
    _require_free(project)
    epsilon = forms.number(form, "epsilon", 0.01, 100)
    delta = forms.number(form, "delta", 1e-12, 0.01) if form.get("delta") else None
    own = None if delta == screens.DELTA else delta
    project.change(_version(project, form), epsilon=epsilon, delta=own)
    return "plan"


def cap(studio: Studio, project: Project, form: Form) -> str:
    """The most that all runs on these images may ever cost."""
    _require_images(project)
    jobs.start(project.folder, "cap", commands.cap(project, forms.number(form, "cap", 0.01, 1000)))
    return "promise"


def spent(studio: Studio, project: Project, form: Form) -> str:
    """Ask the ledger once more."""
    _require_images(project)
    jobs.instead(project.folder, "spent", commands.spent(project))
    return "promise"


def plan(studio: Studio, project: Project, form: Form) -> str:
    """Base, time and method; the plan is made in a process of its own."""
    _require_free(project)
    if not project.said("epsilon"):
        raise Wrong("the promise comes first: choose an epsilon")
    method = forms.one_of(form, "method", screens.REASONS)
    base = form.get("base", "")
    if base == "own":
        base = str(studio.roots.place(form.get("folder", "")))
    elif base not in studio.choices().get("bases", {}):
        raise Wrong("choose a base: the public model that the run starts from")
    limit = form.get("own_time", "").strip() or form.get("time", "")
    if limit:
        forms.shaped({"time": limit}, "time", forms.TIME, "20min or 1h")
    prompt = forms.words(form, "prompt")
    chosen = {"base": base, "method": method, "time": limit or None, "prompt": prompt or None}
    project = project.change(_version(project, form), **chosen)
    _plan_alone(project)
    jobs.start(project.folder, f"plan-{method}", commands.plan(project, method))
    return "plan"


def compare(studio: Studio, project: Project, form: Form) -> str:
    """The same for another method, beside the chosen one."""
    _require_free(project)
    method = forms.one_of(form, "method", screens.REASONS)
    if not project.said("base"):
        raise Wrong("choose a base first")
    _plan_alone(project)
    jobs.start(project.folder, f"plan-{method}", commands.plan(project, method))
    return "plan"


def choose(studio: Studio, project: Project, form: Form) -> str:
    """Another of the planned methods."""
    _require_free(project)
    method = forms.one_of(form, "method", screens.REASONS)
    project.change(_version(project, form), method=method)
    return "plan"


def run(studio: Studio, project: Project, form: Form) -> str:
    """The step that spends: only the plan that the page shows, after a yes to what it publishes."""
    if _version(project, form) != project.version:
        raise Changed
    found = screens.planned(project)
    if found is None:
        raise Wrong("there is no plan for these answers: make one first")
    if found.get("refused"):
        raise Wrong("the ledger refuses this run: see the plan")
    if project.run.exists() or screens.started(project) and not _may_begin_again(project):
        raise Wrong("this project has a run already: resume it, or begin a new project")
    if form.get("public") != "yes":
        raise Wrong("say that all of the list may be public: every release would publish it")
    anyway = "--anyway" in found.get("needs", ())
    if anyway and form.get("anyway") != "yes":
        raise Wrong("the forecast is that nothing can be learned: say that you pay all the same")
    argv = commands.adapt(project, project.said("method"), found, anyway)
    jobs.start(project.folder, "adapt", argv)
    return "run"


def _may_begin_again(project: Project) -> bool:
    """A run that was refused before it was charged left no folder."""
    job = screens.running(project)
    return job is None or job.state not in (jobs.RUNNING, jobs.DONE)


def pause(studio: Studio, project: Project, form: Form) -> str:
    """Asks the run to stop at its next step."""
    job = screens.running(project)
    if job is not None and not results.learning(project):
        raise Wrong("a run can be stopped once it is charged and learns: wait for that")
    if job is not None:
        job.stop()
    return "run"


def anew(studio: Studio, project: Project, form: Form) -> str:
    """Puts the folder of a run aside that was cut off before its charge."""
    job = screens.running(project)
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
    job = screens.running(project)
    if not project.charged or project.finished:
        raise Wrong("there is no run to go on with")
    if job is not None and job.state == jobs.RUNNING:
        raise jobs.Busy
    jobs.start(project.folder, "resume", commands.resume(project, *more))
    return "run"


def draw(studio: Studio, project: Project, form: Form) -> str:
    """Pictures of the adapted model; they cost no privacy."""
    _require_finished(project)
    number = forms.whole(form, "number", 1, forms.MOST_PICTURES)
    if project.release.exists():
        raise Wrong("the pictures are drawn already")
    project = project.change(_version(project, form), number=number)
    jobs.start(project.folder, "synthesize", commands.synthesize(project, number))
    return "pictures"


def judge(studio: Studio, project: Project, form: Form) -> str:
    """An exact figure of private images: a look, which certificates count."""
    _require_finished(project)
    if form.get("look") != "yes":
        raise Wrong("say that you know that this is a look: later certificates count it")
    test = None
    if not project.split.exists():
        test = str(studio.roots.place(form.get("test", "")))
        project = project.change(_version(project, form), test=test)
    argv = commands.evaluate(project, test, thorough=form.get("thorough") == "yes")
    jobs.start(project.folder, "evaluate", argv)
    return "pictures"


def hand(studio: Studio, project: Project, form: Form) -> str:
    """Pictures or the model."""
    _require_finished(project)
    kind = forms.one_of(form, "hand", ["pictures", "model"])
    project = project.change(_version(project, form), hand=kind)
    if kind == "model" and not project.model.exists():
        jobs.start(project.folder, "export", commands.export(project))
        return "pictures"
    return "hand-over"


def release(studio: Studio, project: Project, form: Form) -> str:
    """The finished folder."""
    _require_finished(project)
    title, licence = forms.words(form, "title"), forms.words(form, "licence", 40)
    if licence and not forms.LICENCE.fullmatch(licence):
        raise Wrong("licence: write its short name, such as cc-by-4.0")
    jobs.start(project.folder, "release", commands.release(project, title, licence))
    return "hand-over"


def verify(studio: Studio, project: Project, form: Form) -> str:
    """Every hash, and epsilon again."""
    jobs.start(project.folder, "verify", commands.verify(project))
    return "hand-over"


def sign(studio: Studio, project: Project, form: Form) -> str:
    """Who stands by the statement: kept in the project, beside the hash of what was read."""
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
    (project.folder / "signed.json").write_text(json.dumps(body), "utf-8")
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
    check = jobs.latest(project.folder, "verify")
    if check is None or check.state != jobs.DONE:
        raise Wrong("verify the release first: what does not pass is not sent")
    to = forms.shaped(form, "to", forms.HUB, "ORG/NAME")
    argv = commands.push(project, to, dry, form.get("seen") == "public")
    jobs.start(project.folder, "push-dry" if dry else "push", argv)
    return "hand-over"


def _version(project: Project, form: Form) -> int:
    """The answers that the page showed when the form was filled in."""
    return forms.whole(form, "version", 0, 999_999)


def _require_free(project: Project) -> None:
    if project.charged or screens.started(project) and not _may_begin_again(project):
        raise Wrong(SPENT)


def _require_images(project: Project) -> None:
    if not project.said("images"):
        raise Wrong("choose the folder of the images first")


def _require_finished(project: Project) -> None:
    if not project.finished:
        raise Wrong("the run has no model yet")


def _plan_alone(project: Project) -> None:
    """Two plans at once would time each other."""
    for name in screens.REASONS:
        job = jobs.latest(project.folder, f"plan-{name}")
        if job is not None and job.state == jobs.RUNNING:
            raise jobs.Busy


def _looked(project: Project) -> dict:
    _require_images(project)
    job = screens.current(project, "look", commands.look(project))
    facts = None if job is None else job.facts()
    if not facts:
        raise Wrong("the folder was not looked at yet: wait for it")
    return facts


def _questions(project: Project) -> dict:
    found = _looked(project).get("questions")
    if not found:
        raise Wrong("no image there can be read: see what was found")
    return found


ACTIONS: dict[str, Action] = {
    "folder": folder,
    "bundled": bundled,
    "look": look,
    "sheet": sheet,
    "answers": answers,
    "promise": promise,
    "cap": cap,
    "spent": spent,
    "plan": plan,
    "compare": compare,
    "choose": choose,
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
