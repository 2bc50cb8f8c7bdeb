"""`sfumato evaluate`: what the pictures are worth, for the owner's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ..options import Judging, parse
from .live import LiveLine
from .options import Ledger, options

if TYPE_CHECKING:
    from ..verbs.evaluate import Evaluation


@options(judging=(Judging,))
def evaluate(
    run: Annotated[
        Path, Argument(metavar="RUN", help="Folder of `sfumato adapt`; the figures stay in it.")
    ],
    release: Annotated[Path, Argument(metavar="RELEASE", help="Folder of `sfumato synthesize`.")],
    test: Annotated[
        Path, Option("--test", help="Held-out real images, not part of the private set.")
    ],
    judging: dict,
    train: Annotated[
        Path | None, Option("--train", help="The private images, for the row `real`.")
    ] = None,
    rows: Annotated[
        str,
        Option(
            "--rows",
            metavar="A,B,..",
            help="Of synthetic, public_only, noise_only, one_image, non_private, real.",
        ),
    ] = "synthetic,public_only",
    beside: Annotated[
        list[Path] | None,
        Option(
            "--beside",
            metavar="RUN2",
            help="Another run on the same images, as a row of its own (repeatable).",
        ),
    ] = None,
    ledger: Ledger = None,
    public_test: Annotated[
        bool,
        Option(
            "--public-test",
            help=(
                "The test images are public: their figures are no look at private scores. Images"
                " that the ledger knows are refused."
            ),
        ),
    ] = False,
) -> None:
    """Train on synthetic, test on real: every classifier with mean and spread, beside the control
    rows. PRIVATE.

    \b
    sfumato evaluate run release --test ./held-out
    sfumato evaluate run release --test ./held-out --train ./scans --rows synthetic,real
    sfumato evaluate run-token release --test ./held-out --rows synthetic,noise_only,one_image
    """
    from ..runs.folder import Run
    from ..verbs.evaluate import evaluate as measure

    with LiveLine() as line:
        found = measure(
            Run.open(run, ledger),
            release,
            test=test,
            train=train,
            rows=parse.listed(rows),
            beside=beside or (),
            public_test=public_test,
            on_stage=line.stage,
            **judging,
        )
    show(found, run)


def show(found: Evaluation, run: Path) -> None:
    """Print accuracies (percent, mean and sample deviation over seeds) and distances."""
    from rich.console import Console
    from rich.table import Table

    names = [row.classifier for row in next(iter(found.utility.values()), [])]
    table = Table(
        "trained on",
        "pictures",
        *names,
        title="Accuracy on real images, percent",
        title_justify="left",
    )
    for row, results in found.utility.items():
        cells = [
            f"{100 * r.mean:.2f}"
            + (f" ± {100 * r.std:.2f}" if r.std is not None else " (one seed)")
            for r in results
        ]
        table.add_row(row, f"{found.images[row]:,}", *cells)
    console = Console()
    if found.utility:
        console.print(table)
    if found.distances:
        columns = list(next(iter(found.distances.values())))
        table = Table(
            "pictures", *columns, title="Distances to the real images", title_justify="left"
        )
        for row, figures in found.distances.items():
            table.add_row(
                row, *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in figures.values())
            )
        console.print(table)
    if found.cosines:
        table = Table("token", "cosine to the exact mean, from the public anchor")
        for row, value in found.cosines.items():
            table.add_row(row, f"{value:.2f}")
        console.print(table)
    print(f"PRIVATE: covered by no epsilon; kept in {run / 'evaluation'}, never in the release.")
    print(
        "a look at exact private scores is a row of the ledger, and later certificates count it; a"
        " paid way: `sfumato select`"
    )
