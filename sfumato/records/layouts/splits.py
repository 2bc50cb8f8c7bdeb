"""Names of splits: which of them is read for training, and which for testing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ...errors import DataError

TRAIN, TEST = ("train", "training"), ("test", "testing")
HELD_BACK = ("val", "valid", "validation", "dev", "eval")
SPLITS = frozenset((*TRAIN, *TEST, *HELD_BACK))
# train2017, test_images, val-set, train_0: a split and what says nothing
_AROUND = re.compile(r"[-_ .]*(?:\d{1,4}|images?|imgs?|set|data|split|pictures|jpe?gs?|pngs?)$")


def split_name(name: str) -> str | None:
    """The split that a folder or file is named after, in small letters; None for another name."""
    word = re.sub(r"(?<=[a-z])[-_ ]?[AB]$", "", name.strip()).lower()  # trainA, testB: two domains
    while word not in SPLITS:
        shorter = _AROUND.sub("", word)
        if shorter == word or not shorter:
            return None
        word = shorter
    return word


def kind_of(name: str) -> str | None:
    """The kind of a split by its name: "train", "test" or "held back"; None for another name."""
    word = split_name(name)
    if word is None:
        return None
    return "train" if word in TRAIN else "test" if word in TEST else "held back"


def chosen_split(names: Sequence[str], part: str) -> str | None:
    """The one of some names that holds a part ("train" or "test"); None if they name no splits.

    Without a split for testing, the one that is held back for validation is it. DataError if no
    name, or more than one, holds the part.
    """
    kinds = {name: kind_of(name) for name in names}
    if not any(kinds.values()):
        return None
    found = [name for name in names if kinds[name] == part]
    if not found and part == "test":
        found = [name for name in names if kinds[name] == "held back"]
    if len(found) != 1:
        raise DataError(f"{_there(names)} but {_wrong(found, part)}: give one of them as the path")
    return found[0]


def _there(names: Iterable[str]) -> str:
    return f"the folder holds the splits {', '.join(sorted(names))}"


def _wrong(found: Sequence[str], part: str) -> str:
    return f"no {part!r}" if not found else f"{len(found)} of them may be {part!r}"
