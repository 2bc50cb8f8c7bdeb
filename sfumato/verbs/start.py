"""`start`: six questions about a folder of private images, answered once into `sfumato.toml`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Unpack

from ..bases import own_name
from ..errors import DataError, SfumatoError
from ..options import Options, Privacy, Project, Reading, gather, takes
from ..planning.config import NAME, Config, require_new
from ..planning.task import GROUPS, require_base
from ..records import Diagnosis, Summary
from ..records.frames import FILE
from ..records.sheet import new_place
from .inspect import inspect
from .keywords import StartOptions
from .questions import (
    CLASSES,
    IMAGE,
    STYLE,
    Question,
    lacks_labels,
    of_base,
    of_epsilon,
    of_labels,
    of_number,
    of_results,
    of_time,
    of_unit,
    of_what,
    timed,
)


class Person(Protocol):
    """Whoever answers. `asked`: whether questions without a default reach somebody."""

    asked: bool

    def see(self, found: Summary) -> None:
        """What was found in the folder. PRIVATE."""
        ...

    def answer(self, question: Question) -> Any:
        """An answer that the question accepts."""
        ...


class Nobody:
    """Takes every default."""

    asked = False

    def see(self, found: Summary) -> None:
        """Nobody looks."""

    def answer(self, question: Question) -> Any:
        """The default; SfumatoError where there is none."""
        if question.default is None:
            raise SfumatoError(f"{question.flag} is required: choose {'; '.join(question.lines)}")
        return question.accept(question.default)


@dataclass(frozen=True)
class Started:
    """What `start` wrote, and what it saw. LOCAL: `found` and `sheet` follow from the images.

    Attributes:
        config: As written.
        found: As `inspect` says it, read as answered.
        sheet: What the model will see, as a picture; None where none could be drawn.
    """

    config: Config
    found: Diagnosis
    sheet: Path | None = None


@takes(reading=Reading)
def start(
    images: str | Path,
    *,
    what: str | None = None,
    base: str | Path | None = None,
    epsilon: float | None = None,
    time: str | None = None,
    number: int | None = None,
    results: str | Path | None = None,
    test: str | Path | None = None,
    config: str | Path = NAME,
    force: bool = False,
    person: Person | None = None,
    **options: Unpack[StartOptions],
) -> Started:
    """Look at a folder of private images, ask what is left to ask, and write the answers down.

    Nothing is charged and nothing is published. What is found in the images is only proposed: an
    answer declares it, and `plan` lists it as public like any other option.

    Args:
        images: The private images, as for `inspect`.
        what: "classes" or "style"; default: by the layout.
        base: A bundled base (`bases()`), or a folder in the diffusers format; there is no default.
        epsilon: Privacy budget; default 4.
        time: How long the run may take, such as "20min", where training has steps.
        number: Images to draw; default: by kind and number of the private ones.
        results: The folder of run and release; default: that of the config.
        test: Held-out real images, if there are any.
        config: The file to write.
        force: Replace a config that is there.
        person: Answers what is not given here; None takes the defaults.
        options: Fields of `Reading`, or one as `reading`.

    Returns:
        The config as written, and what was found.

    Raises:
        SfumatoError: A config that is there already, images that cannot be read, an answer that is
            none; nothing is written.
        DataError: No image that can be used.
    """
    path, asks = Path(config), Asking(person or Nobody())
    require_new(path, force)
    given = {of_base(): base, of_epsilon(): epsilon, of_results(): results}
    for question, said in given.items():  # before the time that looking takes
        if said is not None:
            question.accept(str(said))
    if not asks.person.asked:
        require_base(base)
    reading: Reading = gather({"reading": Reading}, options)["reading"]
    unit = reading.unit
    reading = replace(reading, unit=None if unit == IMAGE else unit)
    found = inspect(images, near=False, reading=reading)
    asks.person.see(found)
    if not found.usable:
        raise DataError("no image there can be used: see what `sfumato inspect` says of them")
    kind = asks.settle(of_what(found), what)
    read_as = _reading(asks, found, kind, reading, unit)
    if read_as != reading:  # units and classes are those of the answers
        found = inspect(images, near=False, reading=read_as)
    named = asks.settle(of_base(), base)
    tables: dict[str, Options] = {
        "privacy": Privacy(epsilon=asks.settle(of_epsilon(), epsilon)),
        "reading": read_as,
    }
    counted = of_number(found, kind)
    limit = timed() if kind == CLASSES else None  # a token has no steps
    if limit is not None:
        table, one = limit
        tables[table] = GROUPS[table](**{one.name: asks.settle(of_time(one), time)})
        number = counted.accept(str(counted.default)) if number is None else number
    elif time is not None:
        raise SfumatoError("--time is for runs of steps: leave it out here")
    drawn = asks.settle(counted, number)
    folder = asks.settle(of_results(found), results)

    def place(name: str | Path) -> str:
        return str(name) if Path(name).is_absolute() else os.path.relpath(name, path.parent)

    project = Project(
        images=place(images),
        test=None if test is None else place(test),
        base=own_name(named) or place(named),
        method="inversion" if kind == STYLE else None,
        run=place(folder / "run"),
        release=place(folder / "release"),
        model=place(folder / "model"),
        number=drawn,
    )
    if read_as.yes_public is True:  # of the names that are there, and of no later ones
        kept = read_as.classes is None and not read_as.unlabelled
        read_as = replace(read_as, yes_public=tuple(found.class_counts) if kept else False)
        tables["reading"] = read_as
    made = Config.of(path, project=project, **tables)
    made.write(force=force)
    return Started(made, found, _sheet(images, read_as, named, path.parent))


def _sheet(images: str | Path, reading: Reading, base: str, folder: Path) -> Path | None:
    """What the model will see, beside the config."""
    inside = Path(images).is_dir() and folder.resolve().is_relative_to(Path(images).resolve())
    if inside:
        return None  # among the images it would be one of them
    sheet = new_place(folder)
    inspect(images, base=base, sheet=sheet, near=False, reading=reading)
    return sheet if sheet.exists() else None


@dataclass(frozen=True)
class Asking:
    """Questions to a person, for what was not said before."""

    person: Person

    def settle(self, question: Question, said: Any) -> Any:
        """What was said, if it is an answer; else the person's."""
        return self.person.answer(question) if said is None else question.accept(str(said))


def _reading(
    asks: Asking, found: Summary, kind: str, reading: Reading, unit: str | None
) -> Reading:
    """How the images are read, as answered."""
    if kind == STYLE:
        reading = replace(reading, unlabelled=True)
    elif lacks_labels(found, reading):
        reading = replace(reading, labels=asks.settle(of_labels(found), None) or None)
    unit = asks.settle(of_unit(found, reading), unit)
    alone = FILE if "DICOM" in found.kinds else None  # else the patient would be the unit
    return replace(reading, unit=alone if unit == IMAGE else unit)
