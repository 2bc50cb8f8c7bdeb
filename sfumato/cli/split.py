"""`sfumato split`: units set apart for testing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Option

from ..options import Reading
from .config import FILE, from_config
from .options import Images, options


@from_config("split")
@options(reading=(Reading,))
def split(
    images: Images,
    reading: dict,
    test: Annotated[
        float, Option("--test", metavar="SHARE", help="Chance of each unit to be held out.")
    ] = 0.2,
    output: Annotated[Path, Option("--output", "-o", help="A new private file.")] = Path(
        "split.json"
    ),
    allow_doubtful_units: Annotated[
        bool, Option("--allow-doubtful-units", help="As for `adapt`: similar values are different.")
    ] = False,
) -> None:
    """Set units apart for testing, without copying a picture: each by a keyed hash of its own
    value, so that none moves another. `adapt --split FILE` trains on the rest, and `evaluate` uses
    the held-out part.

    \b
    sfumato split ./scans --unit patient_id --test 0.2
    sfumato adapt ./scans --split split.json --epsilon 4 --base ./base -o run
    """
    from .. import verbs
    from ..records.diagnosis import as_flags

    found = verbs.split(
        images,
        test=test,
        output=output,
        allow_doubtful_units=allow_doubtful_units,
        **reading,
    )
    unit = "images" if found.unit is None else f"units of {found.unit!r}"
    print(f"training: {found.units[0]:,} {unit}, {found.images[0]:,} usable images")
    print(f"held out: {found.units[1]:,} {unit}, {found.images[1]:,} usable images")
    for name, (train, held_out) in found.classes.items():
        print(f"class {name!r}: {train:,} units for training, {held_out:,} held out")
    for remark in found.remarks:
        print(f"note: {remark}")
    if found.unit is None:
        print(
            "note: the unit is one record; where people have several, name their column with --unit"
        )
    print("These figures are exact and no epsilon covers them: keep them on this machine.")
    print(f"{found.path} is PRIVATE: keep it beside the images. Next:")
    how = as_flags(replace(Reading(**reading), split=str(found.path)))
    print(f"  sfumato plan {quote(str(images))} {how} --epsilon 4 --base BASE")
    if Path(FILE).exists():
        print(f'  or put split = "{found.path}" under [reading] in {FILE}: every verb reads it')
