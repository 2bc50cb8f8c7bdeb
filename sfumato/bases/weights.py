"""Safetensors headers and JSON settings from anyone, checked before a library reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..errors import ModelError

MAX_HEADER = 16 * 2**20  # bytes; Stable Diffusion's own is 0.1 MB
WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}
# Bytes of a part's weights from which they stay in memory as they are stored. Below, a machine has
# the memory, and plain tensors are read a little faster.
LEAST = 2**26
# entries of a list or layers in a row; a number of channels, tokens or positions
MOST_BLOCKS, MOST_WIDTH = 128, 2**20
# Settings that only enter an arithmetic: nothing is as large as they are.
_SCALES = ("rope_theta", "rotary_base", "axes_theta", "theta")
MOST_SCALE = 2**40
_COUNTS = (
    "layers",
    "num_hidden_layers",
    "layers_per_block",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
)

# Tensors of whole numbers beside the weights: places of some text encoders, and how many batches a
# normalisation has seen.
COUNTED = ("position_ids", "num_batches_tracked")


def check_weights(path: Path) -> dict[str, dict]:
    """The header of a safetensors file: tensor -> its type, shape and place.

    The tensors themselves are not read.

    Raises:
        ModelError: Unless the header is small and true: every tensor once, end to end, nothing
            beside, floats only, but for those `COUNTED`.
    """
    try:
        with path.open("rb") as stream:
            length, whole = int.from_bytes(stream.read(8), "little"), path.stat().st_size
            if not 2 <= length <= min(MAX_HEADER, whole - 8):
                raise ValueError("its header is as long as no file")
            header = json.loads(stream.read(length), object_pairs_hook=_once)
        header.pop("__metadata__", None)
        spans = []
        for name, entry in header.items():
            kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if kind not in WIDTH or (kind == "I64" and not name.endswith(COUNTED)):
                raise ValueError(f"{kind} is no type for weights")
            if any(type(n) is not int or n < 0 for n in (*shape, start, end)):
                raise ValueError("a shape or place that is no number")
            if math.prod(shape) * WIDTH[kind] != end - start:
                raise ValueError("a tensor whose shape is not its size")
            spans.append((start, end))
        spans.sort()
        if [start for start, _ in spans] != [0, *(end for _, end in spans)][:-1] or not spans:
            raise ValueError("tensors that overlap or leave gaps")
        if spans[-1][1] != whole - 8 - length:
            raise ValueError("it is cut, or longer than its tensors")
        return header
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Only our own words: a library's may quote the file.
        reason = str(error) if type(error) is ValueError else "it does not read"
        raise ModelError(
            f"{path.name} is not a whole safetensors file ({reason}): fetch or save it again"
        ) from error


def check_settings(path: Path) -> dict[str, Any]:
    """The object in a config file; ModelError if it does not read."""
    try:
        if path.stat().st_size > MAX_HEADER:
            raise ValueError
        found = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.parent.name}/{path.name} is not readable JSON: fetch or save the base again"
        ) from error
    return found


def check_extent(path: Path) -> None:
    """Refuses a model config with sizes that no such model has. ModelError.

    A library would start to build it.
    """
    most = _largest(check_settings(path))
    if most is not None:
        raise ModelError(
            f"{path.parent.name}/{path.name} asks for {most} that no such model has: fetch the base"
            " again"
        )


def _largest(value, name: str = "") -> str | None:
    """What is too large in a value read from JSON; None if nothing is."""
    if isinstance(value, dict):
        return next(
            (bad for key, inner in value.items() if (bad := _largest(inner, str(key)))), None
        )
    if isinstance(value, list):
        if len(value) > MOST_BLOCKS and name != "trained_betas":
            return "a list"
        return next((bad for inner in value if (bad := _largest(inner, name))), None)
    most = MOST_BLOCKS if name in _COUNTS else MOST_SCALE if name in _SCALES else MOST_WIDTH
    if isinstance(value, int) and abs(value) > most:
        return f"a {name if name.isidentifier() else 'number'}"
    return None


def _once(pairs: list) -> dict:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
