"""What lies in a run and a release folder, as the screens show it: read, never computed.

Only files that verbs made of public things or of noised results are opened, and the private pages
that an owner asks for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..pages.odds import percent_up
from . import commands, jobs
from .jobs import Job
from .project import Project

SHEET = re.compile(r"step-(\d{6})\.png")
TICK = re.compile(r"(ok  |FAIL)  (.*)")
DRAFT = "synthesis.json"
PER_CLASS, CLASSES = 8, 40  # pictures of the gallery


@dataclass(frozen=True)
class Pace:
    """Where a run stands, by its last words."""

    step: int = 0
    steps: int = 0
    epsilon: float = 0.0
    target: float = 0.0
    rate: str = ""
    left: str = ""


def pace(project: Project) -> Pace:
    """As the run's own page has it (`adapt` writes it); zeros before the first step."""
    found = as_json(project.run / "progress.json")
    try:
        if not found.get("step"):
            return Pace()
        rate = "" if found["rate"] is None else f"{found['rate']:.1f}"
        of = float(found["of"])  # as charged; what is spent so far is never said to be less
        spent = min(math.ceil(100 * float(found["epsilon"])) / 100, of)
        over = found["ended"] and (project.finished or int(found["step"]) >= int(found["steps"]))
        left = "none" if over else "" if found["ended"] else str(found["left"] or "")
        return Pace(int(found["step"]), int(found["steps"]), spent, of, rate, left)
    except (KeyError, TypeError, ValueError):
        return Pace()


def learning(project: Project) -> bool:
    """Whether the run is past its charge: from then on it can be stopped and go on."""
    return (project.run / "progress.json").exists()


def as_json(path: Path) -> dict[str, Any]:
    """A small JSON file; nothing for one that is not there."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def looked(project: Project) -> dict[str, Any]:
    """What `inspect` found in the folder, as it is read now; nothing before it is done."""
    job = jobs.current(project.folder, "look", commands.look(project))
    return (job.facts() or {}) if job is not None else {}


def samples(project: Project) -> list[tuple[int, str]]:
    """(Step, file) of the sheets that the run has drawn, newest first."""
    folder = project.run / "samples"
    found = sorted(folder.glob("step-*.png"), reverse=True) if folder.is_dir() else []
    return [(int(m[1]), one.name) for one in found if (m := SHEET.fullmatch(one.name))]


def first_sample(project: Project) -> int | None:
    """The step after which the first of them is drawn; None for a run that draws none."""
    how = as_json(project.run / "options.json").get("performance")
    every = how.get("samples_every") if isinstance(how, dict) else None
    steps = as_json(project.run / "plan.json").get("steps")
    usable = isinstance(every, int) and isinstance(steps, int) and 0 < every <= steps
    return every if usable else None


def gallery(project: Project) -> dict[str, list[tuple[int, str]]]:
    """Class -> (line of the table, file) of some pictures of the release."""
    found: dict[str, list[tuple[int, str]]] = {}
    for number, row in enumerate(rows(project)):
        own = found.setdefault(str(row.get("label", "")), [])
        if len(own) < PER_CLASS and len(found) <= CLASSES:
            own.append((number, str(row["file_name"])))
    return {name: own for name, own in sorted(found.items()) if own}


def rows(project: Project) -> list[dict[str, Any]]:
    """The table of the release's pictures."""
    try:
        with open(project.release / "metadata.jsonl", encoding="utf-8") as stream:
            return [json.loads(line) for line in stream]
    except (OSError, ValueError):
        return []


def public_row(project: Project) -> dict[str, list[tuple[str, int]]]:
    """Class -> (kind, number) of what the public base alone draws, for addresses of pictures.

    Of a draft with the same seeds as its own pictures; else of the run's first sheet of samples.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    drawn, table = _base_pictures(project), rows(project)
    for number, row in enumerate(table):
        if str(row.get("seed")) in drawn:
            found.setdefault(str(row.get("label")), []).append(("base", number))
    if not found and table:  # a token has one class
        row = [("anchor", number) for number, _ in enumerate(_anchors(project))]
        found = {str(table[0].get("label")): row} if row else {}
    if not found:
        labels = as_json(project.run / "samples" / "public" / "labels.json")
        for name, label in labels.items():
            found.setdefault(str(label), []).append(("public", int(name)))
    return {label: row[:PER_CLASS] for label, row in found.items()}


def of_draft(project: Project, kind: str, number: int) -> bytes | None:
    """A PNG of the public base from the draft of a release; None where there is none."""
    if kind == "anchor":
        found = dict(enumerate(_anchors(project))).get(number)
    else:
        table = rows(project)
        seed = str(table[number].get("seed")) if number < len(table) else ""
        found = _base_pictures(project).get(seed)
    try:
        return base64.b64decode(found, validate=True) if isinstance(found, str) else None
    except ValueError:
        return None


def moved(project: Project) -> bool:
    """Whether the drawn pictures were moved to the run's noisy class moments."""
    facts = as_json(project.release / DRAFT).get("certificate")
    drawn = facts.get("synthesis") if isinstance(facts, dict) else None
    return isinstance(drawn, dict) and "class_moments" in drawn


def _base_pictures(project: Project) -> dict[str, Any]:
    found = as_json(project.release / DRAFT).get("base_pictures")
    return found if isinstance(found, dict) else {}


def _anchors(project: Project) -> list[Any]:
    controls = as_json(project.release / DRAFT).get("controls")
    pictures = controls.get("pictures") if isinstance(controls, dict) else None
    found = pictures.get("anchor") if isinstance(pictures, dict) else None
    return found if isinstance(found, list) else []


def ticks(job: Job | None) -> list[tuple[bool, str]]:
    """(Passed, what) of every check of `verify`."""
    lines = [] if job is None else job.out().splitlines()
    return [(m[1] == "ok  ", m[2]) for line in lines if (m := TICK.fullmatch(line))]


def signed(project: Project) -> dict[str, Any]:
    """Who signed the statement that is there now; nothing where nobody did."""
    try:
        own = hashlib.sha256((project.handed / "privacy.json").read_bytes()).hexdigest()
    except OSError:
        return {}
    found = (as_json(place) for place in sorted(project.folder.glob("signed*.json")))
    return next((one for one in found if one.get("sha256") == own), {})


def odds(project: Project) -> dict[str, str]:
    """Share wrongly accused -> share found at most, in percent, as priced before the charge."""
    found = as_json(project.run / "prices.json").get("attack_success", {})
    return in_percent(found)


def in_percent(found: Mapping[str, float]) -> dict[str, str]:
    """The same bounds as texts, never smaller than they are."""
    return {f"{100 * float(rate):g} %": percent_up(100 * share) for rate, share in found.items()}


def utility(project: Project) -> dict[str, Any]:
    """The figures of the last evaluation. PRIVATE."""
    return as_json(project.run / "evaluation" / "utility.json")
