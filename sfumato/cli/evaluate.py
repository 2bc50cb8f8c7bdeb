"""`sfumato evaluate`: what the images are worth, for the owner's eyes."""

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
    run: Annotated[Path, Argument(metavar="RUN", help="Run folder; the figures stay in it.")],
    release: Annotated[Path, Argument(metavar="RELEASE", help="Folder of `sfumato synthesize`.")],
    test: Annotated[
        Path, Option("--test", help="Held-out real images, not part of the private set.")
    ],
    judging: dict,
    train: Annotated[
        Path | None, Option("--train", help="The private images themselves, for the row `real`.")
    ] = None,
    rows: Annotated[
        str,
        Option(
            "--rows",
            metavar="A,B,..",
            help="Any of synthetic, public_only, noise_only, one_image, non_private, real.",
        ),
    ] = "synthetic,public_only",
    beside: Annotated[
        list[Path] | None,
        Option(
            "--beside",
            metavar="RUN2",
            help="Another run on the same images, as its own row (repeatable).",
        ),
    ] = None,
    ledger: Ledger = None,
    public_test: Annotated[
        bool,
        Option(
            "--public-test",
            help=(
                "The test images are public, so this is not a look at private scores. Images that"
                " the ledger knows are refused."
            ),
        ),
    ] = False,
) -> None:
    """Train classifiers on synthetic images and test them on real ones, beside control rows. The
    figures are PRIVATE, and the ledger records each evaluation as a look.

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
    print(f"PRIVATE: no epsilon covers these figures. They stay in {run / 'evaluation'}.")
    print(f"open {run / 'evaluation' / 'page.html'} to see the images of each row side by side")
    if public_test:
        print("the test images are public: only the rows one_image, non_private and real are looks")
    else:
        print(
            "this was a look at exact private scores: later certificates count it. To choose among"
            " runs for a paid epsilon instead: `sfumato select`"
        )


def show(found: Evaluation, run: Path) -> None:
    """Print accuracies (percent, mean and sample deviation over seeds) and distances."""
    from rich.console import Console
    from rich.table import Table

    names = [row.classifier for row in next(iter(found.utility.values()), [])]
    table = Table(
        "trained on",
        "images",
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
        cells_of = {row: cells_of_distances(own) for row, own in found.distances.items()}
        columns = list(next(iter(cells_of.values())))
        features = next(iter(next(iter(found.distances.values())))).partition("-")[2]
        title = f"Distances to the real images (features: {features})"
        table = Table("images of", *columns, title=title, title_justify="left")
        for row, own in cells_of.items():
            table.add_row(row, *own.values())
        console.print(table)
    if found.cosines:
        table = Table("token", "cosine to the exact mean, from the public anchor")
        for row, value in found.cosines.items():
            table.add_row(row, f"{value:.2f}")
        console.print(table)


def cells_of_distances(figures: dict) -> dict[str, str]:
    """Column -> text, for the figures of one row of `Evaluation.distances`."""
    cells: dict[str, str] = {}
    for name, value in figures.items():
        if name.startswith("FD"):
            cells["Frechet"] = f"{value:.4g}"
        elif name.startswith("KD"):
            spread = "" if value["std"] is None else f" ± {value['std']:.2g}"
            cells["kernel"] = f"{value['mean']:.3g}{spread}"
        else:
            shares = ("precision", "recall", "density", "coverage")
            cells |= {share: f"{value[share]:.2f}" for share in shares}
    return cells
