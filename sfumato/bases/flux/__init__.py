"""FLUX.1 (Black Forest Labs): two streams and then one, rectified flow, packed latents."""

from __future__ import annotations

from .pipeline import Flux

__all__ = ["Flux"]
