"""Which of three exact ways computes each weight's per-record norms.

Kept gradients, Gram matrices, or neither held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STRATEGIES = ("keep", "ghost", "lean")

# Kept gradients of a step may take this share of what the layers' inputs take, whatever the size of
# the batch.
KEPT_SHARE = 3.0


@dataclass(frozen=True)
class Ratios:
    """When a Gram matrix is worth its arithmetic; `calibrate.py` measures it on a machine.

    Numbers of a kept gradient cost memory traffic (written once, read twice), multiply-adds of a
    Gram cost arithmetic. The values here are those of AVX-512 cores.

    Attributes:
        linear: Multiply-adds that take the time of one kept number of a Linear.
        conv: The same of a convolution.
        small: So many kept numbers take the time of a Gram's many small operations, whatever its
            size; weights of fewer are kept.
    """

    linear: float = 24.0
    conv: float = 40.0
    small: int = 2**12


USUAL = Ratios()


@dataclass(frozen=True)
class Work:
    """The cost of one weight, [p, d] as a matrix, in one step.

    All counts are per record and come from shapes alone.

    Attributes:
        positions: n = draws x tokens or pixels x calls.
        kept: Numbers of the gradient, p * d.
        gram: Multiply-adds of its two Gram matrices; None where it has none (`rules.is_product`).
        inputs: Numbers of the layer's inputs.
        patches: Numbers of a convolution's unfolded input, if it must be copied to keep the
            gradient.
        conv: Whether it is a convolution with a kernel.
    """

    positions: int
    kept: int
    gram: int | None
    inputs: int
    patches: int = 0
    conv: bool = False


def decide(
    strategy: str | Mapping[str, str],
    names: Sequence[str | None],
    work: Sequence[Work],
    ratios: Ratios,
) -> list[str]:
    """The way of every weight: forced, as it was written down, or chosen.

    Args:
        strategy: "auto", one way for all, or weight's name -> way.
        names: Of the weights.
        work: Their costs.
        ratios: Of the machine; for "auto", and for weights that nothing was written down of.

    Returns:
        A way for each.
    """
    if isinstance(strategy, str):
        found = choose(work, ratios) if strategy == "auto" else [strategy] * len(work)
    else:
        rest = choose(work, ratios)
        found = [strategy.get(name or "", way) for name, way in zip(names, rest, strict=True)]
    return ["lean" if w.gram is None and way == "ghost" else way for w, way in zip(work, found)]


def choose(work: Sequence[Work], ratios: Ratios = USUAL) -> list[str]:
    """Chooses a strategy for every weight: the fastest that stays within the memory share.

    "keep" holds the per-record gradient from the backward pass to the sum. "ghost" takes the norm
    from Gram matrices (arXiv 2110.05679) and the sum from one weighted product (book-keeping, arXiv
    2210.00038). "lean" takes the norm from gradients computed a few records at a time and dropped:
    a second weight gradient, but no memory. The declared shapes decide, never the drawn batch, so
    the choice reveals nothing about it.

    Args:
        work: The cost of every weight.
        ratios: Of the machine.

    Returns:
        "keep", "ghost" or "lean" for every weight.
    """
    ways = ["ghost" if _ghost(w, ratios) else "keep" for w in work]
    room = KEPT_SHARE * sum(w.inputs for w in work)
    kept = sum(w.kept for w, way in zip(work, ways) if way == "keep")
    for i in sorted(range(len(work)), key=lambda i: -work[i].kept):
        if kept <= room:
            break
        if ways[i] == "keep":
            small = work[i].gram is not None and 2 * work[i].positions ** 2 < work[i].kept
            ways[i] = "ghost" if small else "lean"
            kept -= work[i].kept
    return ways


def _ghost(work: Work, ratios: Ratios) -> bool:
    if work.gram is None:
        return False
    moved = work.kept + work.patches
    return work.gram < (ratios.conv if work.conv else ratios.linear) * (moved - ratios.small)
