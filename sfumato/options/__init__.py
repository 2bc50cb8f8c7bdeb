"""Every option there is, declared once: flags, arguments of Python, defaults and docs follow.

Nothing here loads torch, so that the command line answers at once.
"""

from __future__ import annotations

from .choosing import Choosing
from .declare import Declared, Options, declared, option
from .gather import gather, takes
from .judging import CLASSIFIERS, Judging, Matching, Selecting
from .privacy import Execution, Privacy, Prompting, Reading, Schedule
from .progress import Counted, listening, tell
from .project import INSTEAD, MADE, PLACES, SILENT, Project, Start
from .sharing import Sharing
from .signing import Signing
from .training import Machine, Performance, Recipe, Sampling
from .values import FIXED, Values, declared_values

__all__ = [
    "Declared",
    "CLASSIFIERS",
    "Choosing",
    "Counted",
    "Execution",
    "FIXED",
    "INSTEAD",
    "Judging",
    "MADE",
    "Machine",
    "Options",
    "PLACES",
    "Performance",
    "Privacy",
    "Project",
    "Prompting",
    "Reading",
    "SILENT",
    "Recipe",
    "Sampling",
    "Schedule",
    "Matching",
    "Selecting",
    "Sharing",
    "Signing",
    "Start",
    "Values",
    "declared",
    "declared_values",
    "gather",
    "listening",
    "option",
    "takes",
    "tell",
]
