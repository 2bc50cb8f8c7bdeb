"""Parameters that a module reads directly and broadcasts over rows.

Scale-shift tables, gates, positions, tokens. For one step a leaf [B, *shape] takes the parameter's
place; its ordinary gradient is the per-record gradient.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from .views import VIEWS, as_tuple, basic

# Names of functions and methods without their underscores (`__radd__` is "radd"); everything else
# is refused.
ELEMENTWISE = frozenset(
    "add radd iadd sub subtract rsub isub mul multiply rmul imul div divide true_divide truediv"
    " rtruediv itruediv rdiv pow addcmul lerp where".split()
)
POINTWISE = frozenset(
    "neg abs exp tanh sigmoid relu silu softplus square to type_as float double half bfloat16"
    " contiguous clone".split()
)
JOINS = frozenset(("cat", "concat", "stack"))
# Normalisations, and their arguments in order: without weight and bias they are functions of rows.
NORMAL = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
}
FACTS = frozenset(
    ("size", "dim", "numel", "len", "is_floating_point", "is_complex", "is_contiguous")
)
ATTRIBUTES = frozenset(
    "shape dtype device ndim layout is_cpu is_cuda is_mps is_meta is_leaf requires_grad".split()
)


Refuse = Callable[[str], NoReturn]


@dataclass(eq=False)
class Table:
    """A broadcast parameter: attribute `attr` of `module`, the caller's `name`."""

    path: str
    module: nn.Module
    attr: str
    name: str


@contextlib.contextmanager
def placed(
    tables: list[Table], records: int, draws: int
) -> Generator[dict[str, Tensor], None, None]:
    """Replaces every table by one leaf [records, *shape], for reads as attributes.

    The registered parameters are not touched (the instance's own attribute hides them), so that
    nothing but the step's reads, recomputed ones among them, can see the leaves. Restored on every
    path.

    Args:
        tables: The parameters.
        records: Records of the microbatch.
        draws: Rows of each record.

    Yields:
        Name -> leaf.
    """
    leaves: dict[str, Tensor] = {}
    try:
        for table in tables:
            p = table.module.get_parameter(table.attr)
            leaf = leaves[table.name] = (
                p.detach().contiguous().expand(records, *p.shape).requires_grad_()
            )
            label = f"{table.path}: the broadcast parameter {table.name}"
            table.module.__dict__[table.attr] = Rowwise.of(leaf, draws, label)
        yield leaves
    finally:
        for table in tables:
            table.module.__dict__.pop(table.attr, None)


class Rowwise(Tensor):
    """Stands for a parameter of `shape`, holding one copy per record: `copies` [B, *shape].

    Views and pointwise functions stay Rowwise. Meeting tensors of [B * q, ...] rows, q of them for
    every record, in an elementwise function, a join or an assignment, or as the weight of a
    normalisation, gives an ordinary row tensor. Every other function raises ValueError, and so does
    a meeting in which the parameter's own dimension would be laid along the rows. That rows belong
    to records in this way is assumed here and tried by `isolation.py`: a constant may have as many
    entries in dim 0.
    """

    copies: Tensor
    draws: int
    label: str

    @staticmethod
    def of(copies: Tensor, draws: int, label: str) -> Rowwise:
        """A tensor of a parameter's shape, all NaN, that carries copies [B, *shape]."""
        # NaN: should anything read past __torch_function__, no record passes
        hollow = torch.full((), torch.nan, dtype=copies.dtype, device=copies.device).expand(
            copies.shape[1:]
        )
        self = hollow.as_subclass(Rowwise)
        self.copies, self.draws, self.label = copies, draws, label
        return self

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        raw = getattr(func, "__name__", str(func))
        name = raw.strip("_")
        if name in FACTS or (raw == "__get__" and func.__self__.__name__ in ATTRIBUTES):
            return cast(Any, super().__torch_function__(func, types, args, kwargs))
        if raw == "__get__":
            name = func.__self__.__name__
        first = args[0] if args else None
        mine = next(t for t in _tensors((args, tuple(kwargs.values()))) if isinstance(t, Rowwise))
        refuse = functools.partial(_refuse, mine.label, name)
        if "out" in kwargs or (isinstance(first, Rowwise) and _in_place(raw)):
            refuse("changes a tensor in place")
        if name in ELEMENTWISE or name in JOINS:
            return _meet(func, args, kwargs, mine, refuse, join=name in JOINS)
        if name in NORMAL:
            return _normalise(func, NORMAL[name], args, kwargs, refuse)
        if name == "setitem" and not isinstance(first, Rowwise):
            return _assign(args[0], args[1], args[2], refuse)
        if not isinstance(first, Rowwise) or any(
            isinstance(t, Rowwise) for t in _tensors(args[1:])
        ):
            refuse("has no rule here")
        if name in POINTWISE:
            return _wrap(func(first.copies, *args[1:], **kwargs), first)
        view = VIEWS.get(name)
        if view is None:
            return refuse("has no rule")
        try:
            return _wrap(view(first.copies, *args[1:], **kwargs), first)
        except (TypeError, IndexError, RuntimeError) as error:
            refuse(f"failed: {error}")


