"""`sfumato plan`: guarantee, cost and expected signal on one page, before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ..errors import SfumatoError
from ..methods import METHODS
from ..options import Machine, Reading, parse
from ..planning.task import require_base
from .adapt import OF_A_PLAN
from .config import from_config, in_use
from .live import LiveLine
from .options import Images, Ledger, options

if TYPE_CHECKING:
    from ..verbs import PlanReport

RELATIONS = {
    "zero-out": "one unit's images replaced by nothing, at a known n",
    "add-remove": "one unit added or removed",
    "replace-one": "one unit replaced by any other",
}


@from_config("plan")
@options(reading=(Reading,), asked=OF_A_PLAN, machine=(Machine,))
def plan(
    images: Images,
    reading: dict,
    asked: dict,
    machine: dict,
    ledger: Ledger = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
    odds: Annotated[
        bool, Option("--odds", help="Also what an attacker could gain at most (some seconds).")
    ] = False,
) -> None:
    """Guarantee, noise, time, memory and expected signal of a run, before anything is spent.

    \b
    sfumato plan ./scans --epsilon 4 --base ./base
    sfumato plan ./scans --unit patient_id --epsilon 4 --base ./base --method lora --rank 4
    sfumato plan ./scans --epsilon 4 --base ./base --method saliency --keep 0.3
    sfumato plan ./scans --epsilon 4 --match --bases glyphs,letters
    sfumato plan ./scans --epsilon 4 --base ./base --time 20min
    sfumato plan ./scans --epsilon 4 --base ./base --json > plan.json
    """
    if asked.get("epsilon") is None:
        raise SfumatoError("--epsilon is required: 1 is strong privacy, 10 is weak")
    if not asked.get("match"):
        require_base(asked.get("base"))

    from .. import verbs

    with LiveLine() as line:
        said = {**reading, **asked, **machine}
        report = verbs.plan(images, ledger=ledger, odds=odds, on_stage=line.stage, **said)
    if as_json:
        body = {
            "plan": report.plan.to_json(),
            "estimate": asdict(report.estimate),
            "outlook": None if report.outlook is None else asdict(report.outlook),
            "public": dict(report.public),
            "device": report.device,
            "remarks": list(report.remarks),
            "refused": report.refused,
            "needs": list(report.needs),
            "words": [asdict(one) for one in report.words],
            "pixels": list(report.pixels),
            "precision": dict(report.formats),
            "precision_seconds": {stage: asdict(t) for stage, t in report.trials.items()},
        }
        body |= {"forecast": asdict(report.forecast)} if report.forecast else {}
        body |= {} if report.odds is None else {"odds": dict(report.odds)}
        if report.asked_seconds is not None:
            body |= {"asked_seconds": report.asked_seconds, "fixes": report.fixes}
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
        console.print(Text("! " + remark, style="yellow"), soft_wrap=True)
    if report.refused is None:
        more = "".join(f" {flag}" for flag in report.needs)
        print(f"nothing is spent yet; next: {next_command(more, *in_use())}")
        if report.fixes:
            print(f"this schedule fits this machine's pace now; to fix it: {report.fixes}")
        if "--anyway" in report.needs:
            print("--anyway pays for a run that is forecast to learn nothing; releases will say so")


def next_command(more: str, project: Mapping[str, Any], config: str) -> str:
    """How to go on: the options are said again, but for those of a config."""
    if "run" in project and "images" in project:
        return f"sfumato adapt{config}{more}, with the same flags if there were any"
    return f"sfumato adapt with the same options{more} and -o run"


def sections(report: PlanReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """The plan in words: (heading, rows of (name, value))."""
    plan, guess = report.plan, report.estimate
    unit = "one image" if plan.unit == "record" else f"all images with the same {plan.unit!r}"
    promise = [
        ("epsilon", f"{plan.epsilon:.3f} of at most {plan.epsilon_target:g}"),
        ("delta", f"{plan.delta:.3g}"),
        ("unit", unit),
        ("relation", f"{plan.relation}: {RELATIONS[plan.relation]}"),
    ]
    if report.odds:
        from ..pages.odds import percent_up  # here: it draws pictures, which a flag does not need
    for rate, found in (report.odds or {}).items():
        told = f"at most {percent_up(100 * found)} of the used units are found"
        promise.append((f"{100 * float(rate):g} % accused wrongly", told))
    from ..planning.choosing import rows as vote_rows  # here: it opens bases, which loads torch

    kind = METHODS[plan.method]
    return [
        ("In short", _in_short(report, unit)),
        ("Promise", promise),
        ("Mechanism", [*kind.mechanism_rows(plan), *vote_rows(plan)]),
        (
            "Work",
            [
                *kind.work_rows(plan, guess, report.forecast, parse.about(guess.seconds)),
                _precision(report),
            ],
        ),
        ("Declared public by this plan", list(report.public)),
    ]


def _precision(report: PlanReport) -> tuple[str, str]:
    """The number format of each stage, and what the other would cost."""
    stages = METHODS[report.plan.method].stages
    said = {stage: report.formats[stage] for stage in stages if stage in report.formats}
    for stage, trial in report.trials.items():
        own = said[stage]
        other = "float32" if own == "bfloat16" else "bfloat16"
        said[stage] += f" ({other}: {trial.ratio(other):.2f} times as long)"
    return "precision", ", ".join(f"{stage} in {text}" for stage, text in said.items())


def _time(report: PlanReport) -> str:
    said, asked = parse.about(report.estimate.seconds), report.asked_seconds
    return said if asked is None else f"{said} of {parse.in_words(asked)} asked"


def _in_short(report: PlanReport, unit: str) -> list[tuple[str, str]]:
    """What to know before anything else: sizes, words, unit, price, time, and whether it pays."""
    plan, (found, drawn) = report.plan, report.pixels
    words = [
        name if name == prompt else f"{name}: {prompt}"
        for name, prompt in zip(plan.classes, plan.prompts, strict=True)
    ]
    rows = [
        ("pixels", f"in {found}, out {drawn}"),
        ("stored values", report.values),
        ("classes", f"{len(words)}: " + " | ".join(words)),
        ("unit", f"{unit}, {plan.n_units:,} of them"),
        ("epsilon", f"{plan.epsilon:.3f}"),
        ("device", report.device),
        ("time here", _time(report)),
    ]
    return rows + ([("forecast", report.outlook.sentence)] if report.outlook else [])
