"""One row of zeros through a base when it is opened: what its files cannot say."""

from __future__ import annotations

import torch

from ..compute.memory import out_of_memory
from ..errors import ModelError, SfumatoError
from .interface import Base


@torch.no_grad()
def try_forward(base: Base) -> None:
    """Tells the denoiser one row of zeros, as its family does.

    A folder may say a class that it is not, and settings may ask for what no caller gives.
    ModelError where the denoiser cannot be called so, or answers in another shape.
    """
    if base.trial_shape is None:
        return
    latents = torch.zeros(1, *base.trial_shape, device=base.device)
    time = torch.zeros(1, dtype=torch.int64, device=base.device)
    whose = f"the {type(base.denoiser).__name__} of {base.info.folder}"
    try:
        found = base.predict(latents, time, base.condition([""])).shape
    except SfumatoError:
        raise
    except Exception as error:  # what a denoiser of another kind raises is of no fixed kind
        if out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{whose} does not work as in a {base.family} base: {reason}") from error
    if found != latents.shape:
        raise ModelError(
            f"{whose} gives {found[1]} channels for {latents.shape[1]}: it is not that of a"
            f" {base.family} base"
        )
