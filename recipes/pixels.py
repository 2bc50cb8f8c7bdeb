"""A class-conditional base on pixels: the drawings of `glyphs`, digits and letters as classes.

A DDPM (Ho et al., arXiv 2006.11239) whose U-Net has a table of classes; the last row is the null
class, which a tenth of the pictures have in training (Ho and Salimans, 2207.12598).
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.models.attention_processor import AttnProcessor

from . import glyphs, packages
from .captions import DIGIT_NAMES
from .denoiser import KEEP, keep, make_scheduler, resume
from .saving import log

SIDE = 28  # the sheet of `glyphs`, 32, without two pixels on every side: ink reaches none of them
BATCH, LEARNING_RATE, EMA_DECAY = 128, 1.5e-3, 0.998
NULL_SHARE = 0.1
STEPS = 1229  # of the bundled weights; their loss was still falling
SEED = 20261129


def class_names() -> dict[str, str]:
    """Row of the table -> its names, separated by commas, as diffusers' DiTPipeline has them.

    The row of the null class has no name.
    """
    names = []
    for character in glyphs.CHARACTERS:
        if character in glyphs.DIGITS:
            word = DIGIT_NAMES[int(character)]
            names.append(f"{character}, {word}, digit {word}")
        else:
            case = "capital" if character.isupper() else "small"
            names.append(f"{character}, {case} {character.lower()}")
    return {str(row): name for row, name in enumerate([*names, ""])}


def make_pixel_unet() -> UNet2DModel:
    """Three levels (28x28 and 14x14 plain, 7x7 with self-attention) of one colour; 1.8M numbers."""
    return UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=32,
        num_class_embeds=len(glyphs.CHARACTERS) + 1,
    )


def train_pixels(
    unet: UNet2DModel,
    images: np.ndarray,
    label: np.ndarray,
    *,
    steps: int = STEPS,
    minutes: float = 600,
    seed: int = SEED,
    store: Path | None = None,
) -> tuple[UNet2DModel, dict]:
    """Train on uint8 [N, 28, 28] with labels int64 [N]; returns the averaged weights and figures.

    The learning rate falls to zero along a cosine over `steps` or `minutes` of wall time, whichever
    ends first. With `store` an interrupted training goes on.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scheduler = make_scheduler()
    null = unet.config.num_class_embeds - 1
    for module in unet.modules():
        if hasattr(module, "set_processor"):
            module.set_processor(AttnProcessor())
    average = copy.deepcopy(unet)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    started, step, losses = time.monotonic(), 0, []
    spent_cpu = -time.process_time()
    parts = {"models": unet, "average": average, "optimizer": optimizer}
    if store is not None and store.exists():
        step, spent, losses = resume(store, parts, rng)
        started -= spent
    while True:
        done = max((time.monotonic() - started) / (60 * minutes), step / steps)
        if done >= 1:
            break
        warm = min(1, (step + 1) / 100)
        optimizer.param_groups[0]["lr"] = (
            LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * done))
        )
        index = rng.integers(0, len(label), BATCH)
        pixels = torch.from_numpy(images[index]).float()[:, None] / 127.5 - 1
        told = label[index].copy()
        told[rng.random(BATCH) < NULL_SHARE] = null
        t = torch.from_numpy(rng.integers(0, 1000, BATCH))
        noise = torch.randn_like(pixels)
        noisy = scheduler.add_noise(pixels, noise, t)
        target = scheduler.get_velocity(pixels, noise, t)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, t, torch.from_numpy(told)).sample
        loss = F.mse_loss(predicted.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
        losses.append(loss.item())
        step += 1
        if store is not None and step % KEEP == 0:
            keep(store, parts, rng, (step, time.monotonic() - started, losses[-50:]))
        if step % 50 == 0:
            cpu = spent_cpu + time.process_time()
            log(f"step {step} loss {np.mean(losses[-50:]):.4f} cpu {cpu:.0f} s {100 * done:.0f} %")
    figures = {
        "steps": step,
        "batch": BATCH,
        "seconds": round(time.monotonic() - started),
        "loss_last_50": float(np.mean(losses[-50:])),
    }
    return average.eval(), figures


def save_pixels(folder: Path, unet: UNet2DModel) -> None:
    """Write a DDPMPipeline in half precision, the names of its classes in its index."""
    scheduler = DDPMScheduler.from_config(make_scheduler().config, timestep_spacing="trailing")
    pipe = DDPMPipeline(unet.to(torch.float16), scheduler)
    pipe.save_pretrained(folder, safe_serialization=True)
    index = folder / "model_index.json"
    facts = json.loads(index.read_text()) | {"id2label": class_names()}
    index.write_text(json.dumps(facts, indent=2) + "\n")


def make_glyphs_pixels(work: Path, cache: Path) -> Path:
    """Letters and digits, from random weights, on the pictures that `glyphs` is trained on."""
    done = work / "glyphs-pixels"
    if (done / "model_index.json").exists():
        return done
    faces = glyphs.load_glyphs(packages.fetch_fonts(cache), cache)
    images, label = glyphs.make_each(faces, glyphs.COUNTS, SEED)
    edge = (images.shape[1] - SIDE) // 2
    images = np.ascontiguousarray(images[:, edge : edge + SIDE, edge : edge + SIDE])
    torch.manual_seed(SEED)
    unet, figures = train_pixels(make_pixel_unet(), images, label, store=work / "pixels.pt")
    save_pixels(done, unet)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done
