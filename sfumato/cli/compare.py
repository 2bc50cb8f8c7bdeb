"""`sfumato compare`: runs beside each other on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..options import Machine
from .live import LiveLine
from .options import Ledger, options


@options(machine=(Machine,))
def compare(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Two run folders or more.")],
    machine: dict,
    output: Annotated[Path, Option("--output", "-o", help="A new HTML file. PRIVATE.")] = Path(
        "compare.html"
    ),
    number: Annotated[
        int, Option("-n", "--number", help="Pictures that each run draws for it.")
    ] = 500,
    score: Annotated[
        bool,
        Option("--score/--no-score", help="Order them by how well their classes are told apart."),
    ] = True,
    public_test: Annotated[
        Path | None,
        Option(
            "--public-test",
            metavar="FOLDER",
            help="Public images of the same classes, for the order. Images that the ledger knows"
            " are refused.",
        ),
    ] = None,
    private: Annotated[
        bool,
        Option("--private", help="Also the figures of their last `evaluate`: a look at each."),
    ] = False,
    ledger: Ledger = None,
) -> None:
    """Plans and pictures of several runs on one static page, best first. Costs nothing: it opens no
    private image.

    \b
    sfumato compare run-1 run-2
    sfumato compare run-1 run-2 run-3 -n 1000 -o three.html
    sfumato compare run-1 run-2 --public-test ./public
    sfumato compare run-1 run-2 --private
    """
    from ..verbs.compare import compare as beside

    with LiveLine() as line:
        found = beside(
            runs,
            output,
            number=number,
            score=score,
            public_test=public_test,
            private=private,
            ledger=ledger,
            on_stage=line.stage,
            **machine,
        )
    for one in found:
        told = "" if one.score is None else f", classes told apart: {100 * one.score:.1f} %"
        if one.on_public is not None:
            told += f", on public images: {100 * one.on_public:.1f} %"
        print(f"{one.name}: {one.run.plan.method}, epsilon {one.run.plan.epsilon:.3g}{told}")
    if private:
        print("this was a look at exact private scores of each run: later certificates count it")
    print(f"open {output}; it is PRIVATE")
