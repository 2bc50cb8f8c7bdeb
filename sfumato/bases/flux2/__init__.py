"""FLUX.2 [klein] (Black Forest Labs): rectified flow on latents that are patches, told by Qwen3."""

from __future__ import annotations

from .pipeline import Flux2Klein

__all__ = ["Flux2Klein"]
