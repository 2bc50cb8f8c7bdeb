"""Figures and remarks of verbs in the words of the page."""

from __future__ import annotations

from ..options.privacy import usual_delta
from ..pages.odds import (
    RATES,
    for_a_group,
    found_at_most,
    found_by_gaussian,
    gaussian_mu,
    percent_up,
)

GROUPS = (2, 3, 5, 10)


def odds_in_words(epsilon: float, delta: float) -> dict[str, list[str]]:
    """What an attacker gains at most, and what is left for k units of one person."""
    single = [percent_up(100 * found_at_most(rate, epsilon, delta)) for rate in RATES]
    groups: list[str] = []
    for size in GROUPS:
        e, d = for_a_group(epsilon, delta, size)
        groups.append(percent_up(100 * found_at_most(RATES[1], e, d)))
    mu = gaussian_mu(epsilon, delta)
    usual = [percent_up(100 * found_by_gaussian(rate, mu)) for rate in RATES]
    return {"odds": single, "usual": usual, "groups": groups}


def proposed_delta(n_units: int) -> float:
    """What `plan` takes of itself, with three digits and rounded down: the page shows what is run.

    Args:
        n_units: How many units there are; 0 where nobody has counted.
    """
    if n_units < 1:
        return 1e-5
    digits = f"{usual_delta(n_units):.17e}"
    return float(f"{digits[:4]}{digits[digits.index('e') :]}")


def exact(value: float) -> str:
    """A number as it is typed, to the last digit: another delta than the ledger's is refused."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def stage(line: str) -> str:
    """The last words of a verb; while it takes steps the page has their figures already."""
    return "training" if line.startswith("step ") else line


def by_flags(remark: str) -> tuple[str, str]:
    """(What a verb found, its cure by flags): the page has no flags to set.

    A remark that begins with a flag, or has none, stays as it is.
    """
    at = remark.find("--")
    cut = max(remark.rfind(": ", 0, at), remark.rfind(" (", 0, at)) if at > 0 else -1
    if cut < 0:
        return remark, ""
    said, cure = remark[:cut], remark[cut + 2 :]
    return said, cure.removesuffix(")") if remark[cut + 1] == "(" else cure
