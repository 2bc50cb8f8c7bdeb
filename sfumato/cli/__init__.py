"""The command line: one file per verb, each a thin layer over the function of the same name."""

from __future__ import annotations

from .shell import main

__all__ = ["main"]
