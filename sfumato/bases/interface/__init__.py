"""A public model as the rest of the package sees it: `BaseInfo`, `Base` and `TextBase`.

`TextBase` is for bases that can be taught tokens. A model family is a subclass of `Base` in a
folder of its own and a line of `open.FAMILIES`.
"""

from __future__ import annotations

from .base import TRIAL, Base, Denoise
from .info import BaseInfo, Condition, Prediction
from .text import TextBase, text_base
from .told import PROMPTS

__all__ = [
    "PROMPTS",
    "TRIAL",
    "Base",
    "BaseInfo",
    "Condition",
    "Denoise",
    "Prediction",
    "TextBase",
    "text_base",
]
