"""Sana (Xie et al., arXiv 2410.10629): linear attention on a deep-compression autoencoder."""

from __future__ import annotations

from .pipeline import Sana

__all__ = ["Sana"]
