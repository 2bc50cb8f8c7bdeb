"""`bases FOLDER`: what a base is, and what trains on it by each method."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SfumatoError
from ..methods import METHODS, Given, Prompts
from ..options.arguments import checked
from ..planning.prepare import require_knowing

if TYPE_CHECKING:
    from ..bases import Base, BaseInfo

# float32 numbers held for each that trains: itself is among the weights; its gradient, the clipped
# sum, Adam's two moments.
HELD = 4
WORD = "<sfumato>"


@dataclass(frozen=True)
class BaseReport:
    """What `sfumato bases FOLDER` prints.

    Attributes:
        info: Facts of the folder.
        pipeline: The diffusers class of its pipeline.
        scheduler: Class of the scheduler that it came with.
        training_data: What its card says of it, None for nothing.
        trains: Method -> how many numbers train with the method's defaults, for one class.
        refused: Method -> why it does not train on this base.
    """

    info: BaseInfo
    pipeline: str
    scheduler: str
    training_data: str | None
    trains: dict[str, int]
    refused: dict[str, str]

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights as they are held: matrices of large parts as they are stored."""
        return self.info.held

    def bytes_for(self, method: str) -> int:
        """Bytes of weights and of what is kept for each number that trains, without activations."""
        made_single = 2 if self.info.held < 4 * self.info.parameters else 0
        return self.weights_bytes + (4 * HELD + made_single) * self.trains[method]


@checked
def describe_base(base: str | Path) -> BaseReport:
    """What a base is, what it needs, and what trains on it by each method.

    Its weights are read, and the denoiser is tried once; nothing private is involved.

    Args:
        base: A bundled name or a pipeline folder.

    Returns:
        The facts.

    Raises:
        SfumatoError: There is no such base.
        ModelError: It cannot be adapted.
    """
    from ..bases import base_info, load_base, training_data
    from ..bases.checks import INDEX_FILE
    from ..bases.weights import check_settings

    info = base_info(base)
    opened = load_base(base)
    trains: dict[str, int] = {}
    refused: dict[str, str] = {}
    for name in METHODS:
        try:
            require_knowing(base, METHODS[name])
            trains[name] = _trainable(opened, name)
        except SfumatoError as error:
            refused[name] = str(error)
    index = info.folder / INDEX_FILE
    return BaseReport(
        info,
        str(check_settings(index)["_class_name"]) if index.is_file() else "adapters of a base",
        opened.own_sampler,
        training_data(info.folder),
        trains,
        refused,
    )


def _trainable(base: Base, name: str) -> int:
    """How many numbers a method trains, tried on a copy that shares the weights."""
    kind = METHODS[name]
    tried = _shared_copy(base)
    prompts = Prompts((_some_prompt(base),))
    if kind.learns_tokens:
        prompts = Prompts((WORD,), (WORD,), (None,))
    try:
        return kind().apply(tried, Given(prompts)).most_trainable
    finally:
        base.denoiser.requires_grad_(False)


def _some_prompt(base: Base) -> str:
    """Nothing, or the first class where a prompt is the name of one."""
    from ..bases.classes import ClassBase

    if not isinstance(base, ClassBase):
        return ""
    return next(names[0] for names in base.table.names if names)


def _shared_copy(base: Base) -> Base:
    """A base of modules of its own around the same weights."""
    from torch import nn

    held: dict[int, Any] = {}
    parts = [*vars(base).values(), *getattr(base, "parts", {}).values()]
    for part in parts:
        if isinstance(part, nn.Module):
            held |= {id(tensor): tensor for tensor in (*part.parameters(), *part.buffers())}
    tried = copy.copy(base)
    for name, part in vars(base).items():
        try:
            setattr(tried, name, copy.deepcopy(part, held))
        except TypeError:  # a lock, say, which is no part of a model
            setattr(tried, name, part)
    return tried
