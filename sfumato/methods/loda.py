"""DP-LoDA: DP-SGD on low-dimensional branches beside layers (Liu et al., arXiv 2406.05257).

Layers are convolutions and linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..options import option, parse
from .given import Given
from .low_rank import LowRank

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class Loda(LowRank):
    """y = W0 x + (alpha / rank) U g(D x), D with the host's kernel, stride and padding, U at zero.

    activation: g, "identity" (mergeable, saved as an ordinary LoRA file) or "silu", "tanh", "gelu"
    (saved as `loda_weights.safetensors`, which stays a branch). `freeze_a`: D, which holds most of
    the numbers, stays. The paper published no code: the form is ours, after its description as a
    non-linear kin of LoRA.
    """

    name = "loda"

    rank: int = option(4, "Rank of the adapters.", least=1)
    target_modules: Sequence[str] = option(
        ("residual",),
        "Ends of module names, or attention, feed-forward, residual, convolutions: what is"
        " adapted.",
        metavar="A,B,..",
        parse=parse.modules,
    )
    activation: Literal["identity", "silu", "tanh", "gelu"] = option(
        "identity", "Between the halves of an adapter (identity: mergeable)."
    )

    def apply(self, base: Base, given: Given) -> Adaptation:
        """Puts a branch beside each chosen layer, and makes the branches trainable."""
        from ..bases import add_loda, branches, save_loda
        from .adaptation import adaptation, save_tokens
        from .starting import start_inputs
        from .targets import matching_modules

        targets = matching_modules(base, self.target_modules)
        scale = (self.rank if self.alpha is None else self.alpha) / self.rank
        add_loda(base, targets, self.rank, scale, self.activation)
        found = branches(base.denoiser)
        inputs = {name: branch.down.get_parameter("weight") for name, branch in found.items()}
        start_inputs(inputs, self.adapter_init, given.start)
        trainable = {
            f"{name}.up.weight": branch.up.get_parameter("weight") for name, branch in found.items()
        }
        if not self.freeze_a:
            trainable |= {f"{name}.down.weight": weight for name, weight in inputs.items()}

        def save(base: Base, folder: Path) -> None:
            save_loda(base, folder)
            save_tokens(base, folder, given.prompts)

        made = adaptation(base, given, trainable, targets, save, self.learning_rate)
        return replace(made, rank=self.rank)
