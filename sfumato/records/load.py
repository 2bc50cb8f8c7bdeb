"""load_records: one path in, one RecordSet out, whatever the layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ..errors import DataError, MachineError, SfumatoError
from ..options import FIXED, Values
from ..options.frames import PLAIN, parse_frames
from . import arrays
from .folder import is_own
from .from_arrays import from_arrays
from .layouts.choose import listing_at
from .listing import from_listing
from .recordset import RecordSet
from .split import BOTH, PARTS, Split, read_split
from .trees import is_archive


class Files(TypedDict, total=False):
    """How files become records; fields of `Reading`.

    Attributes:
        frames: Which frames of a DICOM, NIfTI or TIFF file become records: "first", "middle",
            "all", or how many; default: one, the middle (of TIFF the first page).
        layout: How the place is read, one of `LAYOUTS`; default: as its names and files say.
        objects: Of COCO annotations: "largest" (the class of an image is that of its largest
            object) or "crops" (each object is a record, all of one image are one unit).
    """

    frames: str | int | None
    layout: str | None
    objects: str | None


def load_records(
    path: str | Path,
    *,
    labels: str | None = None,
    caption_column: str | None = None,
    unit: str | None = None,
    classes: Sequence[str] | None = None,
    max_bad: float = 0.01,
    part: str = "train",
    unlabelled: bool = False,
    yes_public: bool | Sequence[str] = False,
    values: Values = FIXED,
    refusals: list[str] | None = None,
    split: str | Path | Split | None = None,
    **files: Unpack[Files],
) -> RecordSet:
    """Indexes private images and returns their RecordSet.

    Every image is decoded once, by fixed rules. Raises SfumatoError for any bad input.

    Args:
        path: Class folders, a folder with metadata.csv or .jsonl (or that table itself), parquet,
            Arrow files of `datasets`, WebDataset tars, kohya folders, COCO json, idx pairs, npz, or
            a zip or tar of folders.
        labels: Column (or npz array) of the labels; default: the first of label, class.
        caption_column: Column of the captions.
        unit: Column of the privacy unit. An npz array called `unit` is used without being named,
            and of DICOM files PatientID. "folder" and "file" take these.
        classes: The public class list; other labels become zero slots. Without it the list is read
            off the data (labels, folders, or names that come with the file), and its classes of few
            units are kept apart (`RecordSet.few`).
        max_bad: The largest share of bad records.
        part: "train" or "test", of a `split`, or of a source that has splits of its own; ignored
            for others.
        unlabelled: All records get the one class "image".
        yes_public: Declares the found list as it is; as a list of names it must be the found one,
            word for word.
        values: Stored values of black and white, as declared; default: by the type of each file.
        refusals: For looking at a set: where it would be refused, the reason is added here and
            reading goes on, without what does not fit. Such records are not for training.
        split: A file of `sfumato split`, or what is in it: only its `part` is read, as if the
            source held nothing else. Gives the unit, if none is named.
        files: `frames`, `layout` and `objects`, as `Files` has them.
    """
    if unknown := set(files) - set(Files.__annotations__):
        raise TypeError(f"load_records has no argument {sorted(unknown)[0]!r}")
    frames = files.get("frames")
    root = Path(path)
    if not 0 <= max_bad <= 1:
        raise SfumatoError("--max-bad must be a share of the records: give a number from 0 to 1")
    if part not in PARTS and not (part == BOTH and isinstance(split, Split)):
        raise SfumatoError(f"part {part!r}: choose 'train' or 'test'")
    if unlabelled and labels is not None:
        raise SfumatoError("--labels and --unlabelled exclude each other: give one of them")
    if not isinstance(yes_public, bool) and classes is not None:
        raise SfumatoError(
            "classes declares a list, names in yes_public accept the one found: give one of them"
        )
    if not root.exists():
        raise SfumatoError(f"no such file or folder: {str(path)!r}")
    if is_own(root.name) and root.is_file():
        raise DataError(
            "a file of that name is one that `sfumato inspect` wrote for your eyes, and no data:"
            " name the images"
        )
    held = None if split is None else read_split(split)
    options = {
        "labels": labels,
        "captions": caption_column,
        "unit": unit if unit is not None or held is None else held.unit,
        "classes": classes,
        "max_bad": max_bad,
        "unlabelled": unlabelled,
        "yes_public": yes_public,
        "values": values,
        "refusals": refusals,
        "split": held,
        "part": part,
        "frames": None if frames is None else parse_frames(frames),
        "before": frames == PLAIN,  # as versions before read
        "layout": files.get("layout"),
        "objects": files.get("objects"),
    }
    try:
        return _load(root, part if held is None else "train", options)
    except PermissionError as error:
        raise MachineError(f"no permission to read {str(error.filename or path)!r}") from None


def _load(root: Path, split: str, options: dict[str, Any]) -> RecordSet:
    if options["layout"] in (None, "npz", "idx"):
        if root.suffix.lower() == ".npz" and root.is_file():
            found = arrays.read_npz(root, split)
            return from_arrays(root, "npz", found, options)
        pair = None if is_archive(root) else arrays.find_idx(root, split)
        if pair:
            found = {"images": arrays.read_idx(pair[0]), "labels": arrays.read_idx(pair[1])}
            return from_arrays(root, "idx", found, options)
        if options["layout"] is not None:
            raise DataError(f"--layout {options['layout']}: there are no such arrays")
    return from_listing(root, listing_at(root, split, options), split, options)
