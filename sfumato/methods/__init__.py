"""One function per paper: given a base and options, what trains and the per-record loss."""

from __future__ import annotations

from .adaptation import Adaptation, Prompts
from .attention import attention
from .full import full
from .loda import loda
from .lora import lora
from .saliency import saliency

METHODS = {"attention": attention, "lora": lora, "saliency": saliency, "loda": loda, "full": full}

__all__ = ["METHODS", "Adaptation", "Prompts", "attention", "full", "loda", "lora", "saliency"]
