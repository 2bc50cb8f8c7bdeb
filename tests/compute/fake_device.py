"""A device for tests on a machine without one: its tensors have values, and do not mix.

`fake:0` is torch's "private use" device, registered from Python. A tensor of it wraps one of the
host, on which every operation really runs, so that sums can be compared with the host's. What would
be an error or a wait on a GPU is seen here: two devices in one operation raise; copies from and to
the host, and reads of a number, are counted by the line of the package that made them; tensors that
are made in host memory meanwhile are listed. It says nothing about kernels, speed or memory.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import sfumato

NAME = "fake"
DEVICE = torch.device("cpu")  # until `register` has been called
PACKAGE = str(Path(sfumato.__file__).parent)
PASSED_ON = str(Path("compute") / "device.py")  # who called it is meant
READS = {"_local_scalar_dense", "is_nonzero"}
COPIES = {"copy_", "_copy_from", "_copy_from_and_resize", "_to_copy"}
PRODUCTS = ("linear", "conv2d", "matmul", "mm", "bmm", "addmm", "baddbmm")
FACTORIES = {
    "arange", "empty", "empty_strided", "eye", "full", "linspace", "ones", "rand", "randint",
    "randn", "randperm", "scalar_tensor", "tril_indices", "zeros",
}  # fmt: skip
# An index in host memory is let into a device's table; torch copies it, and waits.
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}


class _Backend(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed: int) -> None:
        """There are no random numbers of its own."""

    def _is_in_bad_fork(self) -> bool:
        return False

    # Registered once for a process, it is there only while a test asks for it.

    def is_available(self) -> bool:
        return bool(_now)

    def device_count(self) -> int:
        return len(_now)

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def synchronize(self, device: Any = None) -> None:
        if _now:
            _now[-1].synchronized += 1

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """As above."""

    def current_device(self) -> int:
        return 0


@dataclass
class Seen:
    """What happened on the device: operations by the package's own lines."""

    reads: Counter[str] = field(default_factory=Counter)
    to_host: Counter[str] = field(default_factory=Counter)
    to_device: Counter[str] = field(default_factory=Counter)
    pinned: int = 0
    synchronized: int = 0
    made_on_host: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> int:
        """How often the host waits for the device."""
        return self.reads.total() + self.to_host.total()

    def clear(self) -> None:
        """Forgets all."""
        for counter in (self.reads, self.to_host, self.to_device, self.made_on_host):
            counter.clear()
        self.operations.clear()
        self.pinned = self.synchronized = 0


class FakeTensor(torch.Tensor):
    """A tensor of the fake device around one of the host."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> FakeTensor:
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"fake({tuple(self.shape)}, {self.dtype})"

    @property
    def data(self) -> Any:
        """The values alone, as every tensor has them."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if not isinstance(value, FakeTensor):
            raise RuntimeError(f"{_line()}: values of the host put into a tensor of the device")
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def tolist(self) -> Any:
        """As on a GPU: a wait, then numbers."""
        if _now:
            _now[-1].reads[_line()] += 1
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        """As on a GPU: refused."""
        raise TypeError(f"{_line()}: a tensor of the device has no numpy array: copy it first")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        made: Any = FakeTensor(self.held.clone())
        if isinstance(self, torch.nn.Parameter) or getattr(self, "_is_param", False):
            made = torch.nn.Parameter(made, requires_grad=self.requires_grad)
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_now: list[Seen] = []
_KEPT = torch.library.Library("_", "IMPL")
_PRODUCTS = torch.library.Library("aten", "IMPL")


