"""LoRA on exactly the chosen matrices; what DP-LoRA and DP-SAPF share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SfumatoError
from ..options import option, parse
from .interface import ADAPTER_LEARNING_RATE, Given, Method

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class LowRank(Method):
    """Options of every method that trains adapters of low rank."""

    learning_rate = ADAPTER_LEARNING_RATE

    rank: int = option(8, "Rank of the adapters.", least=1)
    alpha: float | None = option(None, "Of the adapters: scale * rank (default: the rank).")
    target_modules: Sequence[str] = option(
        ("attention",),
        "Ends of module names, or attention, feed-forward, residual, convolutions: what is"
        " adapted, or what saliency chooses from.",
        metavar="A,B,..",
        parse=parse.modules,
    )
    freeze_a: bool = option(False, "Train only the half of an adapter that starts at zero.")
    adapter_init: Literal["gaussian", "orthonormal", "public"] = option(
        "gaussian", "How the other half starts; public: as --public-data say."
    )

    def adapters(self, base: Base, given: Given, targets: Sequence[str]) -> Adaptation:
        """LoRA on exactly `targets` (full names)."""
        from ..bases import add_lora, lora_inputs, save_lora
        from .adaptation import adaptation
        from .starting import start_inputs

        add_lora(base, targets, self.rank, self.rank if self.alpha is None else self.alpha)
        inputs = lora_inputs(base)
        if set(inputs) != set(targets):
            raise SfumatoError("the adapters are not on the chosen matrices: please report this")
        start_inputs(inputs, self.adapter_init, given.start)
        trainable = {
            name: tensor
            for name, tensor in base.denoiser.named_parameters()
            if ".lora_B." in name or (".lora_A." in name and not self.freeze_a)
        }

        def save(base: Base, folder: Path) -> None:
            save_lora(base, folder)
            if given.prompts.placeholders:
                base.denoiser.fuse_lora()
                base.denoiser.unload_lora()
                base.save(folder)

        made = adaptation(base, given, trainable, list(targets), save, self.learning_rate)
        return replace(made, rank=self.rank)
