"""From answers to the words of a command line: what the page shows is what runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from .project import Project
from .words import exact

STYLE, CLASSES, IMAGE = "style", "classes", "image"
TOKEN = "inversion"  # the method that learns a style
HELD_OUT = "0.2"
YES = "--yes-public"
QUICK = ["--rows", "synthetic,public_only", "--classifiers", "logistic,cnn", "--seeds", "1"]


def reading(project: Project, *, split: bool = True) -> list[str]:
    """How the images are read."""
    words: list[str] = []
    said = project.said("unit")
    if said == IMAGE:
        words += ["--unit", "file"] if project.said("dicom") else []
    elif said:
        words += ["--unit", str(said)]
    if project.said("what") == STYLE:
        words.append("--unlabelled")
    elif (labels := project.said("labels")) and labels != "folders":
        words += ["--labels", str(labels)]
    if split and project.split.exists():
        words += ["--split", str(project.split)]
    return words


def look(project: Project) -> list[str]:
    """What is in the folder."""
    how = [*reading(project, split=False), *_accepted(project)]
    return ["inspect", images(project), *how, "--json"]


def sheet(project: Project, number: int) -> list[str]:
    """Thumbnails, in a private file of the project."""
    place = str(project.folder / f"sheet-{number}.PRIVATE.png")
    return [
        "inspect",
        images(project),
        *reading(project, split=False),
        "--no-near",
        "--sheet",
        place,
    ]


def spent(project: Project) -> list[str]:
    """What the ledger knows of these images."""
    return ["ledger", "show", images(project), *reading(project, split=False), "--json"]


def cap(project: Project, epsilon: float) -> list[str]:
    """The most that all runs on these images may cost."""
    how = reading(project, split=False)
    return ["ledger", "cap", images(project), exact(epsilon), *how]


def set_apart(project: Project) -> list[str]:
    """One unit in five is kept for testing."""
    how = [*reading(project, split=False), *_accepted(project)]
    return ["split", images(project), *how, "--test", HELD_OUT, "-o", str(project.split)]


def plan(project: Project, method: str) -> list[str]:
    """What a run would promise and cost."""
    return ["plan", *_of_a_run(project, method), *_time(project, method), "--odds", "--json"]


def adapt(
    project: Project, method: str, found: dict[str, Any], anyway: bool, yes: Path | None = None
) -> list[str]:
    """The run that was planned: its steps are fixed as the plan found them.

    Args:
        project: The project.
        method: The method that was chosen.
        found: What `plan` printed.
        anyway: The owner pays for a run that is forecast to learn nothing.
        yes: A config with the class names that the owner said yes to, in place of a yes to
            whatever is found there by then.
    """
    fixed = shlex.split(found.get("fixes") or "")
    needs = [one for one in found.get("needs", ()) if one != "--anyway" or anyway]
    if yes is not None and YES in needs:
        needs[needs.index(YES) : needs.index(YES) + 1] = ["--config", str(yes)]
    return ["adapt", *_of_a_run(project, method), *fixed, *needs, "-o", str(project.run)]


def resume(project: Project, *more: str) -> list[str]:
    """The run goes on, or ends at its last checkpoint (`--finish-here`)."""
    return ["adapt", images(project), "-o", str(project.run), "--resume", *more]


def synthesize(project: Project, number: int) -> list[str]:
    """Pictures of the adapted model."""
    return ["synthesize", str(project.run), "-n", str(number), "-o", str(project.release)]


def export(project: Project) -> list[str]:
    """The adapted model itself."""
    return ["export", str(project.run), "-o", str(project.model)]


def evaluate(project: Project, test: str | None, *, thorough: bool = False) -> list[str]:
    """What they are worth on real images; a look.

    Args:
        project: The project.
        test: The folder of the real images; None for those of the split.
        thorough: All classifiers and seeds, and the private images as a row of their own.
    """
    more = [] if test is None else ["--test", test]
    more += [] if thorough else QUICK
    return ["evaluate", str(project.run), str(project.release), *more]


def release(project: Project, title: str, licence: str) -> list[str]:
    """Certificate, statement and report."""
    words = ["release", str(project.handed)]
    words += ["--title", title] if title else []
    return words + (["--license", licence] if licence else [])


def verify(project: Project) -> list[str]:
    """Every hash, and epsilon again."""
    return ["verify", str(project.handed)]


def push(project: Project, to: str, dry: bool, public: bool) -> list[str]:
    """To a hub."""
    words = ["push", str(project.handed), "--to", to]
    return words + ["--dry-run"] * dry + ["--public"] * public


def images(project: Project) -> str:
    """The private images."""
    return str(project.said("images"))


def _of_a_run(project: Project, method: str) -> list[str]:
    words = [images(project), *reading(project), *_accepted(project)]
    words += ["--epsilon", exact(project.said("epsilon"))]
    if delta := project.said("delta"):
        words += ["--delta", exact(delta)]
    words += _styled(project) if method == TOKEN else _told(project)
    return [*words, "--base", str(project.said("base")), "--method", method]


def _accepted(project: Project) -> list[str]:
    """More files than usual cannot be used, and the owner goes on without them."""
    return ["--max-bad", "1"] if project.said("bad") else []


def _styled(project: Project) -> list[str]:
    """How the new word of a style is told, and the word that it starts from."""
    said = {"--prompt": project.said("prompt"), "--initializer-token": project.said("anchor")}
    return [word for flag, text in said.items() if text for word in (flag, str(text))]


def _told(project: Project) -> list[str]:
    """What the base is told of the classes, and what new words of theirs start from."""
    template, own = project.said("prompt"), project.said("prompts") or {}
    told = [f"{name}={text or template or '{class}'}" for name, text in own.items()]
    told = told or ([str(template)] if template else [])
    started = [f"{name}={text}" for name, text in (project.said("init") or {}).items()]
    return [
        *(word for text in told for word in ("--prompt", text)),
        *(word for text in started for word in ("--init", text)),
    ]


def _time(project: Project, method: str) -> list[str]:
    said = project.said("time")
    return ["--time", str(said)] if said and method != TOKEN else []
