"""`sfumato select`: which run is best on held-out private images, for a paid epsilon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ..options import Machine, Reading, Selecting
from .config import from_config
from .live import LiveLine
from .options import Ledger, options

if TYPE_CHECKING:
    from ..verbs.select import SelectionReport


@from_config("select")
@options(reading=(Reading,), selecting=(Selecting,), machine=(Machine,))
def select(
    runs: Annotated[
        list[Path],
        Argument(
            metavar="RUN...",
            help="Run folders, or folders of `sfumato synthesize`, to choose from.",
        ),
    ],
    data: Annotated[
        Path,
        Option("--data", help="Held-out private images with labels, read like those of `adapt`."),
    ],
    reading: dict,
    selecting: dict,
    machine: dict,
    ledger: Ledger = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Choose the best of several runs by noisy accuracy on held-out private images, for a paid
    epsilon. Charged before an image is scored; not a look.

    \b
    sfumato select run-1 run-2 run-3 --data ./held-out --epsilon 0.5
    sfumato select release-1 release-2 --data ./held-out --unit patient_id --epsilon 1 --json
    """
    from ..verbs.select import select as choose

    with LiveLine() as line:
        said = {**reading, **selecting, **machine}
        found = choose(runs, data=data, ledger=ledger, on_stage=line.stage, **said)
    print(json.dumps(found.to_json(), indent=2)) if as_json else show(found)


def show(found: SelectionReport) -> None:
    """Prints accuracies with their errors, the choice, its cost, and the certificates' entry."""
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "noisy accuracy, percent", "standard error", title_justify="left")
    for place, name in enumerate(found.candidates):
        chosen = " (chosen)" if place == found.chosen else ""
        table.add_row(
            name + chosen,
            f"{100 * found.accuracies[place]:.2f}",
            f"{100 * found.standard_errors[place]:.2f}",
        )
    Console().print(table)
    print(
        f"cost: epsilon {found.epsilon:.3f} at delta {found.delta:.3g} for {found.n_units:,}"
        f" held-out units ({found.unit}, {found.relation}); standard error of the noise alone:"
        f" {100 * found.noise_error:.2f} points"
    )
    if any(found.composes):
        total = (
            "not bounded" if found.total_epsilon is None else f"epsilon {found.total_epsilon:.3f}"
        )
        print(f"held-out and training images share units, so their costs add up: {total} in total")
    print("the guarantee covers this choice; later certificates of these runs state it")
