"""A few pictures for a page, within a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from ..bases import Base
from ..options import Sampling
from .sampler import pictures

TOGETHER = 2  # pictures between two looks at the clock


def few_pictures(
    base: Base,
    prompts: Sequence[str],
    labels: np.ndarray,
    indices: np.ndarray,
    sampling: Sampling,
    seconds: float | None = None,
    progress: Callable[[int], None] = lambda more: None,
) -> list[np.ndarray]:
    """Draws images as `pictures` does, in order, and stops early when time is over.

    Args:
        base: The base.
        prompts: One per class.
        labels: Class of every image number.
        indices: Numbers of the images to draw.
        sampling: How they are drawn.
        seconds: After so many no further picture is begun; two are always drawn. None: all.
        progress: Called with the number of pictures that were just drawn.
    """
    found: list[np.ndarray] = []
    started = time.monotonic()
    bounded = sampling if seconds is None else replace(sampling, batch=TOGETHER)
    with closing(pictures(base, prompts, labels, indices, bounded)) as parts:
        for _, part in parts:
            found += list(part)
            progress(len(part))
            if seconds is not None and time.monotonic() - started > seconds:
                break
    return found
