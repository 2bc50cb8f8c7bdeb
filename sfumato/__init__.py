"""Differentially private adaptation of diffusion models: a folder of private images in, a release
out.

`inspect`, `plan`, `adapt`, `synthesize`, `evaluate`, `select`, `release`, `verify`: the verbs of
the command line, as functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CheckFailed, Interrupted, SfumatoError

if TYPE_CHECKING:
    from .verbs import adapt, export, inspect, plan, release, synthesize, verify
    from .verbs.evaluate import evaluate
    from .verbs.select import select

_VERBS = ("inspect", "plan", "adapt", "synthesize", "export", "release", "verify")

__all__ = [
    "CheckFailed",
    "Interrupted",
    "SfumatoError",
    "adapt",
    "evaluate",
    "export",
    "inspect",
    "plan",
    "release",
    "select",
    "synthesize",
    "verify",
]


def __getattr__(name: str):
    # Verbs load torch and diffusers; a plain `import sfumato` stays instant.
    if name == "evaluate":
        from .verbs.evaluate import evaluate

        return evaluate
    if name == "select":
        from .verbs.select import select

        return select
    if name in _VERBS:
        from . import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
