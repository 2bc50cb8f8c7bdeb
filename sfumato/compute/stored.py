"""Frozen weights kept in the half precision that they are stored in, and read in single precision.

A `Stored` tensor is float32 to whoever reads it, number for number what its half-precision numbers
say, and takes half the memory: an operation makes a float32 copy of its own, which goes when the
operation ends. Autograd keeps the stored numbers, never that copy. Under mixed precision in the
stored format operations read them as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from .device import HOST

HALVES = (torch.float16, torch.bfloat16)

_aten = torch.ops.aten
# A few rows of many: those alone are made single.
_ROWS = {_aten.embedding.default, _aten.index_select.default, _aten.index.Tensor}
_REFUSED = "a weight kept as it is stored is not written into: unpack it first"


class Stored(torch.Tensor):
    """A tensor that reads as float32 (or another format) and keeps numbers in half precision.

    Operations are those of torch; one that would write into it is refused (`unpack` it first).

    Attributes:
        kept: The numbers, float16 or bfloat16.
    """

    kept: torch.Tensor
    # operations come to `__torch_dispatch__` below autograd, with nothing above it
    __torch_function__: ClassVar[Any] = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, half: torch.Tensor, dtype: torch.dtype = torch.float32) -> Stored:
        """A tensor around `half`, which is not copied.

        Args:
            cls: This class.
            half: float16 or bfloat16, any shape.
            dtype: What it reads as.
        """
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            half.shape,
            strides=half.stride(),
            storage_offset=half.storage_offset(),
            dtype=dtype,
            device=half.device,
            requires_grad=False,
        )
        made.kept = half
        return made

    @property
    def data(self) -> torch.Tensor:
        """The same without a graph; giving it other numbers is refused (RuntimeError)."""
        return self.detach()

    @data.setter
    def data(self, given: torch.Tensor) -> None:
        raise RuntimeError(_REFUSED)

    def __tensor_flatten__(self) -> tuple[list[str], torch.dtype]:
        """Tells torch what is inside, so that a module moves it to a device whole."""
        return ["kept"], self.dtype

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, torch.Tensor], dtype: torch.dtype, size: Any, stride: Any
    ) -> Stored:
        """The reverse."""
        return Stored(inner["kept"], dtype)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        """Shape and formats, without numbers."""
        return f"Stored({list(self.shape)}, {self.kept.dtype} as {self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls,
        operation: Any,
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Does an operation on single-precision copies, or on the stored numbers where it may."""
        how, first = kwargs or {}, args[0] if args else None
        if isinstance(first, Stored):
            if _keeps(operation):
                found = operation(first.kept, *args[1:], **how)
                return tree_map_only(torch.Tensor, lambda part: Stored(part, first.dtype), found)
            if operation in _ROWS:
                return operation(first.kept, *args[1:], **how).to(first.dtype)
            if operation is _aten._to_copy.default:
                return _converted(first, **how)
        if any(isinstance(written, Stored) for written in _written(operation, args, how)):
            raise RuntimeError(_REFUSED)
        args, how = tree_map_only(Stored, unpacked, (args, how))
        return operation(*args, **how)


def _converted(tensor: Stored, dtype: torch.dtype | None = None, **how: Any) -> torch.Tensor:
    """`tensor.to(...)`; in its own half precision the numbers themselves, still not to write to."""
    dtype = dtype or tensor.dtype
    half = tensor.kept.to(how["device"]) if how.get("device") is not None else tensor.kept
    return Stored(half, dtype) if dtype in (torch.float32, *HALVES) else half.to(dtype)


@cache
def _keeps(operation: Any) -> bool:
    """Whether it gives the same numbers in another order, or some: nothing is made single."""
    if operation in (_aten.clone.default, _aten._unsafe_view.default):
        return True
    shared = (given.alias_info for given in operation._schema.returns)
    shares = any(kind is not None and not kind.is_write for kind in shared)
    return shares and operation is not _aten.view.dtype  # which reads their bits as another format


def _written(operation: Any, args: tuple[Any, ...], how: Mapping[str, Any]) -> Iterable[Any]:
    """The tensors that an operation writes into, in lists, too."""
    for number, declared in enumerate(operation._schema.arguments):
        if declared.alias_info is not None and declared.alias_info.is_write:
            given = args[number] if number < len(args) else how.get(declared.name)
            yield from tree_leaves(given)


def unpacked(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's numbers as an ordinary one, in the format that it reads as."""
    return tensor.kept.to(tensor.dtype) if isinstance(tensor, Stored) else tensor


def unpack(parameters: Iterable[nn.Parameter]) -> None:
    """Makes these parameters, wherever they are used, ordinary ones that may be written into."""
    for held in parameters:
        if isinstance(held, Stored):
            whole = nn.Parameter(unpacked(held).detach(), held.requires_grad)
            torch.utils.swap_tensors(held, whole)


def pack(model: nn.Module, formats: Collection[torch.dtype] = HALVES) -> None:
    """Keeps the matrices of a frozen model in half precision, and makes all else single.

    Only numbers that half precision holds exactly: what the model computes does not change.

    Args:
        model: In half precision, in single, or in both.
        formats: The half precision that single-precision numbers may have been stored in.
    """
    held: dict[int, nn.Parameter] = {}  # a parameter that two layers share stays one
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            if id(p) not in held:
                half = _exact(p.detach(), formats)
                if half is not None and p.ndim > 1:
                    held[id(p)] = nn.Parameter(Stored(half), requires_grad=False)
                elif p.dtype in HALVES:
                    held[id(p)] = nn.Parameter(p.detach().float(), requires_grad=False)
                else:
                    held[id(p)] = p
            setattr(module, name, held[id(p)])
        for name, b in list(module.named_buffers(recurse=False)):
            if b.dtype in HALVES:
                setattr(module, name, b.float())


def _exact(tensor: torch.Tensor, formats: Collection[torch.dtype]) -> torch.Tensor | None:
    """The same numbers in half precision; None where it does not hold them."""
    if tensor.dtype in HALVES:
        return tensor
    halves = (tensor.to(dtype) for dtype in formats)
    return next((half for half in halves if bool((half.to(tensor.dtype) == tensor).all())), None)


def copied(model: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A copy of a model with `convert` of every tensor in it, and no other copy of its weights."""
    memo: dict[int, Any] = {}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(convert(p.detach()), requires_grad=False)
    memo |= {id(b): convert(b.detach()) for b in model.buffers()}
    return copy.deepcopy(model, memo)


def halved(model: nn.Module) -> Any:
    """A copy of a model in float16 and in host memory, as it is written to a disk."""

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor.to(HOST)
        return unpacked(tensor.to(HOST, torch.float16))

    return copied(model, convert)
