"""The list of verbs, in the order in which a person needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from .adapt import adapt
from .audit import audit
from .compare import compare
from .demo import demo
from .evaluate import evaluate
from .inspect import inspect
from .ledger import app as ledger
from .listings import bases, methods
from .match import match
from .plan import plan
from .push import push
from .release import release, verify
from .select import select
from .split import split
from .start import start
from .studio import studio
from .synthesize import export, synthesize

VERBS = (
    start,
    studio,
    inspect,
    split,
    match,
    plan,
    adapt,
    audit,
    synthesize,
    evaluate,
    compare,
    select,
    release,
    verify,
    push,
    export,
    methods,
    bases,
    demo,
)


def command():
    """The whole command line, ready to be called."""
    app = typer.Typer(
        name="sfumato",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(about)
    for verb in VERBS:
        app.command(verb.__name__)(verb)
    app.add_typer(ledger)
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("sfumato", version("sfumato"))
        except PackageNotFoundError:
            print("sfumato, not installed")
        raise typer.Exit


def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Show full tracebacks. They may contain private data: do not share them.",
        ),
    ] = False,
) -> None:
    """Differentially private adaptation of diffusion models: private images in, a release folder
    out.

    \b
    sfumato start ./scans
    sfumato studio
    sfumato inspect ./scans --unit patient_id
    sfumato split ./scans --unit patient_id --test 0.2
    sfumato plan ./scans --split split.json --epsilon 4 --base ./base
    sfumato adapt ./scans --split split.json --epsilon 4 --base ./base -o run
    sfumato audit run
    sfumato synthesize run -n 10000 -o release
    sfumato evaluate run release
    sfumato compare run run-2
    sfumato select run run-2 --data ./scans --split split.json --epsilon 1
    sfumato release release
    sfumato verify release
    sfumato push release --to ORG/NAME --dry-run
    """
