"""Views of a parameter, taken of every record's copy [B, *shape] at once.

The dimensions in the arguments are the parameter's own: none of these functions can reach the
records' dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor


def _repeat(t: Tensor, *sizes: Any) -> Tensor:
    """Copies side by side; one value many times is not written out."""
    sizes = _spread(sizes)
    own = t.reshape(len(t), *(1,) * (len(sizes) - t.dim() + 1), *t.shape[1:])
    lengths = [1 if had == 1 else size for had, size in zip(own.shape[1:], sizes, strict=True)]
    if any(size != 1 for size in lengths):
        own = own.repeat(1, *lengths)
    wide = [size if had == 1 else -1 for had, size in zip(own.shape[1:], sizes, strict=True)]
    return own.expand(-1, *wide)


def _index_select(t: Tensor, dim: int, index: Tensor) -> Tensor:
    return t.index_select(_dim(t, dim), index)


def as_tuple(index: Any) -> tuple[Any, ...]:
    """An index as a tuple of one entry for a dimension."""
    return cast(tuple[Any, ...], index) if isinstance(index, tuple) else (index,)


def basic(index: tuple[Any, ...]) -> bool:
    """Whether an index keeps every number in its place: None, slices and whole numbers."""
    return all(
        i is None or i is Ellipsis or (isinstance(i, (int, slice)) and not isinstance(i, bool))
        for i in index
    )


def _dim(t: Tensor, dim: int, extra: int = 0) -> int:
    """Returns the dimension of the copies for dimension `dim` of the parameter.

    Raises:
        IndexError: The parameter has no such dimension.
    """
    own = t.dim() - 1 + extra
    if not -own <= dim < own:
        raise IndexError(f"dimension {dim} of {own}")
    return dim % own + 1


def _getitem(t: Tensor, index: Any) -> Tensor:
    index = as_tuple(index)
    # whole numbers in a tensor: the same places of every record's copy. Should they be ids of rows,
    # the result lies along the rows and no meeting takes it.
    places = [i for i in index if _is_places(i)]
    if len(places) == 1 and not any(isinstance(i, int) for i in index):
        return t[(slice(None), *index)]
    if not basic(index):
        raise TypeError("only None, slices and whole numbers, or one list of places, may index it")
    return t[(slice(None), *index)]


def _is_places(index: Any) -> bool:
    """Whether an index is a tensor of whole numbers, of one dimension."""
    return (
        isinstance(index, Tensor) and index.dtype in (torch.int32, torch.int64) and index.dim() == 1
    )


def _reshape(t: Tensor, *shape: Any) -> Tensor:
    shape = _spread(shape)
    return t.reshape(len(t), *shape)


def _spread(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes given one by one, or as one tuple or list."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        return tuple(cast(Iterable[Any], sizes[0]))
    return sizes


def _expand(t: Tensor, *sizes: Any) -> Tensor:
    sizes = _spread(sizes)
    own = t.reshape(len(t), *(1,) * (len(sizes) - t.dim() + 1), *t.shape[1:])
    return own.expand(len(t), *sizes)


VIEWS: dict[str, Callable[..., Any]] = {
    "getitem": _getitem,
    "unsqueeze": lambda t, dim: t.unsqueeze(_dim(t, dim, 1)),
    "view": _reshape,
    "reshape": _reshape,
    "expand": _expand,
    "repeat": _repeat,
    "index_select": _index_select,
    "squeeze": lambda t, dim: t.squeeze(_dim(t, dim)),
    "flatten": lambda t, start_dim=0, end_dim=-1: t.flatten(_dim(t, start_dim), _dim(t, end_dim)),
    "transpose": lambda t, dim0, dim1: t.transpose(_dim(t, dim0), _dim(t, dim1)),
    "chunk": lambda t, chunks, dim=0: t.chunk(chunks, _dim(t, dim)),
    "split": lambda t, split_size, dim=0: t.split(split_size, _dim(t, dim)),
    "unbind": lambda t, dim=0: t.unbind(_dim(t, dim)),
}
