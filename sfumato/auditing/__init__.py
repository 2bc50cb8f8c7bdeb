"""The audit: replay on neighbours, statistics of noise and draws, canaries; on the code that runs,
with dummy data.
"""

from __future__ import annotations

from .checks import CHECKS, Settings, run_checks
from .finding import Finding

__all__ = ["CHECKS", "Finding", "Settings", "run_checks"]
