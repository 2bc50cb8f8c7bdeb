"""`sfumato inspect`: what is in the folder, for the owner's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from ..options import Reading
from .config import from_config
from .options import METHOD, Images, options

PRIVATE = "Private files"


@from_config("inspect")
@options(reading=(Reading,))
def inspect(
    images: Images,
    reading: dict,
    base: Annotated[
        str | None,
        Option(
            "--base", metavar="NAME|FOLDER", rich_help_panel=METHOD, help="For --sheet: its pixels."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        Option(
            "--sheet",
            metavar="PNG",
            rich_help_panel=PRIVATE,
            help="A new picture of what the model will see, by class. PRIVATE.",
        ),
    ] = None,
    bad_files: Annotated[
        Path | None,
        Option(
            "--bad-files",
            metavar="CSV",
            rich_help_panel=PRIVATE,
            help="A new list of bad files by rule (default: beside your ledger). PRIVATE.",
        ),
    ] = None,
) -> None:
    """What is in a folder of private images, and what to do next. Local; it never refuses a folder.

    \b
    sfumato inspect ./scans
    sfumato inspect ./scans --unit patient_id --labels diagnosis
    sfumato inspect ./scans --range 12bit --base ./base --sheet sheet.PRIVATE.png
    """
    from .. import verbs

    found = verbs.inspect(images, base=base, sheet=sheet, bad_files=bad_files, **reading)
    for line in found.lines():
        print(line)
    if found.bad_files:
        place = bad_files or verbs.keep_bad_files(found)
        print(f"bad files by rule, by name (PRIVATE): {place}")
    if sheet is not None:
        made = sheet if sheet.exists() else "not made, no image can be decoded"
        print(f"what the model will see (PRIVATE): {made}")
    print("These figures are exact and no epsilon covers them: keep them on this machine.")
