"""Qwen-Image (Wu et al., arXiv 2508.02324): streams of text and picture, rectified flow."""

from __future__ import annotations

from .pipeline import QwenImage

__all__ = ["QwenImage"]
