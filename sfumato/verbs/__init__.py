"""What a person does with sfumato: a page for each verb."""

from __future__ import annotations

from .adapt import adapt, resume
from .listings import bases, methods
from .plan import PlanReport, inspect, plan
from .release import release, verify
from .synthesize import export, synthesize

__all__ = [
    "PlanReport",
    "adapt",
    "bases",
    "export",
    "inspect",
    "methods",
    "plan",
    "release",
    "resume",
    "synthesize",
    "verify",
]
