"""One class per paper: its options, and how it adapts a base.

Adding one changes its own file or folder and the table below.
"""

from __future__ import annotations

from .attention import Attention
from .embedding import Embedding
from .full import Full
from .interface import Given, Method, PublicAnswers
from .inversion.method import Inversion
from .loda import Loda
from .lora import Lora
from .prompts import Prompts
from .saliency.method import Saliency

METHODS: dict[str, type[Method]] = {
    kind.name: kind for kind in (Attention, Lora, Saliency, Loda, Full, Inversion, Embedding)
}

__all__ = [
    "METHODS",
    "Attention",
    "Embedding",
    "Full",
    "Given",
    "Inversion",
    "Loda",
    "Lora",
    "Method",
    "Prompts",
    "PublicAnswers",
    "Saliency",
]