def _refuse(label: str, function: str, why: str) -> NoReturn:
    raise ValueError(f"{label} was used in `{function}`, which {why}; freeze it")


def _in_place(raw: str) -> bool:
    return (
        raw == "__setitem__"
        or raw.startswith("__i")
        or (raw.endswith("_") and not raw.startswith("__"))
    )


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(cast(Iterable[Any], value))


def _wrap(copies: Any, like: Rowwise) -> Any:
    if isinstance(copies, Tensor):
        return Rowwise.of(copies, like.draws, like.label)
    return type(copies)(Rowwise.of(t, like.draws, like.label) for t in copies)


def _meet(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mine: Rowwise,
    refuse: Refuse,
    *,
    join: bool,
) -> Any:
    """Apply an elementwise function or a join to row tensors and Rowwise ones side by side."""
    every = [
        t
        for t in _tensors((args, tuple(kwargs.values())))
        if join or t.dim() or isinstance(t, Rowwise)
    ]
    plain = [t for t in every if not isinstance(t, Rowwise)]
    if not plain:
        if join:
            refuse("joins it to no row tensor")
        width = max(t.dim() for t in every)
        values: dict[int, Tensor] = {
            id(t): t.copies.reshape(len(t.copies), *(1,) * (width - t.dim()), *t.shape)
            for t in every
        }
    else:
        width, rows = plain[0].dim(), plain[0].shape[0]
        if any(
            t.dim() != width or t.shape[0] != rows or isinstance(t, nn.Parameter) for t in plain
        ):
            refuse(
                f"meets tensors of shapes {[tuple(t.shape) for t in plain]}: which dimension is the"
                " rows?"
            )
        if join:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            if any(t.dim() != width for t in every) or dim % (width + (func is torch.stack)) == 0:
                refuse("joins along the rows, or tensors of other dimensions")
        dtype = plain[0].dtype
        values = {
            id(t): _rows(t, rows, width, dtype, refuse) for t in every if isinstance(t, Rowwise)
        }

    def swap(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            kind: Any = type(cast(object, value))
            return kind(swap(v) for v in cast(Iterable[Any], value))
        return values.get(id(value), value) if isinstance(value, Tensor) else value

    out = func(*swap(args), **{k: swap(v) for k, v in kwargs.items()})
    return out if plain else _wrap(out, mine)


def _normalise(
    func: Any,
    names: tuple[str, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    refuse: Refuse,
) -> Tensor:
    """A normalisation of row tensors, by a weight or a bias of every record's own."""
    given = dict(zip(names, args)) | kwargs
    rows, weight, bias = given["input"], given.pop("weight", None), given.pop("bias", None)
    if isinstance(rows, Rowwise):
        refuse("normalises it")
    out = func(**given)
    channels = "num_groups" in given  # which come before the positions

    def placed(t: Tensor) -> Tensor:
        return t.reshape(-1, *(1,) * (out.dim() - 2)) if channels else t

    if weight is not None:
        out = placed(weight) * out
    return out if bias is None else placed(bias) + out


def _rows(table: Rowwise, rows: int, width: int, dtype: torch.dtype, refuse: Refuse) -> Tensor:
    """The copies as a row tensor [rows, ...] of `width` dimensions."""
    copies, records = table.copies, len(table.copies)
    if rows % records:
        refuse(f"meets a tensor with {rows} rows for {records} records with {table.draws} draws")
    if table.dim() == width:
        # an expanded dimension holds one value: only then may it lie along the rows
        if table.shape[0] != 1 and not (table.shape[0] == rows and copies.stride(1) == 0):
            refuse(f"lays its dimension 0 (shape {tuple(table.shape)}) along the rows")
        copies = copies.select(1, 0)
    elif table.dim() > width:
        refuse(f"has shape {tuple(table.shape)} beside row tensors of {width} dimensions")
    else:
        copies = copies.reshape(records, *(1,) * (width - 1 - table.dim()), *table.shape)
    if not table.dim() and dtype.is_floating_point:
        copies = copies.to(dtype)  # as a 0-d tensor it would not have widened the result
    if rows != records:
        copies = copies[:, None].expand(records, rows // records, *copies.shape[1:]).flatten(0, 1)
    return copies


def _assign(target: Tensor, index: Any, value: Rowwise, refuse: Refuse) -> None:
    """`target[:, ...] = value`, in rows that stay where they are."""
    index = as_tuple(index)
    if isinstance(target, Rowwise) or not index or index[0] != slice(None) or not basic(index[1:]):
        refuse("does not keep all rows; write target[:, ...] = value")
    part = target[index]
    target[index] = _rows(value, part.shape[0], part.dim(), target.dtype, refuse)