def _line() -> str:
    """The package's line that is running, `room/file.py:number`; "elsewhere" for none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and not name.endswith(PASSED_ON):
            return f"{name[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: on the host's values, with the devices' rules."""
    name = func._schema.name.removeprefix("aten::")
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    fakes = [t for t in tensors if isinstance(t, FakeTensor)]
    if name == "to":  # as inference mode leaves it
        func, args, kwargs, name = _as_copy(args, kwargs)
    asked = kwargs.get("device")
    onto = asked is not None and torch.device(asked).type == NAME
    seen = _now[-1] if _now else Seen()
    if not fakes and not onto:
        if name in FACTORIES and _now:
            made = func(*args, **kwargs)
            if made.dim() and made.numel():
                seen.made_on_host[_line()] += 1
            return made
        return func(*args, **kwargs)
    seen.operations[name] += 1
    from_host = [t for t in tensors if not isinstance(t, FakeTensor)]
    if name in READS:
        seen.reads[_line()] += 1
    elif name in COPIES:
        if onto and not fakes:
            seen.to_device[_line()] += 1
        elif fakes and asked is not None and not onto:
            seen.to_host[_line()] += 1
        elif from_host and fakes:  # copy_ between the two
            (seen.to_device if isinstance(args[0], FakeTensor) else seen.to_host)[_line()] += 1
    else:
        large = [t for t in from_host if t.dim()]
        if name in INDEXED and isinstance(args[0], FakeTensor):
            if large:
                seen.to_device[_line()] += 1
                large = [t for t in large if name != "index" and t is args[2]]
        if fakes and large:
            shapes = [tuple(t.shape) for t in fakes[:3]], [tuple(t.shape) for t in large[:3]]
            raise RuntimeError(
                f"{_line()}: {name} has tensors of two devices, fake {shapes[0]} and host"
                f" {shapes[1]}"
            )
    kept = {id(t.held): t for t in fakes}
    plain = dict(kwargs)
    if asked is not None:
        plain["device"] = torch.device("cpu")
    if "pin_memory" in plain:
        plain["pin_memory"] = None
    with torch.utils._python_dispatch._disable_current_modes():
        result = func(*tree_map(_held, args), **tree_map(_held, plain))
    if not (onto or (fakes and asked is None)):
        return result

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
            return value
        return kept[id(value)] if id(value) in kept else FakeTensor(value)

    if name in COPIES and isinstance(args[0], torch.Tensor) and not isinstance(args[0], FakeTensor):
        if name != "_to_copy":
            return args[0]
    return tree_map(wrapped, result)


def _as_copy(args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], str]:
    """`tensor.to(...)` by what it does."""
    said = {
        "device": next((a for a in args if isinstance(a, torch.device)), kwargs.get("device")),
        "dtype": next((a for a in args if isinstance(a, torch.dtype)), kwargs.get("dtype")),
    }
    given = {name: value for name, value in said.items() if value is not None}
    return torch.ops.aten._to_copy.default, args[:1], given, "_to_copy"


def _held(value: Any) -> Any:
    return value.held if isinstance(value, FakeTensor) else value


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _mixed(product: Any) -> Any:
    """A product whose floating numbers are first made those of mixed precision."""
    without = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def run(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(NAME)

        def cast(value: Any) -> Any:
            floating = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value.to(dtype) if floating else value

        with torch._C._ExcludeDispatchKeyGuard(without):
            return product(*tree_map(cast, args), **tree_map(cast, kwargs))

    return run


def register() -> torch.device:
    """Makes torch know the device, once in a process and before its first backward pass."""
    global DEVICE
    if DEVICE.type != NAME:
        backend_registration._setup_privateuseone_for_python_backend(
            NAME, backend_module=_Backend()
        )
        # mixed precision, as a GPU has it for products; all else passes
        _KEPT.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        for name in PRODUCTS:
            _PRODUCTS.impl(name, _mixed(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")
        DEVICE = torch.device(NAME, 0)
    return DEVICE


@contextlib.contextmanager
def fake_device() -> Iterator[Seen]:
    """Inside, the package computes on the fake device; yields what happens on it."""
    from sfumato.compute.device import using

    where, seen = register(), Seen()
    pin, run = torch.Tensor.pin_memory, threading.Thread.run

    def inside(thread: threading.Thread) -> None:
        with _Mode():  # a mode is a thread's own
            run(thread)

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        seen.pinned += 1
        return tensor

    _now.append(seen)
    torch.Tensor.pin_memory = pinned  # type: ignore[method-assign]
    threading.Thread.run = inside  # type: ignore[method-assign]
    try:
        with using(where), _Mode():
            yield seen
    finally:
        torch.Tensor.pin_memory = pin  # type: ignore[method-assign]
        threading.Thread.run = run  # type: ignore[method-assign]
        _now.pop()
