"""A project: one folder with the owner's answers, the jobs and their results.

Answers are numbered files. A new one is made only if its number is free, so that of two tabs, or
two studios, that change the same answers one is told to look again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"project-[1-9][0-9]{0,5}")
_ANSWERS = re.compile(r"answers-(\d{6})\.json")
KEPT = 5
NOTE = """PRIVATE

This folder belongs to `sfumato studio`. It names private folders and holds what verbs said about
private images. Only `release`, once it is finished and verified, may leave.
"""


class Changed(Exception):
    """The answers were changed meanwhile, in another tab or studio."""


@dataclass(frozen=True)
class Project:
    """One folder below the studio's own.

    Attributes:
        folder: Where it lies.
        version: Number of the answers that were read.
        answers: Name -> answer.
    """

    folder: Path
    version: int
    answers: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As in addresses: it says nothing of the images."""
        return self.folder.name

    @property
    def run(self) -> Path:
        """The private run folder."""
        return self.folder / "run"

    @property
    def release(self) -> Path:
        """What may leave when it is finished."""
        return self.folder / "release"

    @property
    def model(self) -> Path:
        """The adapted model, if that is what leaves."""
        return self.folder / "model"

    @property
    def handed(self) -> Path:
        """What is handed over: pictures, or the model."""
        return self.model if self.said("hand") == "model" else self.release

    @property
    def split(self) -> Path:
        """Which units are set apart for testing."""
        return self.folder / "split.PRIVATE.json"

    @property
    def charged(self) -> bool:
        """Whether a run was begun: from then on the answers stay as they are."""
        return (self.run / "plan.json").exists()

    @property
    def finished(self) -> bool:
        """Whether the run has its model."""
        return (self.run / "model").is_dir()

    def said(self, name: str) -> Any:
        """An answer; None without one."""
        return self.answers.get(name)

    def change(self, version: int, **answers: Any) -> Project:
        """The project with other answers; None takes one back.

        Raises:
            Changed: `version` is not the newest.
        """
        if version != self.version:
            raise Changed
        now = {**self.answers, **answers}
        now = {name: value for name, value in now.items() if value is not None}
        place = self.folder / f"answers-{version + 1:06d}.json"
        if not _write_new(place, now):
            raise Changed
        for old in range(max(0, version - KEPT), version - KEPT + 1):
            (self.folder / f"answers-{old:06d}.json").unlink(missing_ok=True)
        return Project(self.folder, version + 1, now)


def _write_new(place: Path, answers: Mapping[str, Any]) -> bool:
    """Writes them whole or not at all; False where somebody was quicker."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    part = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(part, flags, 0o600), "w") as stream:
            json.dump(answers, stream)
        try:
            os.link(part, place)  # unlike a renaming, it takes nothing's place
        except FileExistsError:
            return False
        except OSError:  # a disk without hard links
            try:
                os.close(os.open(place, flags, 0o600))
            except FileExistsError:
                return False
            os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
    return True


def open_project(top: Path, name: str) -> Project | None:
    """The project of that name; None for one that there is not."""
    if not NAME.fullmatch(name) or not (top / name).is_dir():
        return None
    folder = top / name
    numbers = [int(m[1]) for one in os.listdir(folder) if (m := _ANSWERS.fullmatch(one))]
    for number in sorted(numbers, reverse=True):
        try:
            body = json.loads((folder / f"answers-{number:06d}.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        return Project(folder, number, body if isinstance(body, dict) else {})
    return Project(folder, 0, {})


def all_projects(top: Path) -> list[Project]:
    """Every project, newest first."""
    names = [name for name in os.listdir(top) if NAME.fullmatch(name)] if top.is_dir() else []
    found = [open_project(top, name) for name in names]
    return sorted((p for p in found if p), key=lambda p: -int(p.name.split("-")[1]))


def new_project(top: Path) -> Project:
    """A new, empty one."""
    top.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = max((int(p.name.split("-")[1]) for p in all_projects(top)), default=0) + 1
    while True:
        folder = top / f"project-{number}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            continue
        (folder / "PRIVATE").write_text(NOTE, "utf-8")
        return Project(folder, 0, {})
