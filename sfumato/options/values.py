"""Which stored values are black and white: declared by the owner, or by a rule of one picture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SfumatoError

BYTE = 255.0
BACKGROUNDS = ("white", "black", "grey", "ignore")
MOST_BITS = 32
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?:\.\.|:)\s*({_NUMBER})\s*", re.IGNORECASE)
_BITS = re.compile(r"\s*(\d+)[\s-]*bits?\s*", re.IGNORECASE)
_WINDOW = re.compile(rf"\s*({_NUMBER})\s*[/,]\s*({_NUMBER})\s*", re.IGNORECASE)
# Centre and width in Hounsfield units, as reading rooms set CT by default.
PRESETS = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
    "soft-tissue": (50.0, 400.0),
    "abdomen": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
}


@dataclass(frozen=True)
class Values:
    """From stored values to grey levels. A public choice, the same for every picture.

    Attributes:
        low: Stored value that becomes black, 0; None: as the type of the picture says.
        high: Stored value that becomes white, 255.
        invert: Whether the lowest value is white, as in DICOM's MONOCHROME1.
        background: What transparency is laid on; "ignore" takes the colours as they are stored.
    """

    low: float | None = None
    high: float | None = None
    invert: bool = False
    background: str = "white"

    def applies_to(self, top: float | None) -> bool:
        """Whether the range is meant for samples that reach `top` (None: for any number).

        A range that leaves 0..255 cannot be meant for samples of 8 bits, so that a folder may hold
        both. It follows from the declaration and the type of one picture, never from its values.

        Returns:
            Whether to map; else the fixed rule of the type holds.
        """
        if self.low is None or self.high is None:
            return False
        return top is None or top > BYTE or 0 <= self.low < self.high <= BYTE

    @classmethod
    def kept(cls, options: Mapping[str, Any]) -> Values:
        """What a run was made with, from what it keeps of its task (`Run.options`)."""
        return cls(**options.get("values", {}))

    def given(self) -> dict[str, Any]:
        """What differs from the fixed rules, by name: as a run keeps it."""
        return {k: v for k, v in asdict(self).items() if v != getattr(Values, k)}

    def as_options(self) -> dict[str, Any]:
        """As fields of `Reading`, or keywords of `declared_values`."""
        ends = None if self.low is None or self.high is None else (self.low, self.high)
        own = {"invert": self.invert, "background": self.background}
        return {"value_range": ends, "window": None, **own}

    @property
    def said(self) -> str:
        """The declaration in words, empty where nothing was declared."""
        parts: list[str] = []
        if self.low is not None and self.high is not None:
            parts.append(f"values {self.low:.15g}..{self.high:.15g} -> 0..255, declared")
        if self.invert:
            parts.append("greys inverted")
        if self.background != "white":
            ground = "ignored" if self.background == "ignore" else f"on {self.background}"
            parts.append(f"transparency {ground}")
        return "; ".join(parts)


FIXED = Values()


def declared_values(
    value_range: str | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    invert: bool = False,
    background: str = "white",
) -> Values:
    """The declaration as it is given on the command line or in Python.

    Args:
        value_range: "12bit", "0..4095" or (0, 4095).
        window: "40/400", "40,400" or (40, 400): centre and width, as DICOM's LINEAR_EXACT; or a
            name of `PRESETS`, for CT.
        invert: As in `Values`.
        background: As in `Values`.

    Returns:
        How stored values become grey levels; `FIXED` if nothing is declared.

    Raises:
        SfumatoError: Both a range and a window; one that is upside down, empty, not finite or does
            not parse.
    """
    if value_range is not None and window is not None:
        raise SfumatoError("--range and --window declare the same: give one of them")
    if background not in BACKGROUNDS:
        raise SfumatoError(f"--background {background}: choose {', '.join(BACKGROUNDS)}")
    low = high = None
    if value_range is not None:
        low, high = parse_range(value_range)
    elif window is not None:
        centre, width = parse_window(window)
        low, high = centre - width / 2, centre + width / 2
    return Values(low, high, bool(invert), background)


def parse_range(said: str | Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value of "12bit", "LO..HI" or a pair; SfumatoError for anything else."""
    if isinstance(said, str):
        bits, pair = _BITS.fullmatch(said), _RANGE.fullmatch(said)
        if bits and 1 <= int(bits[1]) <= MOST_BITS:
            return 0.0, float(2 ** int(bits[1]) - 1)
        found = (float(pair[1]), float(pair[2])) if pair else None
    else:
        found = _pair(said)
    if found is None or not math.isfinite(found[1] - found[0]):
        raise SfumatoError(f"--range {said}: write 12bit, or LO..HI such as 0..4095 or -1000..400")
    if not found[0] < found[1]:
        turned = " and --invert if low values are white" if found[0] > found[1] else ""
        raise SfumatoError(f"--range {said}: give the lower value first, then a higher one{turned}")
    return found


def parse_window(said: str | Sequence[float]) -> tuple[float, float]:
    """Centre and width of "CENTRE/WIDTH", a preset or a pair; SfumatoError for anything else."""
    if isinstance(said, str) and said.strip().lower() in PRESETS:
        return PRESETS[said.strip().lower()]
    if isinstance(said, str):
        pair = _WINDOW.fullmatch(said)
        found = (float(pair[1]), float(pair[2])) if pair else None
    else:
        found = _pair(said)
    if found is None or not math.isfinite(abs(found[0]) + abs(found[1])):
        raise SfumatoError(
            f"--window {said}: write CENTRE/WIDTH such as 40/400, or a CT preset:"
            f" {', '.join(PRESETS)}"
        )
    if not found[1] > 0 or not found[0] - found[1] / 2 < found[0] + found[1] / 2:
        raise SfumatoError(f"--window {said}: the width must be above 0")
    return found


def _pair(said: Any) -> tuple[float, float] | None:
    try:
        low, high = said
        return float(low), float(high)
    except (TypeError, ValueError):
        return None
