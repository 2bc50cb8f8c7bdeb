"""Which of two exact ways computes a layer's per-record norms: kept gradients or Gram matrices."""

from __future__ import annotations

# Kept gradients are bound by memory traffic, Grams by arithmetic: the break-even is far above the count of FLOPs.
LINEAR_RATIO = 60.0
CONV_RATIO = 20.0


def use_ghost(n: int, d: int, p: int, *, conv: bool = False) -> bool:
    """Whether Gram matrices (ghost norm, book-keeping sum) are the cheaper way for one weight.

    `n` positions per record (draws x tokens or pixels), `d` inputs and `p` outputs of the weight seen as a matrix
    (convolution: d = channels x kernel area). Depends on declared shapes only, never on the drawn batch.
    Ghost norms: arXiv 2110.05679; book-keeping: arXiv 2210.00038.
    """
    ratio = CONV_RATIO if conv else LINEAR_RATIO
    return n * n * (d + p) < ratio * d * p
