"""The questions of `start`: what each answer means, and which texts are answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..bases import base_info, bundled_bases
from ..errors import SfumatoError
from ..options import Declared, Privacy, Project, Reading, declared
from ..planning.task import GROUPS
from ..records import COLUMNS, Summary, is_flat, label_column, would_read
from ..records.frames import OF_THE_PICTURE
from ..records.proposals import like_labels, like_units

CLASSES, STYLE = "classes", "style"
IMAGE, FOLDER = "image", "folder"
EPSILON, TIME = 4.0, "20min"
# Pictures drawn by default: for a style, from few private images, and from many.
OF_A_STYLE, OF_FEW, OF_MANY, MANY = 100, 1000, 10_000, 1000


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        flag: The flag that answers it as well.
        text: The question.
        lines: What the answers mean, one line each.
        default: What an empty answer means; None if one has to be given.
        accept: Text -> answer; SfumatoError for what is none.
    """

    flag: str
    text: str
    lines: tuple[str, ...]
    default: str | None
    accept: Callable[[str], Any]


def _one_of(known: Mapping[str, Any], flag: str) -> Callable[[str], Any]:
    """Takes one of the names, or its place among them."""

    def accept(text: str) -> Any:
        names = list(known)
        if text.isdecimal() and text not in known and 1 <= int(text) <= len(names):
            text = names[int(text) - 1]
        if text not in known:
            raise SfumatoError(f"{flag} {text}: choose {', '.join(names)}")
        return known[text]

    return accept


def of_what(found: Summary) -> Question:
    """Classes or a style."""
    flat = found.kind == FOLDER and is_flat(Path(found.source)) and len(found.class_counts) < 2
    without = flat and not found.columns  # of DICOM files a tag can be the class
    known = {CLASSES: CLASSES, STYLE: STYLE}
    choose = _one_of(known, "--what")

    def accept(text: str) -> Any:
        kind = choose(text)
        if kind == CLASSES and without:
            raise SfumatoError(
                "--what classes: the folder is flat and has no classes: make one folder for each"
                " class, add metadata.csv with the columns file_name and label, or take style"
            )
        return kind

    lines = (
        "classes: several labelled kinds of picture; the model learns to draw each of them",
        "style: pictures of one kind or by one hand; a token learns what they share",
    )
    default = STYLE if flat or found.n_units < 3 else CLASSES
    return Question("--what", "What are the pictures?", lines, default, accept)


def lacks_labels(found: Summary, reading: Reading) -> bool:
    """Whether labels are still to be named, of a table or of the tags of a flat DICOM folder."""
    if reading.labels or reading.unlabelled:
        return False
    tags = found.kind == FOLDER and bool(found.columns) and is_flat(Path(found.source))
    if found.kind not in COLUMNS and not tags:
        return False
    return label_column(found.columns) is None


def of_labels(found: Summary) -> Question:
    """Which column holds the class."""
    columns = {name: name for name in found.columns if name not in ("file_name", "image")}
    what = "a tag of DICOM" if found.kind == FOLDER else "a column of the table"
    lines = tuple(f"{name}: {what}" for name in columns)
    by_folder = len(found.class_counts) > 1
    if by_folder:
        columns = {"folders": ""} | columns
        lines = ("folders: the folder that a picture lies in is its class", *lines)
    default = "folders" if by_folder else like_labels(list(columns))
    accept = _one_of(columns, "--labels")
    return Question("--labels", "Which column holds the class?", lines, default, accept)


