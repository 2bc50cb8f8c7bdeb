"""Flags from classes of options, and the arguments that several verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from ..methods import METHODS
from ..options import Declared, Execution, Options, Performance, Recipe, declared

PRIVACY, METHOD = "Privacy", "Method"
BENEATH = "beneath the flags"
HELP_ALL, MANY = "help_all", 30  # a verb with more options has a short help and a long one
# What `--help` of such a verb leaves out: panels of fine settings, these options, and most of the
# methods' own.
REFINED = {Recipe.panel, Performance.panel, Execution.panel}
FINE = {
    "allow_caption_prompts", "allow_doubtful_units", "allow_large_delta", "clip_norm", "clipping",
    "histogram", "max_per_unit", "noise_draws", "relation", "retry_fraction", "tuning",
    "condition", "initializer", "max_bad", "prompts_file", "public_may_overlap", "seed",
    *(one.name for kind in METHODS.values() for one in declared(kind)),
} - {"rank", "keep"}  # fmt: skip

Images = Annotated[
    Path,
    Argument(
        metavar="IMAGES",
        help="Class folders, a flat folder, one with metadata.csv or .jsonl, COCO, parquet, arrow,"
        " tar, zip, idx or npz.",
    ),
]
Output = Annotated[Path, Option("--output", "-o", "--output-dir", help="A new folder.")]
Ledger = Annotated[
    Path | None,
    Option(
        "--ledger",
        metavar="FILE",
        rich_help_panel=PRIVACY,
        help=(
            "Your ledger of everything spent (default: $SFUMATO_LEDGER, or in your data folder)."
        ),
    ),
]
AllowFileSystem = Annotated[
    bool,
    Option(
        "--allow-file-system",
        rich_help_panel=PRIVACY,
        help=(
            "Accept a ledger that is not on a known local disk. Recorded; every later certificate"
            " shows it."
        ),
    ),
]


def options(**groups: tuple[type[Options], ...]) -> Callable:
    """Gives a command the flags of classes of options.

    What is said of a group arrives as one dict under its keyword; it holds nothing else. `BENEATH`
    has, by group, what a config says, where no flag does (`config.from_config`).
    """

    def decorate(command: Callable) -> Callable:
        known = {group: _merged(kinds) for group, kinds in groups.items()}
        own = [
            parameter
            for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
            if name not in groups
        ]

        def run(**values: Any) -> Any:
            beneath: dict[str, dict[str, Any]] = values.pop(BENEATH, {})
            values.pop(HELP_ALL, None)
            said = {
                group: _said(found, {n: values.pop(n) for n in found}, beneath.get(group, {}))
                for group, found in known.items()
            }
            return command(**values, **said)

        every = [one for found in known.values() for one in found.values()]
        short = len(every) > MANY
        flags = [_parameter(*one, short) for one in every]
        if short:
            flags.append(_whole_help())
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *flags)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.groups = groups  # type: ignore[attr-defined]
        return run

    return decorate


def _merged(kinds: tuple[type[Options], ...]) -> dict[str, tuple[Declared, str, str]]:
    """Name -> option, panel and help; an option of methods says which, and their defaults."""
    found: dict[str, list[tuple[Declared, type[Options]]]] = {}
    for kind in kinds:
        for one in declared(kind):
            found.setdefault(one.name, []).append((one, kind))
    merged = {}
    for name, members in found.items():
        one, kind = members[0]
        text, owners = one.line, [getattr(k, "name", "") for _, k in members]
        if owners[0]:
            defaults = [member.said_default for member, _ in members]
            if len(set(defaults)) > 1:
                each = "; ".join(f"{o} {d[9:-1]}" for o, d in zip(owners, defaults, strict=True))
                text = f"{one.help[:-1]} (default {each})."
            text = f"{', '.join(owners)}: {text}"
        merged[name] = (one, kind.panel, text)
    return merged


def _parameter(one: Declared, panel: str, text: str, short: bool = False) -> inspect.Parameter:
    kind = _kind(one)
    names = one.flags or (one.flag,)
    if kind == (bool | None):
        names = (f"{names[0]}/--no-{names[0][2:]}",)
    limits: dict[str, Any] = {} if one.parse else {"min": one.least, "max": one.most}
    said = Option(*names, metavar=one.metavar, rich_help_panel=panel, help=text, **limits)
    said.hidden = short and (panel in REFINED or one.name in FINE)
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, said],
    )


def _whole_help() -> inspect.Parameter:
    """The flag that shows every option; `--help` leaves out what most runs never name."""

    def show(context: typer.Context, wanted: bool) -> None:
        if wanted:
            for parameter in context.command.params:
                parameter.hidden = False  # type: ignore[attr-defined]
            print(context.get_help())
            raise typer.Exit

    said = Option("--help-all", is_eager=True, callback=show, help="Show every option there is.")
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(HELP_ALL, kind, default=False, annotation=Annotated[bool, said])


def _kind(one: Declared) -> Any:
    """The type that the command line reads; None stands for "not said"."""
    if one.default is False:
        return bool | None
    if one.repeated:
        return list[str] | None
    if one.parse:
        return str | None
    if one.words:
        words: Any = Literal[tuple(one.words)]
        return words | None
    return one.kind | None


def given(value: Any) -> bool:
    """Whether a flag was given at all."""
    return value is not None and value != []


def _said(
    known: dict[str, tuple[Declared, str, str]], values: dict[str, Any], beneath: dict[str, Any]
) -> dict[str, Any]:
    found = dict(beneath)
    for name, value in values.items():
        if not given(value):
            continue
        one = known[name][0]
        said: Any = one.parse(value) if one.parse else value
        found[name] = one.words[said] if one.words else said
    # A switch that is off is as good as not given; --no-embedder says something.
    return {n: v for n, v in found.items() if v is not False or known[n][0].default is not False}
