"""Whether a run can learn anything, said in one of three words before it is charged.

It follows from the plan, public facts and public pictures that the user names (`fit`): never from a
private pixel, label or file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SfumatoError
from ..methods import Prepared
from ..methods.inversion.advisor import Forecast
from ..options import parse
from ..pages.forecast import LITTLE, NOTHING, SOMETHING
from ..privacy.plan import Plan
from .fit import GOOD, HARDER, NONE, Fit

FIT = "fit of the base: unknown (--stand-in names public images to try it on)"
NOTHING_SAID = (
    "the forecast before the charge, from what is public alone, was that nothing can be learned;"
    " the owner ran it all the same"
)
# Noise over the largest possible signal, whole run: up to CLEAR, and from DROWNED on. Measured:
# docs/results.md, "The forecast".
CLEAR, DROWNED = 1.5, 5.0
# Units below which training teaches nothing that each of them may deny, however few numbers train
# and however little noise that takes. A method with a forecast of its own is judged by that.
FEWEST = 100


@dataclass(frozen=True)
class Outlook:
    """What a run may be worth as far as noise decides it.

    Attributes:
        word: `SOMETHING`, `LITTLE` or `NOTHING`.
        why: The figures behind it, in words.
        noise: Of a run of steps or rounds, `noise_over_signal`; None where a method forecasts
            itself.
        cosine: Of an inversion, the expected one; else None.
        n_units: How many units the plan is for.
        needed: Units with which the word would be `SOMETHING` at the same epsilon and sampling
            rate; None where it is.
        fit: Whether the base suits the pictures, which noise says nothing of: as tried on a
            public stand-in, else unknown.
    """

    word: str
    why: str
    noise: float | None
    cosine: float | None
    n_units: int
    needed: int | None
    fit: str = FIT

    @property
    def sentence(self) -> str:
        """Word, reason and what is not known, on one line."""
        cure = f"; about {self.needed:,} units would do" if self.needed else ""
        return f"{self.word}: {self.why}{cure}; {self.fit}"


def noise_over_signal(plan: Plan) -> float:
    """Noise over the largest possible signal, whole run: sigma S sqrt(P) / (B C sqrt(T)).

    It is the expected norm of the noise summed over all steps, over the most that the signal can
    add up to when every unit pulls the same way at every step.
    """
    if plan.voting is not None:  # of one candidate's votes, if all had equally many
        return plan.noise_multiplier * plan.voting.candidates / plan.n_units
    return plan.noise_norm_expected() / (plan.signal_bound * math.sqrt(plan.steps))


def outlook(prepared: Prepared[Any]) -> Outlook:
    """The forecast of a prepared run."""
    plan, own = prepared.plan, prepared.method.forecast(prepared)
    fit = Fit.of(prepared.options.get("fit"))
    said = FIT if fit is None else fit.sentence
    if isinstance(own, Forecast):
        return _of_a_sum(plan, own, fit, said)
    ratio = noise_over_signal(plan)
    # a base that does not reach the pictures needs so much more signal
    felt = ratio * (1 if fit is None else HARDER[fit.word])
    word = SOMETHING if felt <= CLEAR else NOTHING if felt >= DROWNED else LITTLE
    few = plan.n_units < FEWEST
    word = LITTLE if few and word == SOMETHING else word
    # at one sampling rate sigma stays, and the noise on the mean falls with the number of units
    needed = None if word == SOMETHING else math.ceil(plan.n_units * felt / CLEAR)
    if few:
        needed = max(FEWEST, needed or 0)
    why = f"{plan.n_units:,} units cannot teach a model anything that each may deny; " * few
    if plan.voting is not None:
        why += (
            f"in a round the noise is {parse.rounded(ratio)} times the mean votes of a candidate"
            f" from {plan.n_units:,} units"
        )
    else:
        why += (
            f"over all {plan.steps:,} steps the noise is {parse.rounded(ratio)} times the largest"
            f" possible signal of {plan.n_units:,} units"
        )
    if felt > ratio:
        why += f", and with this fit counts {HARDER[fit.word if fit else GOOD]} times"
    return Outlook(word, why, ratio, None, plan.n_units, needed, said)


def _of_a_sum(plan: Plan, own: Forecast, fit: Fit | None, said: str) -> Outlook:
    word = own.word
    if fit is not None and fit.word == NONE:  # a token can only ask for what the base can draw
        word = LITTLE if word == SOMETHING else NOTHING
    needed = None if own.needed is None else own.needed * len(plan.classes)
    why = (
        f"expected cosine {own.cosine:.2f} between the released and the exact direction, with"
        f" {plan.n_units:,} units"
    )
    return Outlook(word, why, None, own.cosine, plan.n_units, needed, said)


def require_worth(prepared: Prepared[Any], anyway: bool) -> None:
    """Stop before a charge that buys nothing.

    Raises:
        SfumatoError: The forecast is that nothing can be learned, and nobody said `anyway`.
    """
    found = outlook(prepared)
    if found.word == NOTHING and not anyway:
        fit = Fit.of(prepared.options.get("fit"))
        other = "" if fit is None or fit.word == GOOD else ", take a base that fits better"
        less = f", raise --epsilon, {prepared.method.less_noise}{other}"
        if found.cosine is None and found.n_units < FEWEST:  # less noise would mend nothing
            less = ""
        raise SfumatoError(
            f"{found.sentence}. Nothing is charged: bring more units{less}, or pay all the same"
            " with --anyway (recorded in the release)"
        )


def opted_in(options: Mapping, prepared: Prepared[Any], anyway: bool) -> dict:
    """A plan's options, with a sentence for every release where the forecast was overruled.

    That is a run that was forecast to learn nothing and is run `anyway`.
    """
    if not anyway or outlook(prepared).word != NOTHING:
        return dict(options)
    statements = options["statements"]
    said = statements | {"opt_ins": [*statements["opt_ins"], NOTHING_SAID]}
    return dict(options) | {"statements": said}