def of_unit(found: Summary, reading: Reading) -> Question:
    """Who is protected."""
    used = {
        "file_name",
        "image",
        "split",
        label_column(found.columns),
        reading.labels,
        reading.caption_column,
        *OF_THE_PICTURE,
    }
    columns = [name for name in found.columns if name not in used]
    like = like_units(columns)
    rest = [name for name in columns if name not in like]
    said = {IMAGE: "each picture by itself; whoever is in several pictures is protected less"}
    said |= {name: "all pictures with the same value are protected together" for name in like}
    if found.kind == FOLDER and _has_folders(found.source, 1 if reading.unlabelled else 2):
        said[FOLDER] = "all pictures in one folder of a person are protected together"
    said |= {name: "likewise, if it says whose the picture is" for name in rest}
    lines = tuple(f"{name}: {text}" for name, text in said.items())
    accept = _one_of({name: name for name in said}, "--unit")
    text = "Who is protected, one picture or everything of one person?"
    return Question("--unit", text, lines, like[0] if like else IMAGE, accept)


def _has_folders(root: str, depth: int) -> bool:
    """Whether pictures lie in folders below those of the classes."""
    return any(path.is_dir() for path in Path(root).glob("/".join("*" * depth)))


def of_base() -> Question:
    """The public model."""

    def accept(text: str) -> str:
        base_info(text)  # SfumatoError if it is none
        return text

    names = ", ".join(bundled_bases())
    lines = (
        f"name a bundled base ({names}), or the folder of a StableDiffusionPipeline",
        "take one that knows your kind of picture: what it has never seen, no epsilon teaches it",
    )
    return Question("--base", "Which public model is adapted?", lines, None, accept)


def of_epsilon() -> Question:
    """The budget."""
    lines = (
        "1: strong: next to nothing can be learned of any one of the protected, under much noise",
        "4: in between, and often chosen for pictures",
        "8: weak: little noise, and an attacker may learn noticeably more",
    )
    text = "How much privacy may be spent, as epsilon?"
    return Question("--epsilon", text, lines, f"{EPSILON:g}", _epsilon)


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise SfumatoError(f"--epsilon {text}: write a number, such as 4") from None
    Privacy(epsilon=value)
    return value


def of_number(found: Summary, kind: str) -> Question:
    """How many images to draw."""
    # it is published: of units, whose number is public, and not of the pictures that they have
    default = OF_A_STYLE if kind == STYLE else OF_MANY if found.n_units >= MANY else OF_FEW
    lines = ("drawing more costs time and no privacy",)
    text = "How many pictures are drawn at the end?"
    return Question("--number", text, lines, str(default), _number)


def _number(text: str) -> int:
    try:
        value = int(text.replace(",", ""))
    except ValueError:
        raise SfumatoError(f"--number {text}: write a whole number, such as 1000") from None
    Project(number=value)
    return value


def of_results(found: Summary | None = None) -> Question:
    """Where run, release and model are made; not among the images that were found."""
    lines = ("run (PRIVATE), release and model are made in it",)
    text = "Where do the results go?"
    default = "."
    if found is not None and would_read(found.kind, found.source, default):
        default = os.path.relpath(Path(found.source).resolve().parent)
    return Question("--results", text, lines, default, partial(_folder, found))


def _folder(found: Summary | None, text: str) -> Path:
    folder = Path(text).expanduser()
    if folder.exists() and not folder.is_dir():
        raise SfumatoError(f"--results {text}: is a file: name a folder")
    if found is not None and would_read(found.kind, found.source, folder):
        raise SfumatoError(
            f"--results {text}: would lie among the private images: name a folder outside"
        )
    for name in ("run", "release", "model"):
        if (folder / name).exists():
            raise SfumatoError(f"--results {text}: it holds {name} already: name another folder")
    return folder


def of_time(one: Declared) -> Question:
    """How long training may take."""

    def accept(text: str) -> Any:
        return one.parse(text) if one.parse else text

    lines = (
        "steps and batch are chosen so that training takes about so long on this machine: 5min, 1h",
    )
    return Question(one.flag, "How long may training take?", lines, TIME, accept)


def timed() -> tuple[str, Declared] | None:
    """The table and option of a time limit for a run."""
    for table, kind in GROUPS.items():
        for one in declared(kind):
            if one.name == "time":
                return table, one
    return None
