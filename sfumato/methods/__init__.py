"""One function per paper: given a base and options, what trains and the per-record loss."""

from __future__ import annotations

from .adaptation import ADAPTER_LEARNING_RATE, LEARNING_RATE, Adaptation, Prompts
from .attention import attention
from .embedding import embedding
from .full import full
from .inversion.method import inversion
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
ADAPTERS = ("lora", "saliency", "loda")
LEARNING_RATES = {
    name: ADAPTER_LEARNING_RATE if name in ADAPTERS else LEARNING_RATE for name in METHODS
}  # unless told otherwise
TOKEN_METHODS = ("inversion", "embedding")  # what they learn is tokens and nothing else

__all__ = [
    "LEARNING_RATES",
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
