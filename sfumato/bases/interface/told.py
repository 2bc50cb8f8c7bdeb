"""What a base is told of a picture: a condition for each prompt or caption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from ..conditioning import Conditioning

PROMPTS = 64  # that are embedded together: more take memory and no less time


class Told(ABC):
    """The conditions of a `Base`."""

    # Whether it is told in words what to draw.
    prompted: ClassVar[bool] = False

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

    # Captions of images (`captions.caption_base` refuses a family that leaves these two out).

    def caption_tokens(self, captions: Sequence[str]) -> np.ndarray:
        """Token ids of captions, int32 [n, L]: at least 0, L fixed, cut and padded by a fixed rule.

        It is called after the charge, so it raises for no text (`captions.plain`, `cut_tokens`);
        a family with several encoders writes their ids side by side.

        Args:
            captions: Any strings.
        """
        raise NotImplementedError

    def condition_of_tokens(self, ids: torch.Tensor) -> Conditioning:
        """What `condition` says of the same texts, one row for each, without a gradient.

        Args:
            ids: int64 [rows, L] of `caption_tokens`, on any device.
        """
        raise NotImplementedError
