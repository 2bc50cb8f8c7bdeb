"""`sfumato match`: which public base is nearest to private images, for a paid epsilon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..options import Machine, Matching, Reading
from .config import from_config
from .live import LiveLine
from .options import Images, Ledger, options

if TYPE_CHECKING:
    from ..verbs.match import MatchReport


@from_config("match")
@options(reading=(Reading,), matching=(Matching,), machine=(Machine,))
def match(
    images: Images,
    reading: dict,
    matching: dict,
    machine: dict,
    ledger: Ledger = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Which public base is nearest to private images, by noisy votes, for a paid epsilon.

    \b
    sfumato match ./scans --epsilon 0.1
    sfumato match ./scans --epsilon 0.1 --bases glyphs,letters,./sd15
    sfumato match ./scans --epsilon 0.2 --bases icons,things --words "cat,dog,car"
    """
    from ..verbs.match import match as ask

    with LiveLine() as line:
        said = {**reading, **matching, **machine}
        found = ask(images, ledger=ledger, on_stage=line.stage, **said)
    print(json.dumps(found.to_json(), indent=2)) if as_json else show(found)


def show(found: MatchReport) -> None:
    """Prints the ranking with its intervals, look-alikes, and what it cost."""
    from rich.console import Console
    from rich.table import Table

    table = Table("base", "votes, percent of units", "95 % interval", title_justify="left")
    for name, share, low, high in zip(found.bases, found.shares, found.low, found.high):
        table.add_row(name, f"{100 * share:.1f}", f"{100 * low:.1f} to {100 * high:.1f}")
    Console().print(table)
    if not found.clear:
        print("the intervals overlap: this budget does not tell the first from the next")
    for name, words in found.look_alikes.items():
        said = ", ".join(words) or "no word stands out of the noise"
        print(f"looks like {name}: {said}" + (f" (--init {name}={words[0]})" if words else ""))
    print(f"an image votes for {found.rule}, in {found.features}")
    total = "not bounded" if found.total_epsilon is None else f"epsilon {found.total_epsilon:.3f}"
    print(
        f"cost: epsilon {found.epsilon:.3f} at delta {found.delta:.3g} for {found.n_units:,} units"
        f" ({found.unit}, {found.relation}); noise {found.noise_multiplier:.1f} votes; all that was"
        f" charged on these images: {total}"
    )
