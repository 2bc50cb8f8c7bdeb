"""Texts of the command line as values; SfumatoError for those that do not parse."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence

from ..errors import SfumatoError


def names(listed: str) -> list[str]:
    """Names between commas; one that holds a comma is in double quotes."""
    try:
        (found,) = csv.reader([listed], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise SfumatoError(
            '--classes cannot be parsed: write a,b or "a, with a comma",b on one line'
        ) from error
    return [name.strip() for name in found if name.strip()]


def pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    """CLASS=TEXT words as a mapping; SfumatoError for a word without "=" or a class named twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise SfumatoError(f"{flag} {word!r}: write CLASS=TEXT")
        if name.strip() in found:
            raise SfumatoError(
                f"{flag} names the class {name.strip()!r} twice: give one text per class"
            )
        found[name.strip()] = text.strip()
    return found


def prompts(words: Sequence[str]) -> str | dict[str, str]:
    """One template with {class}, or a text per class."""
    if len(words) == 1 and ("=" not in words[0] or "{class}" in words[0].partition("=")[0]):
        if "{class}" not in words[0]:
            raise SfumatoError(
                f"--prompt {words[0]!r}: put {{class}} in place of the class, or give CLASS=TEXT"
                " for each class"
            )
        return words[0]
    return pairs("--prompt", words)


def inits(words: Sequence[str]) -> dict[str, str]:
    """CLASS=TEXT of --init."""
    return pairs("--init", words)


def modules(listed: str) -> tuple[str, ...]:
    """Names of modules between commas."""
    return tuple(name.strip() for name in listed.split(","))


def ratio_or_count(word: str) -> float | int:
    """0.3, 1.0 or 30% as a ratio, 38 as a count."""
    try:
        if word.endswith("%"):
            return float(word[:-1]) / 100
        return int(word) if word.isdigit() else float(word)
    except ValueError as error:
        raise SfumatoError(
            f"--keep {word}: write a ratio such as 0.3, or a count such as 38"
        ) from error


def size(words: str) -> int:
    """Bytes of "800MB", "4 GB", "1.5GiB" (1 GB is taken as 2^30 bytes)."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([MG])i?B?", words.strip(), re.IGNORECASE)
    count = float(found[1]) * 2 ** (20 if found[2] in "mM" else 30) if found else 0
    if count < 2**20:
        raise SfumatoError(f"--memory-budget {words!r}: give a size such as 800MB or 4GB")
    return int(count)


def buckets(words: str | Sequence[str]) -> tuple[str, ...]:
    """Sizes as WIDTHxHEIGHT in pixels, such as "512x768,768x512": each once, in that order."""
    said = words.split(",") if isinstance(words, str) else list(words)
    found: list[str] = []
    for word in said:
        match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", str(word).strip())
        if match is None:
            raise SfumatoError(
                f"--buckets {word}: write WIDTHxHEIGHT in pixels, such as 512x768,768x512"
            )
        found.append(match[0])
    if not found or len(set(found)) < len(found):
        raise SfumatoError("--buckets: name at least one size, and each once")
    return tuple(found)


def duration(said: str | float) -> float:
    """Seconds of "20min", "1h", "1h30min" or "90s"; a number is seconds already."""
    if isinstance(said, bool) or not isinstance(said, (str, int, float)):
        raise SfumatoError(f"--time {said!r}: give a time such as 20min, 1h or 90s")
    if not isinstance(said, str):
        seconds = float(said)
    else:
        units = r"(?:([0-9]+(?:\.[0-9]+)?)\s*{})?\s*"
        rule = "".join(units.format(u) for u in ("h(?:ours?)?", "m(?:in(?:utes?)?)?", "s(?:ec)?"))
        found = re.fullmatch(rule, said.strip().lower())
        parts = found.groups() if found else (None,)
        seconds = sum(float(n) * s for n, s in zip(parts, (3600, 60, 1)) if n)
    if not (math.isfinite(seconds) and seconds > 0):
        raise SfumatoError(f"--time {said}: give a time with its unit, such as 20min, 1h or 90s")
    return seconds


def in_words(seconds: float) -> str:
    """Seconds as 40 s, 12 min, 3.5 h or 120 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{rounded(seconds / 3600)} h"


def about(seconds: float) -> str:
    """The same of an estimate: about 12 min."""
    return f"about {in_words(seconds)}"


def enough(seconds: float) -> str:
    """A time for an option, a tenth above an estimate and rounded up: 45s, 3min or 2.5h."""
    ample = 1.1 * seconds
    if ample < 90:
        return f"{math.ceil(ample)}s"
    return f"{math.ceil(ample / 60)}min" if ample < 5400 else f"{math.ceil(ample / 360) / 10:g}h"


def rounded(value: float, digits: int = 2) -> str:
    """A number with few digits, or with all in front of the point: 0.012, 1.2, 190, 14,322."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text or abs(value) >= 1e4 else text


def shard(text: str) -> tuple[int, int]:
    """The two numbers of "i/n", 0 <= i < n."""
    first, slash, count = text.partition("/")
    if not slash or not first.isdecimal() or not count.isdecimal() or not int(first) < int(count):
        raise SfumatoError(f"--shard {text}: write I/N with I from 0 to N-1, such as 0/4")
    return int(first), int(count)


def listed(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def count(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise SfumatoError(f"{text}: write a whole number") from error
