"""Parts of a base that are let go when they have been used, and read again if they are needed."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..compute.device import device
from ..compute.stored import Stored
from ..errors import ModelError
from . import weights
from .loading import loading, read_models


class Again:
    """Reads a part from its folder once more, if its files are those of the first time.

    Args:
        component: The part's folder.
        cls: Its class.
    """

    def __init__(self, component: Path, cls: type):
        self._component, self._class, self._files = component, cls, _files(component)

    def __call__(self) -> nn.Module:
        """The part, on the device in use.

        Raises:
            ModelError: Its files have changed since.
        """
        folder, name = self._component.parent, self._component.name
        with loading(folder):
            if _files(self._component) != self._files:
                raise ModelError(
                    f"{name} of the base {folder} has changed since it was opened: put the original"
                    " back, and start again"
                )
            return read_models(folder, {name: self._class})[name].to(device())


class Parts(dict[str, Any]):
    """A pipeline's parts by name; one that was dropped is read again when it is asked for.

    Args:
        parts: By name.
        folder: Of the base.
        classes: The models among them, and how each is opened.
    """

    def __init__(self, parts: Mapping[str, Any], folder: Path, classes: Mapping[str, type]):
        super().__init__(parts)
        self._again = {name: Again(folder / name, cls) for name, cls in classes.items()}

    def drop(self, name: str) -> None:
        """Lets go of a model, if it is large."""
        if name in self._again and is_large(self.held().get(name)):
            del self[name]

    def held(self) -> dict[str, Any]:
        """Those in memory now."""
        return dict(super().items())

    def __missing__(self, name: str) -> Any:
        """Reads what was dropped."""
        if name not in self._again:
            raise KeyError(name)
        self[name] = self._again[name]()
        return self[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a part, in memory or not."""
        return super().__contains__(name) or name in self._again

    def get(self, name: str, default: Any = None) -> Any:
        """The part, or `default`."""
        return self[name] if name in self else default

    def items(self) -> ItemsView[str, Any]:
        """All of them, in memory from now on."""
        for name in self._again:
            self[name] = self[name]
        return super().items()


def is_large(part: Any) -> bool:
    """Whether a model is worth the time of reading it again: `weights.LEAST` bytes or more."""
    if not isinstance(part, nn.Module):
        return False
    held = ((p.kept if isinstance(p, Stored) else p) for p in part.parameters())
    return sum(p.numel() * p.element_size() for p in held) >= weights.LEAST


def _files(component: Path) -> list[tuple[str, int, int, int]]:
    """What tells a changed file: its name, size, time of change and place on the disk."""
    found = ((path.name, path.stat()) for path in sorted(component.iterdir()))
    return [(name, said.st_size, said.st_mtime_ns, said.st_ino) for name, said in found]
