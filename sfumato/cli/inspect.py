"""`sfumato inspect`: what is in the folder, for the owner's eyes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Option

from ..options import Reading
from .config import from_config
from .live import LiveLine
from .options import METHOD, Images, options

PRIVATE, NEAR = "Private files", "Near-copies"


@from_config("inspect", only={"public_data": "near"})
@options(reading=(Reading,))
def inspect(
    images: Images,
    reading: dict,
    base: Annotated[
        str | None,
        Option(
            "--base",
            metavar="NAME|FOLDER",
            rich_help_panel=METHOD,
            help="For sheets: its pixels. Its training pictures are compared.",
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
    public_data: Annotated[
        Path | None,
        Option(
            "--public-data",
            metavar="IMAGES",
            rich_help_panel=METHOD,
            help="Images meant as public: looks for near-copies of private ones in them.",
        ),
    ] = None,
    near: Annotated[
        bool,
        Option(
            "--near/--no-near",
            rich_help_panel=NEAR,
            help="Look for near-copies: in the set, across units, in public data.",
        ),
    ] = True,
    near_list: Annotated[
        Path | None,
        Option(
            "--near-list",
            metavar="CSV",
            rich_help_panel=PRIVATE,
            help="A new list of the pairs of near-copies. PRIVATE.",
        ),
    ] = None,
    near_sheet: Annotated[
        Path | None,
        Option(
            "--near-sheet",
            metavar="PNG",
            rich_help_panel=PRIVATE,
            help="A new picture of them, side by side. PRIVATE.",
        ),
    ] = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object instead; it names no file. PRIVATE.")
    ] = False,
) -> None:
    """What is in a folder of private images, and what to do next. Local; it never refuses a folder.

    \b
    sfumato inspect ./scans
    sfumato inspect ./scans --unit patient_id --labels diagnosis
    sfumato inspect ./scans --public-data ./public --near-list pairs.PRIVATE.csv
    sfumato inspect ./scans --json > folder.PRIVATE.json
    sfumato inspect ./scans --range 12bit --base ./base --sheet sheet.PRIVATE.png
    """
    from .. import verbs

    files = {"bad_files": bad_files, "near_list": near_list, "near_sheet": near_sheet}
    with LiveLine() as line:
        found = verbs.inspect(
            images,
            base=base,
            sheet=sheet,
            public_data=public_data,
            near=near,
            on_stage=line.stage,
            **files,
            **reading,
        )
    if as_json:
        from ..verbs.diagnosed import as_facts

        print(json.dumps(as_facts(found, Reading(**reading)), indent=1))
        return
    for line in found.lines():
        print(line)
    if found.bad_files:
        place = bad_files or verbs.keep_bad_files(found)
        print(f"bad files by rule, by name (PRIVATE): {place}")
    if sheet is not None:
        made = sheet if sheet.exists() else "not made, no image can be decoded"
        print(f"what the model will see (PRIVATE): {made}")
    if near_list is not None:
        made = near_list if near_list.exists() else "not made, no image can be compared"
        print(f"pairs of near-copies, by name (PRIVATE): {made}")
    if near_sheet is not None:
        made = near_sheet if near_sheet.exists() else "not made, there are none"
        print(f"pairs of near-copies, side by side (PRIVATE): {made}")
    print("These figures are exact and no epsilon covers them: keep them on this machine.")
