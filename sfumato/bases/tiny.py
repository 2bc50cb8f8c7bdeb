"""A dummy pipeline of a few thousand random numbers, and images to go with it.

For audits and tests.
"""

# diffusers and transformers say less than they take.
# pyright: reportArgumentType=false

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("circle", "cross", "square")
WORDS = ("a picture of a", *CLASSES, "digit seven", "small letter")


def make_tiny_base(
    folder: Path,
    prediction_type: str = "v_prediction",
    seed: int = 0,
    *,
    sparse: bool = False,
) -> Path:
    """Writes a randomly initialised StableDiffusionPipeline folder.

    16x16 RGB, latents 4x8x8, under 1 MB. A sparse one has one of its four layers of attention, and
    a step takes it half the time.
    """
    from diffusers import (
        AutoencoderKL,
        DDPMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from ..compute.device import seeded

    with seeded(seed):
        tokenizer = make_tiny_tokenizer()
        vae = AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            sample_size=16,
            mid_block_add_attention=False,
            scaling_factor=1.0,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("UpBlock2D" if sparse else "CrossAttnUpBlock2D", "UpBlock2D"),
            mid_block_type="UNetMidBlock2D" if sparse else "UNetMidBlock2DCrossAttn",
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=tokenizer.model_max_length,
                projection_dim=16,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_tokenizer():
    """CLIP's byte alphabet and the words of `WORDS` whole, at most 8 tokens a prompt."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    for word in sorted({word for text in WORDS for word in text.split()}):
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            if merge not in merges:
                merges.append(merge)
            tokens.append("".join(merge))
            pieces = ["".join(merge), *pieces[2:]]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=8
    )


def make_tiny_images(folder: Path, per_class: int = 8, size: int = 16, seed: int = 0) -> Path:
    """Class folders of noisy circles, crosses and squares as RGB PNG files."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size]
    middle = (size - 1) / 2
    shapes = {
        "circle": np.hypot(row - middle, column - middle) < size * 0.35,
        "cross": (abs(row - middle) < size / 8) | (abs(column - middle) < size / 8),
        "square": (abs(row - middle) < size * 0.3) & (abs(column - middle) < size * 0.3),
    }
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            picture = shapes[name][..., None] * 180 + rng.integers(0, 60, (size, size, 3))
            Image.fromarray(picture.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder
