"""What a form may say: every field has a rule, and what breaks one is refused with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

MOST_FIELDS = 240  # two for each class, and those of the largest form
LONGEST = 4096
TIME = re.compile(r"\d{1,4}(\.\d+)?(s|min|h)")
HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
LICENCE = re.compile(r"[A-Za-z0-9.+-]{1,40}")
MOST_PICTURES = 1_000_000


class Wrong(Exception):
    """An answer that is none, with the rule in words."""


def parse(body: bytes) -> dict[str, str]:
    """A form as name -> text.

    Raises:
        Wrong: Not a form, or one field twice.
    """
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise Wrong("that is no form of this page") from None
    found = dict(pairs)
    if len(found) < len(pairs) or any(len(text) > LONGEST for text in found.values()):
        raise Wrong("that is no form of this page")
    return found


def number(form: Mapping[str, str], name: str, low: float, high: float) -> float:
    """A finite number between two bounds, these included."""
    try:
        value = float(form.get(name, "").replace(",", "."))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise Wrong(f"{name}: write a number from {low:g} to {high:g}")
    return value


def whole(form: Mapping[str, str], name: str, low: int, high: int) -> int:
    """A whole number between two bounds, these included."""
    value = number(form, name, low, high)
    if value != int(value):
        raise Wrong(f"{name}: write a whole number")
    return int(value)


def one_of(form: Mapping[str, str], name: str, known: Mapping[str, object] | list[str]) -> str:
    """One of the answers that the page offers."""
    value = form.get(name, "")
    if value not in known:
        raise Wrong(f"{name}: choose one of the answers")
    return value


def shaped(form: Mapping[str, str], name: str, rule: re.Pattern[str], example: str) -> str:
    """A text of a fixed shape."""
    value = form.get(name, "").strip()
    if not rule.fullmatch(value):
        raise Wrong(f"{name}: write it as in {example}")
    return value


def words(form: Mapping[str, str], name: str, most: int = 120, called: str = "") -> str:
    """One line of text, perhaps empty; no word of it can be taken for a flag.

    `called`: how the page calls the field, if not by its name.
    """
    value = form.get(name, "").strip()
    if len(value) > most or any(ord(c) < 32 for c in value) or value.startswith("-"):
        raise Wrong(
            f"{called or name}: write one line of at most {most} characters, with no - in front"
        )
    return value
