"""`sfumato plan`: the whole bargain on one page, before a pixel is read for training."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..errors import SfumatoError
from ..options import Reading
from . import inverting
from .adapt import OF_A_PLAN
from .live import about
from .options import Images, Ledger, options

if TYPE_CHECKING:
    from ..verbs import PlanReport

RELATIONS = {
    "zero-out": "one unit's images replaced by nothing, at a known n",
    "add-remove": "one unit added or removed",
    "replace-one": "one unit replaced by any other",
}


@options(reading=(Reading,), asked=OF_A_PLAN)
def plan(
    images: Images,
    reading: dict,
    asked: dict,
    ledger: Ledger = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Mechanism, noise, steps, time, memory and expected signal, before anything is spent.

    \b
    sfumato plan ./scans --epsilon 4
    sfumato plan ./scans --unit patient_id --epsilon 4 --method lora --rank 4
    sfumato plan ./scans --epsilon 4 --method saliency --keep 0.3
    sfumato plan ./scans --epsilon 4 --json > plan.json
    """
    if asked.get("epsilon") is None:
        raise SfumatoError("--epsilon is required: it is the promise; 1 is strong, 10 is weak")

    from .. import verbs

    report = verbs.plan(images, ledger=ledger, **reading, **asked)
    if as_json:
        body = {
            "plan": report.plan.to_json(),
            "estimate": asdict(report.estimate),
            "remarks": list(report.remarks),
        }
        body |= {"forecast": asdict(report.forecast)} if report.forecast else {}
        print(json.dumps(body, indent=2))
    else:
        show(report)


def show(report: PlanReport) -> None:
    """Print the plan as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Plan",
        title_justify="left",
        show_header=False,
        pad_edge=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, rows in sections(report):
        table.add_row(Text(heading, style="bold cyan"), "")
        for name, value in rows:
            # Plain Text: a class or a prompt may hold what rich would take for markup.
            table.add_row(Text("  " + name), Text(value))
    console = Console()
    console.print(table)
    for remark in report.remarks:
        console.print(Text("! " + remark, style="yellow"))


def sections(report: PlanReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """The plan in words: (heading, rows of (name, value))."""
    plan, guess = report.plan, report.estimate
    unit = "one image" if plan.unit == "record" else f"all images with the same {plan.unit!r}"
    clip = (
        f"norm {plan.clip_norm:g}"
        if plan.gamma is None
        else f"normalised to 1, gamma {plan.gamma:g}"
    )
    if plan.clip_groups is None:
        clip += ", one per unit over all trainable numbers"
    else:
        clip += (
            f" in total: {plan.clip_groups} groups of {plan.clip().bounds[0]:.4g} each, a clip for"
            " every unit and group"
        )
    promise = [
        ("epsilon", f"{plan.epsilon:.3f} of at most {plan.epsilon_target:g}"),
        ("delta", f"{plan.delta:.3g}"),
        ("unit", unit),
        ("relation", f"{plan.relation}: {RELATIONS[plan.relation]}"),
    ]
    if plan.aggregation is not None:
        return [
            ("Promise", promise),
            ("Mechanism", inverting.mechanism_rows(plan)),
            ("Work", inverting.work_rows(report)),
            ("Declared public by this plan", _public(plan)),
        ]
    mechanism = [
        (
            "training",
            f"Poisson-sampled Gaussian, {plan.steps:,} steps" + _retries(plan.retry_steps),
        ),
        ("noise multiplier sigma", f"{plan.noise_multiplier:.4f}"),
        (
            "sampling rate q",
            (
                f"{plan.sampling_rate:.6g} ({plan.expected_batch_size:g} of {plan.n_units:,} units"
                " a step, on average)"
            ),
        ),
        ("clip", clip),
        ("noise draws K", f"{plan.noise_draws} averaged inside the unit"),
        ("class histogram", _histogram(plan.histogram_noise_multiplier)),
        *_probe(plan),
    ]
    signal = guess.signal_bound / guess.noise_norm if guess.noise_norm else float("inf")
    work = [
        (
            "method",
            f"{plan.method} on base {plan.base}" + (f", rank {plan.rank}" if plan.rank else ""),
        ),
        ("trains", f"{'at most ' if plan.probe else ''}{plan.trainable:,} numbers"),
        ("time here", about(guess.seconds)),
        ("memory here", f"about {guess.peak_bytes / 2**30:.1f} GB"),
        ("noise norm a step", f"{guess.noise_norm:.4g} on the mean gradient"),
        (
            "signal norm a step",
            f"at most {guess.signal_bound:.4g} (signal-to-noise at most {signal:.2g})",
        ),
    ]
    return [
        ("Promise", promise),
        ("Mechanism", mechanism),
        ("Work", work),
        ("Declared public by this plan", _public(plan)),
    ]


def _public(plan) -> list[tuple[str, str]]:
    """What the plan makes public beside its own settings."""
    rows = [
        ("number of units", f"{plan.n_units:,}"),
        ("classes", ", ".join(plan.classes)),
        ("prompts", " | ".join(dict.fromkeys(plan.prompts))),
    ]
    return rows + ([("opted in to", ", ".join(plan.opt_ins))] if plan.opt_ins else [])


def _retries(steps: int) -> str:
    return f" and {steps:,} in reserve for a new attempt" if steps else ""


def _histogram(sigma: float | None) -> str:
    return (
        "none: class shares are uniform or declared"
        if sigma is None
        else f"Gaussian, noise multiplier {sigma:g}"
    )


def _probe(plan) -> list[tuple[str, str]]:
    """The probe in words, and what it costs training."""
    probe = plan.probe
    if probe is None:
        return []
    who = (
        "all units"
        if probe.expected_batch_size == plan.n_units
        else f"{probe.expected_batch_size:g} units on average"
    )
    what = f"{probe.votes} votes each" if probe.votes else "squared gradient norms"
    rise = plan.noise_multiplier / probe.noise_before - 1
    return [
        ("saliency probe", f"{who}, {what}, for {probe.keep} of {len(probe.groups)} candidates"),
        (
            "its noise multiplier",
            f"{probe.noise_multiplier:g} at sensitivity {probe.sensitivity:.4g}",
        ),
        (
            "sigma without it",
            f"{probe.noise_before:.4f}, with it {plan.noise_multiplier:.4f} ({100 * rise:+.1f} %)",
        ),
    ]
