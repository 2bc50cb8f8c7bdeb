"""Options of `plan` and `adapt` that only --method inversion has, or the methods that learn
tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from ..errors import SfumatoError
from .options import PRIVACY

if TYPE_CHECKING:
    from ..verbs import PlanReport

PANEL = "Tokens (--method inversion, embedding)"
# Said on the command line -> keyword of methods.inversion.
OF_INVERSION = (
    "num_vectors",
    "aggregate",
    "subspace",
    "dimensions",
    "shrink",
    "inversion_steps",
    "inversion_draws",
)


def tokens(
    *,
    placeholder_token: Annotated[
        str | None,
        Option(
            "--placeholder-token",
            rich_help_panel=PANEL,
            help="Name of the token (default <artwork>); numbered per class.",
        ),
    ] = None,
    initializer_token: Annotated[
        str | None,
        Option(
            "--initializer-token",
            rich_help_panel=PANEL,
            help="Public words that all tokens start from: the anchor.",
        ),
    ] = None,
    num_vectors: Annotated[
        int | None,
        Option(
            "--num-vectors", min=1, rich_help_panel=PANEL, help="Vectors of one token (default 1)."
        ),
    ] = None,
    aggregate: Annotated[
        Literal["clip", "unit"] | None,
        Option(
            "--aggregate",
            rich_help_panel=PRIVACY,
            help=(
                "Inversion: residuals from the anchor, clipped (default), or unit vectors, as the"
                " paper does."
            ),
        ),
    ] = None,
    subspace: Annotated[
        Literal["vocabulary", "public", "none"] | None,
        Option(
            "--subspace",
            rich_help_panel=PANEL,
            help="Axes of what is learned: the base's words (default), or those of --public-data.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        Option(
            "--dimensions",
            min=1,
            rich_help_panel=PANEL,
            help="How many axes (default 64 a vector, of public images 32).",
        ),
    ] = None,
    shrink: Annotated[
        bool | None,
        Option(
            "--shrink/--no-shrink", rich_help_panel=PANEL, help="Take known noise off (default)."
        ),
    ] = None,
    inversion_steps: Annotated[
        int | None,
        Option(
            "--inversion-steps", min=1, rich_help_panel=PANEL, help="Steps of one image, at most."
        ),
    ] = None,
    inversion_draws: Annotated[
        int | None,
        Option(
            "--inversion-draws", min=1, rich_help_panel=PANEL, help="Draws of one step (default 4)."
        ),
    ] = None,
) -> dict:
    """What was said about tokens, by option name."""
    return {k: v for k, v in locals().items() if v is not None}


def with_tokens(arguments: dict, given: dict) -> dict:
    """`preparing.arguments` completed by `tokens`' options; SfumatoError where method and options
    do not fit together.
    """
    from ..methods import TOKEN_METHODS

    said, method = dict(arguments), arguments.get("method", "attention")
    chosen = {name: given[name] for name in OF_INVERSION if name in given}
    strange = [
        n
        for n in given
        if (n in OF_INVERSION and method != "inversion") or method not in TOKEN_METHODS
    ]
    if strange:
        flag = "--" + strange[0].replace("_", "-")
        fitting = "inversion" if strange[0] in OF_INVERSION else "inversion or embedding"
        raise SfumatoError(f"{flag} goes with --method {fitting}")
    if "placeholder_token" in given:
        said["placeholder"] = given["placeholder_token"]
    if "initializer_token" in given:
        if "init" in said:
            raise SfumatoError(
                "--initializer-token is for all classes and --init for each: give one of the two"
            )
        said["initializer"] = given["initializer_token"]
    if method == "inversion" and "clip_norm" in said:
        chosen["radius"] = said.pop("clip_norm")
    if chosen:
        said["method_options"] = said["method_options"] | chosen
    return said


def mechanism_rows(plan) -> list[tuple[str, str]]:
    """The one noisy sum in words."""
    own = plan.aggregation
    who = (
        "all units, once"
        if plan.sampling_rate == 1
        else f"a Poisson sample of {plan.expected_batch_size:g} units on average"
    )
    rule = {
        "clip": (
            f"residual from the public anchor, norm at most {plan.clip_norm:.4g}, in"
            f" {own.dimensions} axes ({own.subspace})"
        ),
        "unit": f"the embedding itself at norm 1, {own.dimensions} numbers",
    }[own.rule]
    return [
        ("aggregation", f"Gaussian on the sum of {who}; exact integer noise"),
        (
            "a unit adds",
            rule + (f", in {own.blocks} blocks, one a class" if own.blocks > 1 else ""),
        ),
        ("noise multiplier sigma", f"{plan.noise_multiplier:.4f}"),
        ("divided by", f"{own.divisors[0]:g} for each class, public"),
        ("afterwards", "known noise is taken off (free)" if own.shrink else "nothing"),
        (
            "class histogram",
            (
                "none"
                if plan.histogram_noise_multiplier is None
                else f"sigma {plan.histogram_noise_multiplier:g}"
            ),
        ),
    ]


def work_rows(report: PlanReport) -> list[tuple[str, str]]:
    """Time, and what the answer will be worth."""
    from .live import about

    plan, guess, hope = report.plan, report.estimate, report.forecast
    source = "public images" if hope.known else "an assumption; --public-data would say"
    return [
        ("method", f"{plan.method} on base {plan.base}"),
        (
            "learns",
            f"{plan.aggregation.vectors} vector(s) for each of {plan.aggregation.blocks} class(es)",
        ),
        ("time here", "at most " + about(guess.seconds)),
        ("memory here", f"about {guess.peak_bytes / 2**30:.1f} GB"),
        ("expected signal", f"{hope.signal:.2f} of the clip norm ({source})"),
        ("expected noise", f"{hope.noise:.2f} of the clip norm: signal-to-noise {hope.snr:.2g}"),
        ("expected cosine", f"{hope.cosine:.2f} between the released direction and the exact mean"),
    ]
