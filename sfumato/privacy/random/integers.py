"""The integer noise of one address, drawn by the host: part by part, on several threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from sfumato.privacy.random.gaussian import discrete_gaussian

if TYPE_CHECKING:
    from sfumato.privacy.random.keys import RunKey

_PART = 1 << 15  # integers drawn at a time; stays in cache
_SHARE = 8 * _PART  # of one thread, at least: starting it takes as long as some thousand numbers


def integers(
    variance: Fraction,
    size: int,
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    name: str,
    start: int = 0,
) -> np.ndarray:
    """The noise of numbers start, start + 1, ... of one address.

    A number follows from its place alone, so threads and parts change nothing. Both the cipher and
    numpy let other threads run meanwhile.

    Args:
        variance: Of the discrete Gaussian.
        size: How many numbers.
        key: The run key.
        purpose: Part of the address, as in `RunKey.stream`.
        step: Part of the address.
        attempt: Part of the address.
        name: Part of the address.
        start: The first number.

    Returns:
        int64 [size].
    """
    sampler = discrete_gaussian(variance)
    drawn = np.empty(size, dtype=np.int64)

    def more(offset: int, term: int) -> Iterator[int]:
        stream = key.stream("ties", step, attempt, f"{purpose}/{name}/{offset}/{term}")
        while True:
            yield from stream.words(1).tolist()

    def fill(begin: int, end: int) -> None:
        stream = key.stream(purpose, step, attempt, name, (start + begin) * sampler.terms)
        for at in range(begin, end, _PART):
            count = min(_PART, end - at)
            words = stream.words(count * sampler.terms).reshape(count, sampler.terms)
            drawn[at : at + count] = sampler.draw(
                words, lambda i, term, at=start + at: more(at + i, term)
            )

    shares = max(1, min(torch.get_num_threads(), size // _SHARE))
    if shares == 1:
        fill(0, size)
        return drawn
    edges = [size * i // shares for i in range(shares + 1)]
    with ThreadPoolExecutor(shares) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))
    return drawn
