"""`sfumato inspect`: what is in the folder, for the owner's eyes."""

from __future__ import annotations

from ..options import Reading
from .config import from_config
from .options import Images, options


@from_config("inspect")
@options(reading=(Reading,))
def inspect(images: Images, reading: dict) -> None:
    """What is in a folder of private images: layout, counts, sizes, bad files, duplicates. Local.

    \b
    sfumato inspect ./scans
    sfumato inspect ./scans --unit patient_id --labels diagnosis
    """
    from .. import verbs

    for line in verbs.inspect(images, **reading).lines():
        print(line)
    print("These figures are exact and no epsilon covers them: keep them on this machine.")
