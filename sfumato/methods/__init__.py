"""One class per paper: its options, and how it adapts a base.

Adding one changes its own file or folder and the table below.
"""

from __future__ import annotations

from .attention import Attention
from .embedding import Embedding
from .evolution.method import Evolution
from .full import Full
from .given import Given, PublicAnswers
from .interface import Method, Prepared
from .inversion.method import Inversion
from .loda import Loda
from .lora import Lora
from .prompts import Prompts
from .saliency.method import Saliency
from .trained import Trained

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (Attention, Lora, Saliency, Loda, Full, Inversion, Embedding, Evolution)
}
DEFAULT = Attention.name

__all__ = [
    "DEFAULT",
    "METHODS",
    "Attention",
    "Embedding",
    "Evolution",
    "Full",
    "Given",
    "Inversion",
    "Loda",
    "Lora",
    "Method",
    "Prepared",
    "Prompts",
    "PublicAnswers",
    "Saliency",
    "Trained",
]
