"""PixArt-Sigma (Chen et al., arXiv 2403.04692): cross-attention to T5's text, noise prediction."""

from __future__ import annotations

from .pipeline import PixArtSigma

__all__ = ["PixArtSigma"]
