"""The verbs of the package, one module each.

A module is imported when its verb is used: inspecting a folder or verifying a release does not wait
for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adapt import adapt
    from .describing import BaseReport, describe_base
    from .export import export
    from .inspect import inspect, keep_bad_files
    from .listings import bases, copy_base, methods
    from .plan import PlanReport, plan
    from .push import push
    from .release import release, verify
    from .resume import resume
    from .split import split
    from .start import start
    from .synthesize import synthesize

_PAGES = {
    "PlanReport": "plan",
    "adapt": "adapt",
    "bases": "listings",
    "copy_base": "listings",
    "BaseReport": "describing",
    "describe_base": "describing",
    "export": "export",
    "inspect": "inspect",
    "keep_bad_files": "inspect",
    "methods": "listings",
    "plan": "plan",
    "push": "push",
    "release": "release",
    "resume": "resume",
    "split": "split",
    "start": "start",
    "synthesize": "synthesize",
    "verify": "release",
}

__all__ = [
    "PlanReport",
    "adapt",
    "bases",
    "BaseReport",
    "copy_base",
    "describe_base",
    "export",
    "inspect",
    "keep_bad_files",
    "methods",
    "plan",
    "push",
    "release",
    "resume",
    "split",
    "start",
    "synthesize",
    "verify",
]


class _Pages(ModuleType):
    """This package: `verbs.plan` is the verb, even if the module of that name came first."""

    def __getattr__(self, name: str):
        if name not in _PAGES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{self.__name__}.{_PAGES[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _PAGES:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Pages
