"""What the forms of the first three screens do: answers, looks and plans. Nothing is spent here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import class_words, commands, digits, forms, jobs, results, screens
from .checks import Form, require_free, require_images, require_shown, version
from .forms import Wrong
from .project import Project
from .words import exact

if TYPE_CHECKING:
    from .app import Studio


def folder(studio: Studio, project: Project, form: Form) -> str:
    """Where the images lie; what was answered about others is forgotten."""
    require_free(project)
    place = studio.roots.place(form.get("images", ""))
    if place.resolve() in (project.folder, *project.folder.parents):
        raise Wrong("that folder holds the studio's own projects: name the folder of the images")
    return _look_at(project, str(place), form)


def bundled(studio: Studio, project: Project, form: Form) -> str:
    """The bundled digits, to try everything; they are public."""
    require_free(project)
    known = {"prompt": digits.TEXT, "base": digits.SUITED}
    return _look_at(project, str(digits.unpack(studio.top)), form, **known)


def _look_at(project: Project, images: str, form: Form, **known: str) -> str:
    gone = ("unit", "what", "labels", "dicom", "epsilon", "delta", "method", "base", "test")
    gone += ("prompt", "prompts", "init", "anchor", "aside", "bad", "time")
    said = {**dict.fromkeys(gone), **known, "images": images}
    project = project.change(version(project, form), **said)
    project.split.unlink(missing_ok=True)
    jobs.instead(project.folder, "look", commands.look(project))
    return "images"


def look(studio: Studio, project: Project, form: Form) -> str:
    """Once more, as it is read now."""
    require_images(project)
    jobs.instead(project.folder, "look", commands.look(project))
    return "images"


def sheet(studio: Studio, project: Project, form: Form) -> str:
    """Thumbnails, because somebody asked for them."""
    require_images(project)
    before = jobs.latest(project.folder, "sheet")
    number = 1 if before is None else before.number + 1
    jobs.start(project.folder, "sheet", commands.sheet(project, number))
    return "images"


def answers(studio: Studio, project: Project, form: Form) -> str:
    """What the pictures are and who is protected."""
    require_free(project)
    said = _answered(project, form)
    changed = {n: v for n, v in said.items() if project.said(n) != v}
    if "labels" in changed:  # other classes
        said |= {"prompts": None, "init": None}
    before = project
    project = project.change(version(project, form), **said)
    if changed and before.split.exists():
        before.split.unlink(missing_ok=True)
    if said["aside"] and not project.split.exists():
        jobs.instead(project.folder, "split", commands.set_apart(project))
    if commands.look(before) != commands.look(project):
        jobs.instead(project.folder, "look", commands.look(project))
        jobs.instead(project.folder, "spent", commands.spent(project))
        return "images"
    jobs.instead(project.folder, "spent", commands.spent(project))
    return "promise"


def promise(studio: Studio, project: Project, form: Form) -> str:
    """How much may be learned of any one of them."""
    require_free(project)
    epsilon = forms.number(form, "epsilon", 0.01, 100)
    delta = forms.number(form, "delta", 1e-12, 0.01) if form.get("delta") else None
    charged = _charged_delta(project)
    if charged and delta and delta != charged:
        raise Wrong(_one_delta(charged))
    project.change(version(project, form), epsilon=epsilon, delta=delta)
    return "plan"


def _charged_delta(project: Project) -> float | None:
    """The delta of earlier runs on these images, as far as the ledger was asked."""
    job = jobs.current(project.folder, "spent", commands.spent(project))
    return None if job is None else (job.facts() or {}).get("delta")


def _one_delta(charged: float) -> str:
    return (
        f"delta: earlier runs on these images have {exact(charged)}, and costs with different ones"
        " cannot be added: write that one"
    )


def cap(studio: Studio, project: Project, form: Form) -> str:
    """The most that all runs on these images may ever cost."""
    require_images(project)
    require_shown(project, form)
    jobs.start(project.folder, "cap", commands.cap(project, forms.number(form, "cap", 0.01, 1000)))
    return "promise"


def spent(studio: Studio, project: Project, form: Form) -> str:
    """Ask the ledger once more."""
    require_images(project)
    jobs.instead(project.folder, "spent", commands.spent(project))
    return "promise"


def plan(studio: Studio, project: Project, form: Form) -> str:
    """Base, time and method; the plan is made in a process of its own."""
    require_free(project)
    if not project.said("epsilon"):
        raise Wrong("the promise comes first: choose an epsilon")
    method = forms.one_of(form, "method", screens.REASONS)
    base, place = form.get("base", ""), form.get("folder", "").strip()
    if place and base != "own" and place != project.said("base"):
        raise Wrong("a folder is written there, and another base is chosen: choose the folder too")
    if base == "own":
        base = str(studio.roots.place(place))
    elif base not in studio.choices().get("bases", {}):
        raise Wrong("choose a base: the public model that the run starts from")
    limit = _time(project, form)
    if limit:
        forms.shaped({"time": limit}, "time", forms.TIME, "20min or 1h")
    prompt = forms.words(form, "prompt")
    chosen = {"base": base, "method": method, "time": limit or None, "prompt": prompt or None}
    chosen["anchor"] = forms.words(form, "anchor") or None
    return _plan_as(project.change(version(project, form), **chosen), method)


def words(studio: Studio, project: Project, form: Form) -> str:
    """What the classes look like, in public words; the plan is made anew with them."""
    require_free(project)
    method = project.said("method")
    if not method or not project.said("base"):
        raise Wrong("choose a base and a method first")
    said = class_words.read(project, form)
    return _plan_as(project.change(version(project, form), **said), method)


def _time(project: Project, form: Form) -> str:
    """A time that was written beats a proposed one; a kept one yields to one chosen since."""
    own, proposed = form.get("own_time", "").strip(), form.get("time", "")
    return proposed if proposed and own == project.said("time") else own or proposed


def compare(studio: Studio, project: Project, form: Form) -> str:
    """The same for another method, beside the chosen one."""
    require_free(project)
    method = forms.one_of(form, "method", screens.REASONS)
    if not project.said("base"):
        raise Wrong("choose a base first")
    # a page that shows an earlier plan of this method is none of this one's
    return _plan_as(project.change(version(project, form)), method)


def choose(studio: Studio, project: Project, form: Form) -> str:
    """Another of the planned methods."""
    require_free(project)
    method = forms.one_of(form, "method", screens.REASONS)
    project.change(version(project, form), method=method)
    return "plan"


def _plan_as(project: Project, method: str) -> str:
    """Plans with today's answers, alone: two plans at once would time each other."""
    for name in screens.REASONS:
        job = jobs.latest(project.folder, f"plan-{name}")
        if job is not None and job.state == jobs.RUNNING:
            raise jobs.Busy
    jobs.start(project.folder, f"plan-{method}", commands.plan(project, method))
    return "plan"


def _looked(project: Project) -> dict[str, Any]:
    require_images(project)
    facts = results.looked(project)
    if not facts:
        raise Wrong("the folder was not looked at yet: wait for it")
    return facts


def _answered(project: Project, form: Form) -> dict[str, Any]:
    """The answers of that form, each one of those that the page offers."""
    facts = _looked(project)
    asked = facts.get("questions")
    if not asked:
        raise Wrong("no image there can be read: see what was found")
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
    kept = True if form.get("aside") else None
    said = {"what": what, "unit": unit, "labels": labels, "aside": kept}
    said["bad"] = True if form.get("bad") else None
    said["dicom"] = True if "DICOM" in facts.get("kinds", {}) else None
    return said
