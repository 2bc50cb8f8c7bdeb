"""The base that a run trained."""

from __future__ import annotations

from ..bases import Base, open_adapted
from ..runs.folder import Run
from ..runs.prepared import original_base


def adapted_base(run: Run) -> Base:
    """The base with the run's released changes in it."""
    return open_adapted(run.model, lambda: original_base(run.plan))
