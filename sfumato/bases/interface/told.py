"""What a base is told of a picture: a condition for each prompt or caption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from ..conditioning import Conditioning

PROMPTS = 64  # that are embedded together: more take memory and no less time


class Told(ABC):
    """The conditions of a `Base`."""

    # Whether it is told in words what to draw.
    prompted: ClassVar[bool] = False
    # What captions tell that no image has: read once, for checks and timing (`training.dummy`).
    made_up: Mapping[str, torch.Tensor] | None = None

    @abstractmethod
    def condition(self, prompts: Sequence[str]) -> Conditioning:
        """The denoiser's condition for each prompt, with one row per prompt, on its device.

        One tensor, or several by name (`conditioning`), all of a shape that no prompt changes.

        The empty prompt is the unconditional one. For a class-conditional base a prompt is the name
        of one of its classes; an unconditional base has no condition.

        Args:
            prompts: Public texts.

        Returns:
            Each tensor [len(prompts), ...].
        """

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuses prompts that `condition` would refuse.

        Args:
            prompts: Public texts, perhaps many.

        Raises:
            SfumatoError: One of them is too long, or none of a base's classes.
        """
        with torch.no_grad():
            for start in range(0, len(prompts), PROMPTS):
                self.condition(prompts[start : start + PROMPTS])

    def condition_of_captions(self, captions: Sequence[str]) -> Conditioning:
        """What `condition` says of the same texts, made plain and cut by a fixed rule.

        It is called after the charge, so it raises for no text (`captions.plain`), and all have the
        same shape. `captions.caption_base` refuses a family that leaves this out.

        Args:
            captions: Any strings.
        """
        raise NotImplementedError
