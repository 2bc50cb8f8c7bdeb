"""The audit of the code that runs, with dummy data.

Replay on neighbours, statistics of noise and draws, canaries.
"""

from __future__ import annotations

from .checks import CHECKS, Settings, run_checks
from .finding import Finding

__all__ = ["CHECKS", "Finding", "Settings", "run_checks"]
