"""From the place that was named to where class folders are: splits and wrappers are no classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..folder import TEXTS
from ..rules import refuse
from ..trees import Tree, stem
from .splits import chosen_split, kind_of

# Folders that say nothing of what is in them, and folders that lie beside such a one.
PLAIN = frozenset(
    "image images img imgs picture pictures pics photo photos data dataset datasets jpegimages jpg"
    " jpeg png raw all files".split()
)
BESIDE = frozenset(
    "mask masks annotation annotations ann anns anno annos label labels labels_txt segmentation"
    " segmentations segmentationclass segmentationobject ground_truth groundtruth gt imagesets meta"
    " metadata csv tables doc docs info reg log logs model models output".split()
)
_PARTS = re.compile(r".*(?:fold|part|batch|chunk|shard)s?[-_ ]?\d{1,4}", re.I)
_PEOPLE = re.compile(r".*parts?[-_ ]?\d{1,4}", re.I)
PEOPLE = (
    "{} folders at the top ({} ...) may be people, or parts of one set with people in them, and"
    " --unit folder needs to know: say --layout folders if each is one person (without labels) or a"
    " class, else move what is in them together"
)
OTHERWISE = "to read each folder at the top as a class: --layout folders"


@dataclass(frozen=True)
class Place:
    """Where the class folders are, and what led there."""

    tree: Tree
    names: list[str]
    said: tuple[str, ...] = ()
    left_out: Counter = field(default_factory=Counter)


def descend(tree: Tree, part: str, options: dict[str, Any], place: Place) -> Place:
    """From the place that was named to where the classes are; splits and wrappers are none."""
    for _ in range(8):
        step = _step(place, part, options)
        if step is None:
            return place
        place = step
    return place


def _step(place: Place, part: str, options: dict[str, Any]) -> Place | None:
    held = sorted({name.split("/")[0] for name in place.names if "/" in name})
    loose = any("/" not in name for name in place.names)
    if options["before"] and place.said:
        return None
    if not held or loose or set(options["classes"] or ()) & set(held):
        return None
    splits = [name for name in held if kind_of(name)]
    if len(splits) == len(held):
        chosen = chosen_split(held, part)
        assert chosen is not None
        return _into(place, chosen, f"folders {', '.join(held)}: read as splits, here {chosen}")
    if len(splits) > 1:  # one alone may be a class: trains, tests
        rest = len(held) - len(splits)
        refuse(
            f"folders {', '.join(splits)} look like splits, and {rest} others with images lie"
            f" beside them: give one split as the path, move the others, or {OTHERWISE}",
            options["refusals"],
        )
        return None
    plain = [name for name in held if name.lower() in PLAIN]
    beside = [name for name in held if name.lower() in BESIDE]
    if len(plain) == 1 and len(plain) + len(beside) == len(held):
        left = Counter(
            {
                f"images in the folder {name!r}": sum(n.startswith(name + "/") for n in place.names)
                for name in beside
            }
        )
        return _into(place, plain[0], f"folder {plain[0]!r} is no class, what is in it is", left)
    own = place.tree.place
    if len(held) == 1 and (own.is_file() or held[0] == own.name) and not _direct(place.names):
        return _into(place, held[0], f"folder {held[0]!r} holds all of the set and is no class")
    if len(held) == 1 and _inner_splits(place.names):
        return _into(place, held[0], f"folder {held[0]!r} holds the splits and is no class")
    if len(held) > 1 and all(map(_PARTS.fullmatch, held)) and not _direct(place.names):
        # part01 may be a participant, whose visits are no units
        if options["unit"] == "folder" and any(map(_PEOPLE.fullmatch, held)):
            refuse(PEOPLE.format(len(held), held[0]), options["refusals"])
            return None
        names = [name for name in place.names]
        said = f"{len(held)} folders are parts of one set ({held[0]} ...) and no classes"
        return _without_first(place, names, said)
    if _splits_inside(place.names):
        return _split_inside(place, part)
    return None


def _into(place: Place, folder: str, said: str, left: Counter | None = None) -> Place:
    inner = place.tree.below(folder)
    names = [n.removeprefix(folder + "/") for n in place.names if n.startswith(folder + "/")]
    return Place(inner, names, (*place.said, said), place.left_out + (left or Counter()))


def _inner_splits(names: Sequence[str]) -> bool:
    """Whether all pictures below the only folder lie in folders of splits."""
    inner = [name.split("/")[1:-1][:1] for name in names]
    return all(one and kind_of(one[0]) for one in inner)


def _direct(names: Sequence[str]) -> bool:
    return any(name.count("/") == 1 for name in names)


def _splits_inside(names: Sequence[str]) -> bool:
    """Whether each class folder holds the splits, instead of the other way round."""
    inner = [name.split("/")[1:-1] for name in names]
    return all(one and kind_of(one[0]) for one in inner)


def _split_inside(place: Place, part: str) -> Place:
    inner = sorted({name.split("/")[1] for name in place.names})
    chosen = chosen_split(inner, part)
    names = [name for name in place.names if name.split("/")[1] == chosen]
    said = f"folders {', '.join(inner)} inside the classes: read as splits, here {chosen}"
    return _renamed(place, {name: _dropped(name, 1) for name in names}, said)


def _without_first(place: Place, names: Sequence[str], said: str) -> Place:
    return _renamed(place, {name: _dropped(name, 0) for name in names}, said)


def _dropped(name: str, level: int) -> str:
    parts = name.split("/")
    return "/".join(parts[:level] + parts[level + 1 :])


def _renamed(place: Place, new: dict[str, str], said: str) -> Place:
    """The place with one folder on the way of each picture left out.

    The names stay apart by that folder where they would be one: "a/train/1.png" is "a/1.png".
    """
    tree, taken = place.tree, Counter(new.values())
    old = {}
    for name, short in new.items():
        if taken[short] > 1:
            head = short.rpartition("/")[0]
            short = (head and head + "/") + name.replace("/", " ")
        old[short] = name
    texts = {}
    for short, name in old.items():
        for suffix in TEXTS:
            if stem(name) + suffix in tree.known:
                texts[stem(short) + suffix] = stem(name) + suffix
    every = {**old, **texts}
    first = tree.first
    inner = Tree(
        tree.place,
        tuple(sorted(every)),
        lambda name: tree.read(every[name]),
        tree.links,
        bare=frozenset(short for short, name in old.items() if name in tree.bare),
        first=None if first is None else lambda name: first(every[name]),
        shared={short: tree.shared[name] for short, name in old.items() if name in tree.shared},
    )
    return Place(inner, sorted(old), (*place.said, said), place.left_out)
