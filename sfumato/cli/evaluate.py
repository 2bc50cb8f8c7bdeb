"""`sfumato evaluate`: what the images are worth, for the owner's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ..options import Judging, Machine, Reading, parse
from .config import from_config
from .live import LiveLine, asking_first
from .options import Ledger, options

if TYPE_CHECKING:
    from ..verbs.evaluate import Evaluation


@from_config("evaluate")
@options(reading=(Reading,), judging=(Judging,), machine=(Machine,))
def evaluate(
    run: Annotated[Path, Argument(metavar="RUN", help="Run folder; the figures stay in it.")],
    release: Annotated[Path, Argument(metavar="RELEASE", help="Folder of `sfumato synthesize`.")],
    reading: dict,
    judging: dict,
    machine: dict,
    test: Annotated[
        Path | None,
        Option(
            "--test",
            help=(
                "Held-out real images, not part of the private set (default: the held-out part of"
                " the split that the run was adapted with)."
            ),
        ),
    ] = None,
    train: Annotated[
        Path | None,
        Option(
            "--train",
            help="The private images themselves (default: those that the run remembers).",
        ),
    ] = None,
    rows: Annotated[
        str | None,
        Option(
            "--rows",
            metavar="A,B,..",
            help=(
                "Any of synthetic, public_only, noise_only, one_image, non_private, reconstructed,"
                " real (default: synthetic, public_only, and real where the images are known)."
            ),
        ),
    ] = None,
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
    allow_overlap: Annotated[
        bool,
        Option(
            "--allow-overlap",
            help="Accept test images that the run was trained on; the page says so.",
        ),
    ] = False,
) -> None:
    """Train classifiers on synthetic images and test them on real ones, beside control rows. Ends
    in a verdict in words. The figures are PRIVATE, and the ledger records each evaluation as a look
    before it starts, also one that is stopped; at a terminal you are asked first if it takes long.

    \b
    sfumato evaluate run release
    sfumato evaluate run release --test ./held-out
    sfumato evaluate run release --rows synthetic,public_only,real,reconstructed,non_private
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
            rows=None if rows is None else parse.listed(rows),
            beside=beside or (),
            public_test=public_test,
            allow_overlap=allow_overlap,
            on_stage=line.stage,
            confirm=asking_first(line),
            **reading,
            **judging,
            **machine,
        )
    show(found)
    print(f"PRIVATE: no epsilon covers these figures. They stay in {run / 'evaluation'}.")
    print(f"open {found.page} to see real, public and synthetic images side by side, by class")
    if public_test:
        print(
            "the test images are public: only the rows one_image, non_private, reconstructed and"
            " real are looks"
        )
    else:
        print(
            "this was a look at exact private scores: later certificates count it. To choose among"
            " runs for a paid epsilon instead: `sfumato select`"
        )


def show(found: Evaluation) -> None:
    """Print the verdict, accuracies (percent, sample deviation over seeds) and distances."""
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.page import in_words
    from ..evaluation.tables import accuracy, cells_of_distances, features_of

    for sentence in (*found.verdict.sentences, *found.remarks):
        print(sentence)
    names = [row.classifier for row in next(iter(found.utility.values()), [])]
    one = any(r.std is None for own in found.utility.values() for r in own)
    title = "Accuracy on real images, percent" + " (one seed)" * one
    table = Table("trained on", "images", *names, title=title, title_justify="left")
    for row, results in found.utility.items():
        table.add_row(in_words(row), f"{found.images[row]:,}", *map(accuracy, results))
    console = Console()
    if found.utility:
        console.print(table)
    if found.distances:
        cells_of = {row: cells_of_distances(own) for row, own in found.distances.items()}
        columns = list(next(iter(cells_of.values())))
        features = features_of(next(iter(found.distances.values())))
        title = f"Distances to the real images (features: {features})"
        table = Table("images of", *columns, title=title, title_justify="left")
        for row, own in cells_of.items():
            table.add_row(in_words(row), *own.values())
        console.print(table)
    if found.cosines:
        table = Table("token", "cosine to the exact mean, from the public anchor")
        for row, value in found.cosines.items():
            table.add_row(in_words(row), f"{value:.2f}")
        console.print(table)
