"""LoRA on exactly the chosen matrices; what DP-LoRA and DP-SAPF share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SfumatoError
from ..options import Prompting, option, parse
from .given import ADAPTER_LEARNING_RATE, ADAPTERS_BEAR, Given, PublicAnswers, PublicImages
from .trained import Trained

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation
    from .public import PublicLook


@dataclass(frozen=True)
class LowRank(Trained):
    """Options of every method that trains adapters of low rank."""

    learning_rate = ADAPTER_LEARNING_RATE
    bears = ADAPTERS_BEAR
    hands_over = "LoRA"
    less_noise = "train fewer numbers (a lower --rank, --method embedding)"

    rank: int = option(8, "Rank of the adapters.", least=1)
    alpha: float | None = option(
        None, "Of the adapters: scale * rank (default: the rank).", above=0
    )
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

    @property
    def public_purposes(self) -> tuple[str, ...]:
        """Public images may decide how the adapters start."""
        return ("where the adapters start",) if self.adapter_init == "public" else ()

    def public_answers(
        self,
        base: str,
        prompting: Prompting,
        seed: int,
        public: PublicImages,
        classes: tuple[str, ...],
        precision: str = "auto",
    ) -> PublicAnswers:
        """How adapters start, from gradients of the base on public images."""
        if not self.public_purposes:
            return super().public_answers(base, prompting, seed, public, classes)
        from ..bases import load_base
        from .prompts import Prompts
        from .public import look_at_public
        from .starting import right_vectors

        # the draft changes its base, so the gradients need a second one
        given = Given(Prompts(("",)))
        draft = self.undecided().apply(load_base(base), given)
        if not public.usable.any():
            raise SfumatoError("--public-data holds no usable image")
        matrices, opened = self.candidates(draft), load_base(base)
        look = look_at_public(opened, public, matrices, prompt=prompting.prompt, seed=seed)
        selected, scores = self.choice(draft, look)
        starting = self.adapter_init == "public"
        grads = look.gradients.items() if starting else ()
        start = {name: right_vectors(g, self.rank) for name, g in grads}
        return PublicAnswers(start, selected, scores)

    def undecided(self) -> LowRank:
        """The same options before public images have decided anything."""
        return replace(self, adapter_init="gaussian") if self.adapter_init == "public" else self

    def candidates(self, draft: Adaptation) -> list[str]:
        """The matrices whose gradients are asked for."""
        return list(draft.targets)

    def choice(
        self, draft: Adaptation, look: PublicLook
    ) -> tuple[list[str] | None, list[float] | None]:
        """What public images choose among them, and by which scores."""
        return None, None

    def adapters(self, base: Base, given: Given, targets: Sequence[str]) -> Adaptation:
        """LoRA on exactly `targets` (full names)."""
        from ..bases import add_lora, lora_inputs, save_lora
        from .adaptation import adaptation, save_tokens
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
            save_tokens(base, folder, given.prompts)

        made = adaptation(base, given, trainable, list(targets), save, self.learning_rate)
        return replace(made, rank=self.rank)
