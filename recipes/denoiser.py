"""The public denoiser: a small UNet2DConditionModel and its CLIP text encoder, trained together."""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer

KEEP = 500  # steps between two states of a training that are kept


@dataclass(frozen=True)
class Examples:
    """Latent posterior `mean`, `std` half [N, 4, 8, 8] (already scaled; the base things has 16x16);
    `label` int64 [N]; `captions`: for every label its captions, the commonest first."""

    mean: torch.Tensor
    std: torch.Tensor
    label: np.ndarray
    captions: list[list[str]]


def make_unet(width: int = 64) -> UNet2DConditionModel:
    """Two levels (8x8 plain, 4x4 with self- and cross-attention); about 2.5M parameters."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_large_unet(width: int = 64) -> UNet2DConditionModel:
    """Three levels (16x16 plain, 8x8 and 4x4 with self- and cross-attention); 5.4M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def grow(small: UNet2DConditionModel, large: UNet2DConditionModel) -> int:
    """Start the two outer levels of `large` with the two of `small`; the number of weights that
    were taken. What has another shape, and the inner level, keeps its random start.
    """
    state, taken = large.state_dict(), 0
    for name, value in small.state_dict().items():
        # Blocks on the way up are counted from the innermost.
        for number in (1, 0):
            name = name.replace(f"up_blocks.{number}.", f"up_blocks.{number + 1}.")
        if name in state and state[name].shape == value.shape and "mid_block" not in name:
            state[name] = value
            taken += value.numel()
    large.load_state_dict(state)
    return taken


def make_scheduler() -> DDPMScheduler:
    """v-prediction on a cosine schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
    )


def train_denoiser(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    examples: Examples,
    *,
    minutes: float,
    seed: int,
    learning_rate: float = 2e-3,
    batch: int = 256,
    drop_caption: float = 0.1,
    ema_decay: float = 0.999,
    max_steps: int | None = None,
    first_caption: float = 0.8,
    store: Path | None = None,
) -> tuple[UNet2DConditionModel, CLIPTextModel, dict]:
    """Train for `max_steps` steps or `minutes` of wall time; returns the averaged weights and
    figures.

    The learning rate falls to zero along a cosine over whichever limit binds first. With `store`,
    a file, everything is written there every `KEEP` steps, and an interrupted training goes on from
    it; a larger `max_steps` continues a finished one.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scheduler = make_scheduler()
    alpha = scheduler.alphas_cumprod
    unet.set_attn_processor(AttnProcessor())  # 1.5x faster than SDPA in training at these sizes
    models = torch.nn.ModuleDict({"unet": unet, "text": text_encoder})
    average = copy.deepcopy(models)
    optimizer = torch.optim.AdamW(
        models.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
    )

    flat, offset = [""], []
    for texts in examples.captions:
        offset.append((len(flat), len(texts)))
        flat.extend(texts)
    ids = tokenizer(flat, padding="max_length", truncation=True, return_tensors="pt").input_ids
    start_of, count_of = (np.array(c) for c in zip(*offset))

    started, step, losses = time.monotonic(), 0, []
    parts = {"models": models, "average": average, "optimizer": optimizer}
    if store is not None and store.exists():
        step, spent, losses = resume(store, parts, rng)
        started -= spent
    while True:
        done = (time.monotonic() - started) / (60 * minutes)
        if max_steps is not None:
            done = max(done, step / max_steps)
        if done >= 1:
            break
        rate = (
            learning_rate * min(1, (step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        )
        optimizer.param_groups[0]["lr"] = rate

        index = rng.integers(0, len(examples.label), batch)
        mean, std = examples.mean[index].float(), examples.std[index].float()
        latent = mean + std * torch.randn_like(mean)
        label = examples.label[index]
        # The first caption of a class with this probability, else any.
        other = rng.integers(0, 1_000_000, batch) % count_of[label]
        text = start_of[label] + np.where(rng.random(batch) < first_caption, 0, other)
        text[rng.random(batch) < drop_caption] = 0
        t = torch.from_numpy(rng.integers(0, 1000, batch))
        noise = torch.randn_like(latent)
        a = alpha[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * latent + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * latent
        with torch.autocast("cpu", torch.bfloat16):
            context = text_encoder(ids[torch.from_numpy(text)]).last_hidden_state
            predicted = unet(noisy, t, context).sample
        loss = F.mse_loss(predicted.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(models.parameters()), 1 - decay)
        losses.append(loss.item())
        step += 1
        if store is not None and step % KEEP == 0:
            keep(store, parts, rng, (step, time.monotonic() - started, losses[-50:]))
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(
                f"denoiser step {step} loss {np.mean(losses[-50:]):.4f}"
                f" {step * batch / seconds:.0f} samples/s {100 * done:.0f} %",
                flush=True,
            )
    figures = {
        "steps": step,
        "batch": batch,
        "seconds": round(time.monotonic() - started),
        "loss_last_50": float(np.mean(losses[-50:])),
    }
    trained = average.eval()
    return trained["unet"], trained["text"], figures


def keep(store: Path, parts: dict, rng: np.random.Generator, progress: tuple) -> None:
    """Write the whole state of a training, so that an interruption leaves the old file or this."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"random": torch.get_rng_state(), "numpy": rng.bit_generator.state}
    draft = store.with_suffix(".draft")
    torch.save(state | {"progress": progress}, draft)
    os.replace(draft, store)


def resume(store: Path, parts: dict, rng: np.random.Generator) -> tuple[int, float, list]:
    """Take up what `keep` wrote; (steps done, seconds spent, the last losses)."""
    state = torch.load(store, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    rng.bit_generator.state = state["numpy"]
    return state["progress"]
