"""`sfumato ledger`: all that was ever spent on the owner's images, and the cap on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ..errors import SfumatoError
from ..options import Reading
from .config import from_config
from .options import AllowFileSystem, Images, Ledger, options

if TYPE_CHECKING:
    from ..verbs.ledger import Spent

app = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    help="Everything ever spent on your images, over all runs and folders, and the cap on it.",
    rich_markup_mode="rich",
)


@app.command()
@from_config("ledger show")
@options(reading=(Reading,))
def show(
    reading: dict,
    images: Annotated[
        Path | None, Argument(metavar="[IMAGES]", help="Only what was spent on these images.")
    ] = None,
    against: Annotated[
        Path | None,
        Option(
            "--against",
            metavar="PRIVACY.JSON",
            help="Check a release's privacy.json against the ledger.",
        ),
    ] = None,
    ledger: Ledger = None,
    allow_file_system: AllowFileSystem = False,
    as_json: Annotated[
        bool, Option("--json", help="With IMAGES: what was spent on them, as one JSON object.")
    ] = False,
) -> None:
    """Runs, epsilon and cap for each group of data sets that share an image. Verifies the chain.

    \b
    sfumato ledger show
    sfumato ledger show ./scans
    sfumato ledger show --against release/privacy.json
    """
    from ..verbs.ledger import ledger as spent

    if as_json and images is None:
        raise SfumatoError(
            "--json says what was spent on images: name them, sfumato ledger show IMAGES --json"
            " (sfumato ledger export writes every row)"
        )
    found = spent(
        images, path=ledger, against=against, allow_file_system=allow_file_system, **reading
    )
    if images is not None:
        if as_json:
            print(json.dumps({"remark": found.remark, **(found.own or {})}))
            return
        print(found.remark or "no run was ever charged on these images, and they have no cap")
        return
    if against is not None:
        print(f"{against.name}: {found.certificate}; the ledger knows this certificate")
    for number, group in enumerate(found.groups, 1):
        print(f"group {number}: {_spent(group)}")
        for charge in group.runs:
            terms = f"delta {charge['delta']:.3g}, unit {charge['unit']!r}, {charge['relation']}"
            print(f"  run {charge['run']}: epsilon {charge['epsilon']:.3f}, {terms}")
    for kind in found.file_systems:
        print(f"stored on {kind}, which is not known to be a local disk")
    for again in found.resets:
        what = (
            "no state folder here knew of its charges"
            if again.get("unwitnessed")
            else "an older copy was accepted"
        )
        print(f"row {again['row']}: RESET at {again['utc']}, {what}")
    if not found.witnessed:
        print(
            "no home folder to note the newest row in: if an older copy of the whole ledger folder"
            " is put back, only run folders can reveal it"
        )
    print(f"{found.rows} rows, head {found.head}, {found.path}")


def _spent(group: Spent) -> str:
    """What one group is and has cost, on one line."""
    known = f"{'no cap' if group.cap is None else f'cap {group.cap:g}'}, " + counted(
        group.data_sets, "data set"
    )
    looks = f", {counted(group.looks, 'look')} at exact figures" if group.looks else ""
    if not group.runs:
        why = "noted as images to test with"
        if group.cap is not None and not group.looks:
            why = "only a cap was set"
        return f"no run was charged on these images ({why}){looks}, {known}"
    total = "no total" if group.epsilon is None else f"epsilon {group.epsilon:.3f}"
    unclear = f"; {group.unclear}" if group.unclear else ""
    return f"{total} in {counted(len(group.runs), 'run')}{looks}, {known}{unclear}"


def _epsilon_alone(values: dict) -> None:
    """`sfumato ledger cap 8`: the one word is the cap, and the images are those of the config."""
    if values["epsilon"] is None and values["images"] is not None:
        try:
            values["epsilon"], values["images"] = float(str(values["images"])), None
        except ValueError:
            raise SfumatoError(
                "the cap is missing: give it after the images, sfumato ledger cap ./scans 8"
            ) from None


@app.command()
@from_config("ledger cap", arrange=_epsilon_alone)
@options(reading=(Reading,))
def cap(
    images: Images,
    reading: dict,
    epsilon: Annotated[
        float | None,
        Argument(metavar="EPSILON", help="The largest total epsilon of all runs on these images."),
    ] = None,
    raising: Annotated[
        bool,
        Option("--raise", help="Allow a higher cap than the current one; recorded."),
    ] = False,
    ledger: Ledger = None,
    allow_file_system: AllowFileSystem = False,
) -> None:
    """Cap the total epsilon of these images. A run that would exceed it is refused. Of several caps
    on images that belong together the smallest counts. Raising a cap is recorded, and every later
    certificate shows it.

    \b
    sfumato ledger cap ./scans 8
    sfumato ledger cap ./scans 10 --raise
    """
    if epsilon is None:
        raise SfumatoError("the cap is missing: sfumato ledger cap ./scans 8")

    from ..verbs.ledger import ledger as spent

    found = spent(
        images,
        path=ledger,
        cap=epsilon,
        raising=raising,
        allow_file_system=allow_file_system,
        **reading,
    )
    before = f", previously {found.before:g}" if found.before else ""
    print(f"cap {epsilon:g} on {found.images:,} images{before}")
    if found.remark:
        print(found.remark)


@app.command()
@from_config("ledger reset")
def reset(
    runs: Annotated[
        list[Path] | None,
        Argument(
            metavar="[RUN]...",
            help="Run folders that saw the newer copy, or are older copies themselves.",
        ),
    ] = None,
    ledger: Ledger = None,
) -> None:
    """Accept an older copy of the ledger or of a run folder because the newest one is lost.
    Recorded; every later certificate shows it.

    \b
    sfumato ledger reset
    sfumato ledger reset ./run

    What was charged stays charged. Charges in lost rows are unknown from now on: do not use those
    images again.
    """
    from ..runs import budget

    for facts in budget.reset_ledger(ledger, runs or ()):
        known = "an unknown number of" if facts["missing_rows"] is None else facts["missing_rows"]
        whose = (
            "an older copy of the run's folder was accepted"
            if facts.get("older") == "folder"
            else f"{known} rows are missing"
        )
        print(f"row {facts['row']}: RESET, {whose}; every later certificate shows it")


@app.command()
@from_config("ledger export")
def export(
    output: Annotated[
        Path | None, Option("--output", "-o", help="A new file (default: standard output).")
    ] = None,
    ledger: Ledger = None,
) -> None:
    """The whole chain as JSON lines, for an auditor. It holds no image, file name or image hash.

    \b
    sfumato ledger export -o ledger.jsonl
    """
    from ..runs import budget

    book = budget.existing_ledger(ledger)
    text = "".join(line + "\n" for line in book.export())
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise SfumatoError(f"{output} already exists: name a new file (nothing is overwritten)")
    output.write_text(text, encoding="ascii")
    print(f"{output}: {len(book.rows)} rows, head {book.head}")


def counted(n: int, name: str) -> str:
    """A number with its noun: 1 run, 2 runs."""
    return f"{n} {name}" if n == 1 else f"{n} {name}s"
