"""Which module owns each trainable tensor, and what the engine refuses before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .broadcast import Table
from .randomness import refuse_random
from .rules import CONVS, NORMS

SUPPORTED = (nn.Linear, *CONVS, nn.Embedding, *NORMS)
# where the classes without a forward of their own live: what they own, their users' code reads
PLAIN = ("torch.nn.modules.module", "torch.nn.modules.container")


@dataclass(eq=False)
class Layer:
    """A leaf module that owns trainable tensors.

    `weight` and `bias` are the caller's names, or None if frozen.
    """

    path: str
    module: Any  # one of the layers with a rule (`rules.Weighted`)
    weight: str | None = None
    bias: str | None = None

    @property
    def own_weight(self) -> str:
        """The weight's name, where the layer is known to train one."""
        if self.weight is None:
            raise RuntimeError(f"{self.path}: its weight is frozen")
        return self.weight


def find_layers(
    model: nn.Module, trainable: dict[str, nn.Parameter]
) -> tuple[list[Layer], list[Table]]:
    """Finds the supported leaves that own `trainable`, and the tensors that are broadcast.

    The latter are those that a module reads as its own attribute and broadcasts over rows.

    Args:
        model: The whole model.
        trainable: Name -> parameter of it.

    Returns:
        (layers, tables).

    Raises:
        ValueError: The engine has no exact rule for something; the message names the module and the
            reason.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not trainable:
        raise ValueError("trainable is empty: there is nothing to take gradients of")
    names = _names(trainable)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise ValueError(
            f"{type(model).__name__} around the model would reduce gradients before clipping:"
            " unwrap it"
        )
    layers: list[Layer] = []
    tables: list[Table] = []
    owner: dict[str, str] = {}
    for path, module in model.named_modules():
        label = path or type(module).__name__
        _refuse_anywhere(label, module)
        mine = {
            attr: names[id(p)]
            for attr, p in module._parameters.items()
            if p is not None and id(p) in names
        }
        if isinstance(module, nn.MultiheadAttention) and any(
            id(p) in names for p in module.parameters()
        ):
            raise ValueError(
                f"{label}: nn.MultiheadAttention reads its weights past its modules; no exact rule"
            )
        if not mine:
            continue
        for name in mine.values():
            if name in owner:
                raise ValueError(
                    f"{name}: one parameter shared by modules {owner[name]} and {label} is not"
                    " supported"
                )
            owner[name] = label
        if _has_rule(label, module, mine):
            layers.append(Layer(label, module, mine.get("weight"), mine.get("bias")))
        else:
            tables += [Table(label, module, attr, name) for attr, name in mine.items()]
    missing = [name for name in trainable if name not in owner]
    if missing:
        raise ValueError(
            f"{missing[0]}: this trainable tensor is not a parameter of the model ({len(missing)}"
            " such)"
        )
    return layers, tables


def _names(trainable: dict[str, nn.Parameter]) -> dict[int, str]:
    names: dict[int, str] = {}
    devices: set[torch.device] = set()
    for name, p in trainable.items():
        if not isinstance(p, nn.Parameter):
            raise ValueError(f"{name}: not a torch.nn.Parameter")
        if not p.is_floating_point() or p.numel() == 0:
            raise ValueError(f"{name}: a trainable tensor must be floating point and not empty")
        if p.grad is not None:
            raise ValueError(
                f"{name}: .grad is set; clear it, an ordinary gradient must never reach the"
                " clipped sum"
            )
        if id(p) in names:
            raise ValueError(f"{name}: the same parameter as {names[id(p)]}")
        names[id(p)] = name
        devices.add(p.device)
    if len(devices) > 1:
        raise ValueError(f"trainable tensors are on several devices: {sorted(map(str, devices))}")
    return names


def _refuse_anywhere(label: str, module: nn.Module) -> None:
    if (
        isinstance(module, torch._dynamo.OptimizedModule)
        or getattr(module, "_compiled_call_impl", None) is not None
    ):
        raise ValueError(
            f"{label}: a compiled model is not supported (hooks are traced away); pass the"
            " eager one"
        )
    refuse_random(label, module)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        raise ValueError(
            f"{label}: {type(module).__name__} mixes the records of a batch; use GroupNorm"
        )


def _has_rule(label: str, module: nn.Module, mine: dict[str, str]) -> bool:
    """Returns whether the module is a leaf with a rule; False if its tensors may only be broadcast.

    Raises:
        ValueError: Neither.
    """
    name = next(iter(mine.values()))
    kind = type(module).__name__
    if isinstance(module, parametrize.ParametrizationList) or parametrize.is_parametrized(module):
        raise ValueError(f"{label}: a parametrized weight ({name}) has no exact rule")
    base = next((c for c in SUPPORTED if isinstance(module, c)), None)
    if base is None:
        if any(
            c.__module__.startswith("torch.nn.") and c.__module__ not in PLAIN
            for c in type(module).__mro__
        ):
            raise ValueError(f"{label}: {kind} owns the trainable tensor {name} and has no rule")
        return _is_read(label, module, mine)
    if type(module).forward is not base.forward or "forward" in module.__dict__:
        if base in NORMS and "forward" not in module.__dict__:
            return _is_read(label, module, mine)  # its own forward reads them (`broadcast.NORMAL`)
        raise ValueError(
            f"{label}: {kind} replaces the forward of {base.__name__}; no exact rule for {name}"
        )
    extra = [attr for attr in mine if attr not in ("weight", "bias")]
    if extra:
        raise ValueError(
            f"{label}: no rule for the parameter {extra[0]} of {kind} (re-parametrised weight?)"
        )
    if isinstance(module, nn.Embedding):
        for option in ("max_norm", "scale_grad_by_freq", "sparse"):
            value = getattr(module, option)
            if value is not None and value is not False:
                raise ValueError(f"{label}: Embedding with {option} is not supported")
    if isinstance(module, CONVS):
        if module.padding_mode != "zeros":
            raise ValueError(
                f"{label}: Conv2d with padding_mode={module.padding_mode} is not supported"
            )
        reach = (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True))
        if module.padding == "same" and any(far % 2 for far in reach):
            raise ValueError(f"{label}: Conv2d with padding='same' needs odd kernels")
    return True


def _is_read(label: str, module: nn.Module, mine: dict[str, str]) -> bool:
    """Returns False: the tensors of this module may only be read by it and broadcast.

    Raises:
        ValueError: They could not be read as its attributes.
    """
    hidden = [attr for attr in mine if attr in module.__dict__]
    if hidden:
        raise ValueError(
            f"{label}: the parameter {hidden[0]} of {type(module).__name__} is hidden by an"
            " attribute of that name"
        )
    return False
