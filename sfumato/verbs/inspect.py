"""`inspect`: what is in a folder, for the owner's eyes."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from ..options import Reading, gather, takes
from ..planning.reading import Source, look_at
from ..records import Summary, describe
from .keywords import ReadingFields


@takes(reading=Reading)
def inspect(
    images: Source, *, reading: Reading | None = None, **options: Unpack[ReadingFields]
) -> Summary:
    """What is in a folder of private images, and how it was read.

    It diagnoses: where `adapt` would refuse the images, the summary has a warning that says why.

    Args:
        images: Class folders, a flat folder, a folder with metadata.csv or .jsonl, parquet, idx or
            npz.
        reading: The options below as one object.
        options: Fields of `Reading`.

    Returns:
        Counts, sizes, bad files, duplicates. Everything in it is private: keep it on this machine.

    Raises:
        SfumatoError: No image that can be read, or options that there are not.
    """
    said = {"reading": reading} if reading is not None else {}
    asked: Reading = gather({"reading": Reading}, said | options)["reading"]
    records, read_as, refused = look_at(images, asked)
    summary = describe(records, read_as.labels, read_as.unlabelled)
    if refused is None:
        return summary
    warning = f"`adapt` will refuse this folder as it is: {refused}"
    return replace(summary, warnings=(warning, *summary.warnings))
