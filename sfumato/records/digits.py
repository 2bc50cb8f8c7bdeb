"""The bundled private digits of the demo: MNIST (CC BY-SA 3.0, see data/MNIST-LICENSE.md)."""

from __future__ import annotations

import lzma
import tarfile
from importlib.resources import files

import numpy as np

from ..errors import MachineError
from .arrays import parse_idx
from .recordset import RecordSet


def bundled_digits(split: str = "train") -> RecordSet:
    """MNIST as a RecordSet of uint8 [n, 28, 28], classes "0".."9".

    60,000 slots ("train") or 10,000 ("test"). Raises MachineError when the bundled archive is
    damaged or missing, ValueError for another split.
    """
    if split not in ("train", "test"):
        raise ValueError("split is 'train' or 'test'")
    prefix = {"train": "train", "test": "t10k"}[split]
    try:
        labels, images = _members((f"{prefix}-labels-idx1-ubyte", f"{prefix}-images-idx3-ubyte"))
    except (OSError, KeyError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise MachineError(
            f"the bundled digits cannot be read ({type(error).__name__}): install sfumato again"
        ) from None
    n = len(labels)
    return RecordSet(
        source=f"mnist:{split}",
        kind="idx",
        classes=tuple("0123456789"),
        labels=labels.astype(np.int64),
        unit=np.arange(n),
        unit_column=None,
        usable=np.ones(n, bool),
        array=images,
    )


def _members(names: tuple[str, ...]) -> list[np.ndarray]:
    found = {}
    with (
        (files("sfumato") / "data" / "mnist.tar.xz").open("rb") as file,
        tarfile.open(fileobj=file, mode="r|xz") as tar,
    ):
        # as a stream: the test digits come first and need not wait for the others
        for member in tar:
            if member.name in names:
                packed = tar.extractfile(member)
                assert packed is not None  # both are plain files
                found[member.name] = parse_idx(packed.read(), member.name)
            if len(found) == len(names):
                break
    return [found[name] for name in names]
