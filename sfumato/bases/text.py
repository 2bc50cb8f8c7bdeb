"""Prompts as text encoders read them: fixed padding, piece by piece, used once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..compute.device import to_device
from ..errors import SfumatoError
from .conditioning import Conditioning, concatenate, each

PIECE = 64  # prompts at a time: 10,000 at once would be gigabytes


def tokens(
    tokenizer: Any,
    prompts: Sequence[str],
    length: int,
    *,
    cut: bool = False,
    write: Callable[[str], str] = str,
    **more: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask, int64 [P, length] each, padded to the same length whatever is said.

    Args:
        tokenizer: Of the transformers library.
        prompts: Public texts.
        length: Tokens that the family's pipeline reads.
        cut: Cut longer texts, as a pipeline does whose other encoder reads them whole.
        write: Prompt -> what the encoder reads, such as a chat around it.
        more: Further arguments of the tokenizer.

    Raises:
        SfumatoError: A prompt is longer, unless `cut`.
    """
    if not cut:
        for prompt in prompts:
            text = write(prompt)
            if len(tokenizer(text, truncation=False, verbose=False, **more).input_ids) > length:
                raise SfumatoError(
                    f"the prompt {prompt[:60]!r} is longer than the base's {length} tokens: shorten"
                    " it"
                )
    read = tokenizer(
        [write(prompt) for prompt in prompts],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
        **more,
    )
    return read.input_ids, read.attention_mask


@torch.no_grad()
def embed(
    encode: Callable[[Sequence[str]], Conditioning], prompts: Sequence[str], where: torch.device
) -> Conditioning:
    """What `encode` makes of at most `PIECE` prompts at a time, joined, on a device.

    Args:
        encode: Prompts -> one row each, of a shape that no prompt changes.
        prompts: Public texts.
        where: The denoiser's device; encoders may be parked elsewhere.
    """
    parts = [
        each(encode(prompts[start : start + PIECE]), lambda part: to_device(part, where))
        for start in range(0, len(prompts), PIECE)
    ]
    return parts[0] if len(parts) == 1 else concatenate(parts)


def pooled_and_last_but_one(
    encoder: Any, tokenizer: Any, prompts: Sequence[str], *, cut: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A CLIP encoder's pooled text [P, D] and its last hidden states but one [P, L, D].

    As SDXL and Stable Diffusion 3 read it, the latter with `cut`.
    """
    ids, _ = tokens(tokenizer, prompts, tokenizer.model_max_length, cut=cut)
    read = encoder(to_device(ids, encoder.device), output_hidden_states=True)
    return read[0], read.hidden_states[-2]
