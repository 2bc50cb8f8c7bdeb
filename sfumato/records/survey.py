"""What lies in a folder, and what else it could be: by names and kinds of files alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .folder import OTHER_PICTURES, ending, is_hidden, is_own, is_picture
from .layouts.splits import kind_of

MOST = 200_000  # entries that are looked at
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"}
TABLES = {".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".xls", ".parquet"}
# The folder form of LoRA trainers: how often its pictures are repeated, and words.
REPEATS = re.compile(r"\d{1,3}_\S.*")


@dataclass(frozen=True)
class Survey:
    """Files below one place by kind; hidden ones are not counted.

    Attributes:
        suffixes: Suffix in lower case -> files.
        folders: Folders at the top.
        deep: Of these, folders that hold folders and no picture.
        loose: Pictures at the top.
        links: Links that lead out of the place.
        tables: Names of tables at the top.
        captions: Text files that have a picture of the same name beside them.
        single: The place is a file.
    """

    suffixes: Counter
    folders: tuple[str, ...] = ()
    deep: tuple[str, ...] = ()
    loose: int = 0
    links: int = 0
    tables: tuple[str, ...] = ()
    captions: int = 0
    single: bool = False


def survey(root: Path) -> Survey:
    """Looks at names and kinds of at most `MOST` files; opens none."""
    if root.is_file():
        return Survey(Counter({root.suffix.lower(): 1}), single=True)
    suffixes, captions, links, looked = Counter(), 0, 0, 0
    inside = root.resolve()
    deep: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        files = [f for f in files if not (is_hidden(f) or is_own(f))]
        stems = {Path(f).stem for f in files if is_picture(f)}
        if Path(folder).parent == root and folders and not stems:
            deep.append(Path(folder).name)
        for name in files:
            path = Path(folder, name)
            suffixes[ending(name)] += 1
            captions += path.suffix.lower() in (".txt", ".caption") and path.stem in stems
            links += path.is_symlink() and not path.resolve().is_relative_to(inside)
        links += sum(os.path.islink(os.path.join(folder, f)) for f in folders)
        looked += len(files)
        if looked > MOST:
            break
    top = sorted(e for e in os.listdir(root) if not (is_hidden(e) or is_own(e)))
    return Survey(
        suffixes,
        tuple(f for f in top if (root / f).is_dir()),
        tuple(deep),
        sum(is_picture(f) for f in top if (root / f).is_file()),
        links,
        tuple(f for f in top if Path(f).suffix.lower() in TABLES and (root / f).is_file()),
        captions,
    )


def repeats(names: tuple[str, ...] | list[str]) -> list[str]:
    """Class names that may be a repeat count and words; all of them, or none."""
    found = [name for name in names if REPEATS.fullmatch(name)]
    # Numbers that count up, such as 0_a, 1_b, 2_c, number the classes.
    numbers = [int(name.split("_")[0]) for name in found]
    start = min(numbers, default=0)
    if len(found) < len(names) or sorted(numbers) == list(range(start, start + len(names))):
        return found if len(names) == 1 and found else []
    return found


def repeats_said(names: tuple[str, ...] | list[str]) -> str | None:
    """What a class name such as 10_sks dog may mean, and what to do; None for others."""
    found = repeats(names)
    if not found:
        return None
    shown = ", ".join(repr(name) for name in found[:3])
    words = re.sub(r"^\d+_", "", found[0])
    return (
        f"{shown}: the number in front looks like the repeat count of LoRA trainers (kohya); here"
        f" it is part of the published class name, and nothing is repeated: rename the folder to"
        f" {words!r} if that is the class"
    )


def otherwise(root: Path, seen: Survey, kind: str) -> list[str]:
    """What else the same files could be, and what to do then, a line each."""
    out: list[str] = []
    splits = [f for f in seen.folders if kind_of(f)]
    if splits and len(splits) == len(seen.folders):
        out.append(
            f"folders {', '.join(splits)}: read as splits; train is for adapt, test for"
            " `evaluate --test`"
        )
    elif splits and kind == "folder":
        out.append(
            f"folders {', '.join(splits)} look like splits, but others lie beside them, so that"
            " each folder is a class: give one split as the path, or move the others"
        )
    if kind == "folder" and seen.loose and seen.folders:
        out.append(
            f"{seen.loose:,} images lie loose beside {len(seen.folders):,} folders: one class each"
            " folder and some images unsorted (move them), or all one class (--unlabelled)"
        )
    if len(seen.deep) == 1 and len(seen.folders) == 1 and not kind_of(seen.deep[0]):
        out.append(
            f"the only folder, {seen.deep[0]!r}, holds folders itself: if these are the classes,"
            f" give {str(root / seen.deep[0])!r} as the path"
        )
    elif seen.deep and not splits:
        out.append(
            f"{len(seen.deep):,} folders hold folders themselves: their images count for the outer"
            " folder; if the inner ones are people, use --unit folder; if they are the classes,"
            " --layout inner"
        )
    said = repeats_said(seen.folders)
    out += [said] if said and kind == "folder" else []
    if seen.links:
        out.append(
            f"{seen.links:,} symbolic links lead out of the folder or to folders (git-annex, DVC,"
            " DataLad keep images so) and are not followed: give a folder that holds both, or a"
            " copy of the files themselves (cp -rL)"
        )
    if seen.captions:
        out.append(
            f"{seen.captions:,} text files beside images of the same name look like captions: their"
            " first lines are read with --caption-column txt"
        )
    return out + _of_other_kinds(seen, kind)


def _of_other_kinds(seen: Survey, kind: str) -> list[str]:
    out: list[str] = []
    tables = [t for t in seen.tables if t not in ("metadata.csv", "metadata.jsonl")]
    tables = [t for t in tables if not (kind == "parquet" and t.endswith(".parquet"))]
    if kind == "folder" and tables:
        out.append(
            f"a table {tables[0]!r} lies there unread: save it as metadata.csv, with a column"
            " file_name, to take labels, units or captions from it"
        )
    unread = kind in ("folder", "nothing") and not seen.single
    packed = sum(seen.suffixes[s] for s in ARCHIVES) if unread else 0
    if packed:
        out.append(
            f"{packed:,} archive(s) lie there unread: give one zip or tar as the path, which is"
            " read in place, or unpack them"
        )
    other = {s: seen.suffixes[s] for s in sorted(OTHER_PICTURES) if seen.suffixes[s]}
    if other:
        named = ", ".join(f"{count:,} {suffix}" for suffix, count in other.items())
        out.append(
            f"pictures in formats that are not decoded ({named}): convert them to PNG; of 16 bits"
            " keep 16, and declare their range (--range, --window)"
        )
    return out
