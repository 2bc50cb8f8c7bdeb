"""What each screen shows: answers, jobs and results of a project, in the order of the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import class_words, commands, digits, jobs, results, standing
from .commands import CLASSES, IMAGE, STYLE, TOKEN
from .jobs import Job
from .project import Project, all_projects
from .words import GROUPS, RATES, odds_in_words, proposed_delta, stage

SCREENS = {
    "images": "Images",
    "promise": "Promise",
    "plan": "Plan",
    "run": "Run",
    "pictures": "Pictures",
    "hand-over": "Hand over",
}
ANSWERS = (
    "images", "what", "unit", "labels", "dicom", "aside", "epsilon", "delta", "base", "method",
    "time", "prompt", "anchor", "bad", "number", "test", "hand",
)  # fmt: skip
# Stops of the slider, about a tenth apart.
STOPS = (
    0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20,
)  # fmt: skip
TIMES = {"1min": "1 minute", "5min": "5 minutes", "20min": "20 minutes", "1h": "1 hour"}
TIMES |= {"3h": "3 hours"}
REASONS = {
    "attention": "the usual start: the layers in which pictures and words meet",
    "lora": "fewer trained numbers, so less noise in all: worth a look where images are few",
    "full": "all weights: the most noise, for many images and small bases",
    "saliency": "a noisy question first chooses the layers: part of the cost",
    "loda": "like lora, with a bend in the middle",
    "embedding": "only the vectors of the class words",
    TOKEN: "one noisy sum instead of steps: made for a style and few images",
}
OF_CLASSES = [name for name in REASONS if name != TOKEN]


def view(project: Project, screen: str, choices: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template of a screen names."""
    kinds: dict[str, Callable[[Project, dict[str, Any]], dict[str, Any]]] = {
        "images": _images,
        "promise": _promise,
        "plan": _plan,
        "run": _run,
        "pictures": _pictures,
        "hand-over": _hand_over,
    }
    return {
        "project": project,
        "screen": screen,
        "screens": SCREENS,
        "reached": standing.reached(project),
        "fixed": standing.begun(project),
        "a": {**dict.fromkeys(ANSWERS), **project.answers},
        "CLASSES": CLASSES,
        "IMAGE": IMAGE,
        "bundled": project.said("images") == str(project.folder.parent / digits.FOLDER),
        **kinds[screen](project, choices),
    }


def _images(project: Project, _: dict[str, Any]) -> dict[str, Any]:
    if not project.said("images"):
        return {"job": None, "facts": None, "sheet": None}
    argv = commands.look(project)
    job = jobs.current(project.folder, "look", argv)
    sheet = jobs.latest(project.folder, "sheet")
    if sheet is not None and list(sheet.argv) != commands.sheet(project, sheet.number):
        sheet = None  # of another folder
    return {
        "job": job,
        "facts": None if job is None else job.facts(),
        "command": jobs.shell(argv),
        "sheet": sheet,
        "sheet_command": sheet.command if sheet else jobs.shell(commands.sheet(project, 1)),
        "split": jobs.latest(project.folder, "split"),
    }


def _promise(project: Project, _: dict[str, Any]) -> dict[str, Any]:
    spent = jobs.current(project.folder, "spent", commands.spent(project))
    others = all_projects(project.folder.parent)
    late = spent is not None and any(standing.charges_after(one, spent.started) for one in others)
    if late and spent is not None and spent.state != jobs.RUNNING:
        spent = None  # it knows nothing of that run
    own = None if spent is None else spent.facts()
    known = project.said("delta") or (own or {}).get("delta")
    delta = known or proposed_delta(_n_units(project))
    return {
        "late": late and spent is None,
        "delta": delta,
        "stops": STOPS,
        "said": odds_in_words(project.said("epsilon") or 4.0, delta),
        "all": {f"{stop:g}": odds_in_words(stop, delta) for stop in STOPS},
        "rates": [f"{100 * rate:g} %" for rate in RATES],
        "groups": GROUPS,
        "spent": spent,
        "none_spent": spent is not None and "there is no ledger yet" in spent.error(),
        "own": own,
        "cap": _cap_of(project),
        "command": jobs.shell(commands.spent(project)),
    }


def _cap_of(project: Project) -> Job | None:
    """The newest job that capped these images."""
    job = jobs.latest(project.folder, "cap")
    said = None if job is None else commands.cap(project, float(job.argv[3]))
    return job if job is not None and list(job.argv) == said else None


def _n_units(project: Project) -> int:
    found = results.looked(project).get("n_units")
    return found if isinstance(found, int) else 0


