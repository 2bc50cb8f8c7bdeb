"""One function per paper: given a base and options, what trains and the per-record loss."""

from __future__ import annotations

from .adaptation import Adaptation, Prompts
from .attention import attention
from .embedding import embedding
from .full import full
from .inversion import inversion
from .loda import loda
from .lora import lora
from .saliency import saliency

METHODS = {
    "attention": attention,
    "lora": lora,
    "saliency": saliency,
    "loda": loda,
    "full": full,
    "inversion": inversion,
    "embedding": embedding,
}
TOKEN_METHODS = ("inversion", "embedding")  # what they learn is tokens and nothing else

__all__ = [
    "METHODS",
    "TOKEN_METHODS",
    "Adaptation",
    "Prompts",
    "attention",
    "embedding",
    "full",
    "inversion",
    "loda",
    "lora",
    "saliency",
]
