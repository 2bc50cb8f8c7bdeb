"""Which frames of a file with several become records: a rule for every file alone."""

from __future__ import annotations

from ..errors import SfumatoError

PLAIN = "plain"  # PNG, JPEG, WebP and BMP alone, as versions without this option read them
WORDS = ("first", "middle", "all", PLAIN)
MOST = 10_000


def parse_frames(said: str | int) -> str:
    """The rule as it is kept: "first", "middle", "all", "plain", or a number in digits.

    Args:
        said: One of these words, or how many frames of each file.

    Returns:
        The same as a text.

    Raises:
        SfumatoError: Anything else.
    """
    text = str(said).strip().lower()
    whole = text.isascii() and text.isdigit() and len(text) < 6
    if isinstance(said, bool) or text not in WORDS and not (whole and 1 <= int(text) <= MOST):
        raise SfumatoError(f"--frames {said}: choose first, middle, all, plain, or a number")
    return str(int(text)) if whole else text


def chosen(rule: str, count: int) -> list[int]:
    """Which of `count` frames a rule takes.

    Args:
        rule: As `parse_frames` keeps it; a number is of frames that lie evenly.
        count: Frames of one file, at least 1.

    Returns:
        Places from 0, ascending, each once.
    """
    if rule == "all":
        return list(range(count))
    if rule in ("first", PLAIN):
        return [0]
    number = 1 if rule == "middle" else min(int(rule), count)
    return [(2 * i + 1) * count // (2 * number) for i in range(number)]


def gives_several(rule: str | None) -> bool:
    """Whether a rule may take more than one frame of a file.

    Args:
        rule: As `parse_frames` keeps it; None for the default, one frame.

    Returns:
        That, whatever the files hold.
    """
    return rule not in (None, "first", "middle", "1", PLAIN)