def _plan(project: Project, choices: dict[str, Any]) -> dict[str, Any]:
    style = project.said("what") == STYLE
    methods = [TOKEN] if style else OF_CLASSES
    rows: list[dict[str, Any]] = []
    if project.said("base"):
        for name in methods:
            job = standing.plan_job(project, name)
            row = {"name": name, "job": job, "facts": None, "why": REASONS[name]}
            rows.append(row | ({"facts": job.facts()} if job else {}))
    chosen, found = project.said("method") or methods[0], standing.planned(project)
    words = class_words.rows(project, found) if project.said("method") else []
    return {
        "words": words,
        "worded": class_words.answered(project),
        "strange": any(row.token and not row.start for row in words),
        "bases": choices.get("bases", {}),
        "lines": choices.get("methods", {}),
        "methods": methods,
        "reasons": REASONS,
        "rows": rows,
        "chosen": chosen,
        "found": found,
        "odds": results.in_percent((found or {}).get("odds") or {}),
        "times": TIMES,
        "busy": any(row["job"] and row["job"].state == jobs.RUNNING for row in rows),
        "command": jobs.shell(commands.plan(project, chosen)) if project.said("base") else "",
    }


def _run(project: Project, _: dict[str, Any]) -> dict[str, Any]:
    found, job = standing.planned(project), standing.running(project)
    said = [] if job is None else job.said()
    method = project.said("method")
    would = commands.adapt(project, method, found, True) if found else None
    return {
        "found": found,
        "job": job,
        "state": None if job is None else job.state,
        "pace": results.pace(project),
        "learning": results.learning(project),
        "notes": [one.removeprefix("note: ") for one in said if one.startswith("note: ")][-12:],
        "samples": results.samples(project),
        "first": results.first_sample(project),
        "plan": results.as_json(project.run / "plan.json"),
        "odds": results.odds(project),
        "command": job.command if job else (jobs.shell(would) if would else ""),
        "resume_command": jobs.shell(commands.resume(project)),
    }


def _pictures(project: Project, _: dict[str, Any]) -> dict[str, Any]:
    test = None if project.split.exists() else project.said("test")
    judged = test is not None or project.split.exists()
    gallery = results.gallery(project)
    return {
        "draw": jobs.latest(project.folder, "synthesize"),
        "judge": jobs.latest(project.folder, "evaluate"),
        "export": jobs.latest(project.folder, "export"),
        "gallery": gallery,
        "shown": sum(len(own) for own in gallery.values()),
        "drawn": len(results.rows(project)),
        "public": results.public_row(project),
        "moved": results.moved(project),
        "samples": results.samples(project),
        "others": _others(project),
        "utility": results.utility(project),
        "plan": results.as_json(project.run / "plan.json"),
        "command": jobs.shell(commands.synthesize(project, int(project.said("number") or 100))),
        "judge_command": jobs.shell(commands.evaluate(project, test)) if judged else "",
    }


def _others(project: Project) -> list[dict[str, Any]]:
    """Other finished projects on the same images, with pictures."""
    found: list[dict[str, Any]] = []
    for other in all_projects(project.folder.parent):
        same = other.said("images") == project.said("images") and other.name != project.name
        if same and other.finished and (pictures := results.gallery(other)):
            plan = results.as_json(other.run / "plan.json")
            found.append({"name": other.name, "gallery": pictures, "plan": plan})
    return found[:3]


def _hand_over(project: Project, _: dict[str, Any]) -> dict[str, Any]:
    release, check, dry, push = (
        jobs.latest_on(project.folder, name, project.handed)
        for name in ("release", "verify", "push-dry", "push")
    )
    built = (project.handed / "privacy.json").exists()
    readme = project.handed / "README.md"
    text = readme.read_text("utf-8") if built and readme.exists() else ""
    loading = re.search(r"```python\n(.*?)```", text, re.S)
    passed = check is not None and check.state == jobs.DONE
    return {
        "release": release,
        "check": check,
        "export": jobs.latest(project.folder, "export"),
        "dry": dry,
        "push": push,
        "built": built,
        "ticks": results.ticks(check),
        "passed": passed,
        "loading": loading[1] if loading else "",
        "signed": results.signed(project),
        "command": jobs.shell(commands.release(project, "", "")),
        "check_command": jobs.shell(commands.verify(project)),
    }


def status(project: Project, screen: str) -> dict[str, Any]:
    """What a page that is open asks again and again: small, and read from a few files."""
    names = (
        "look",
        "sheet",
        "split",
        "spent",
        "cap",
        *(f"plan-{name}" for name in REASONS),
        "synthesize",
        "evaluate",
        "export",
        "release",
        "verify",
        "push-dry",
        "push",
    )
    newest = [one for name in names if (one := jobs.latest(project.folder, name))]
    run = standing.running(project)
    if run is not None:
        newest.append(run)
    active = [job for job in newest if job.state == jobs.RUNNING]
    parts = [f"{job.name}-{job.number}-{job.state}" for job in newest]
    if screen == "run":
        parts += [str(len(results.samples(project))), str(results.learning(project))]
    return {
        "tag": ",".join(parts),
        "busy": bool(active),
        "line": stage(active[-1].line()) if active else "",
        "pace": vars(results.pace(project)),
    }
