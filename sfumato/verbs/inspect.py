"""`inspect`: what lies in a folder, for the owner's eyes."""

from __future__ import annotations

from typing import Unpack

from ..options import Reading, gather, takes
from ..planning.reading import Source, records_of
from ..records import Summary, describe
from .keywords import ReadingFields


@takes(reading=Reading)
def inspect(
    images: Source, *, reading: Reading | None = None, **options: Unpack[ReadingFields]
) -> Summary:
    """What is in a folder of private images.

    Args:
        images: Class folders, a folder with metadata.csv or .jsonl, parquet, idx or npz.
        reading: The options below as one object.
        options: Fields of `Reading`.

    Returns:
        Counts, sizes, bad files, duplicates. Everything in it is private: keep it on this machine.

    Raises:
        SfumatoError: Images that cannot be read, or options that there are not.
    """
    said = {"reading": reading} if reading is not None else {}
    return describe(records_of(images, gather({"reading": Reading}, said | options)["reading"]))
