"""What every family is held to, on a tiny random pipeline of its own: see `tiny_pipelines.py`.

A test of a family says, in plain diffusers and without sfumato, what its published training loss is
(`Published`) and how its own pipeline draws (`Draw`). The functions here compare:

- `check_objective`: row losses, to 1e-5;
- `check_sampling`: pictures of sfumato's sampler and of diffusers' pipeline from the same latents;
- `adapt`: one noised run through the command line;
- `check_output`: what it saved opens in plain diffusers and draws the same pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.bases import Base, load_base, open_adapted
from sfumato.bases.conditioning import concatenate, rows
from sfumato.cli import main
from sfumato.options import Sampling
from sfumato.runs.folder import Run
from sfumato.synthesis.sampler import Sampler, image_seed
from sfumato.training import Batch, denoising_losses
from sfumato.training.texts import read_alone


@dataclass(frozen=True)
class Rows:
    """What a training loss is a function of, a row each.

    pixels: float32 [R, 3, H, W] from -1 to 1. latent_noise, noise: [R, C, h, w] standard normal.
    time: int64 [R], an index of the base's training times, from little noise to much. prompts: a
    text each, "" where the prompt is dropped.
    """

    pixels: torch.Tensor
    latent_noise: torch.Tensor
    noise: torch.Tensor
    time: torch.Tensor
    prompts: list[str]


@dataclass(frozen=True)
class Start:
    """Where pictures begin.

    latents: [B, C, h, w] standard normal, not yet scaled by `init_noise_sigma`. generators: one for
    each picture, behind the latents: a list that pipelines and schedulers take as `generator`. A
    pipeline that cannot be given latents draws the same from `fresh` generators.
    """

    prompts: list[str]
    latents: torch.Tensor
    generators: list[torch.Generator]
    fresh: list[torch.Generator]
    steps: int
    guidance_scale: float


# (diffusers' pipeline, rows) -> losses [R]
Published = Callable[[Any, Rows], torch.Tensor]
# (diffusers' pipeline, start) -> pictures from 0 to 1, [B, H, W, 3]
Draw = Callable[[Any, Start], np.ndarray]


def pipeline(folder: Path, **how: Any) -> Any:
    """The folder in plain diffusers, in single precision; `how`: other words than that."""
    from diffusers import DiffusionPipeline

    index = json.loads((folder / "model_index.json").read_text())
    if index["_class_name"] == "PRXPipeline":
        # diffusers looks for its encoder in transformers, and puts it there only if asked first
        import transformers
        from diffusers.pipelines.prx import T5GemmaEncoder

        vars(transformers).setdefault("T5GemmaEncoder", T5GemmaEncoder)
    # diffusers opens a pipeline saved without a part only if it is told so
    left_out = {name: None for name, kind in index.items() if kind == [None, None]}
    how = how or {"dtype": torch.float32}
    pipe = DiffusionPipeline.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, **how, **left_out
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, start: Start, **words: Any) -> np.ndarray:
    """Pictures of a pipeline's own sampler, called as most are; `words` are other arguments."""
    factor = getattr(pipe, "vae_scale_factor", 1)
    height, width = (factor * side for side in start.latents.shape[-2:])
    given: dict[str, Any] = {
        "height": height,
        "width": width,
        "latents": start.latents,
        "generator": start.generators,
        "guidance_scale": start.guidance_scale,
    }
    return pipe(
        start.prompts, num_inference_steps=start.steps, output_type="np", **(given | words)
    ).images


# For some of the rows of `check_objective`; one of them is dropped.
CAPTIONS = ("two small circles", "", "a cross, seven", "letter a", "", "", "", "a square")


def check_objective(
    folder: Path,
    prompts: Sequence[str],
    published: Published,
    tolerance: float = 1e-5,
    *,
    captions: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Row losses equal the published training loss; returns them, [8].

    Args:
        folder: A pipeline.
        prompts: Public ones, one per class.
        published: The loss in plain diffusers.
        tolerance: Relative to each loss.
        captions: Of each row, "" for one that has none and is told the prompt of its class.
        size: Width and height of a bucket in which the rows are; None for the base's own.
    """
    base = load_base(folder)
    base.use_buckets([size] if size else [])
    units, draws, g = 4, 2, torch.Generator().manual_seed(3)
    shape = (units, *base.sizes[0][::-1], 3)
    images = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8).numpy()
    shape = (units, draws, *base.latent_shape)
    mean, std = (part[:, None].expand(shape) for part in base.encode(images))
    read: dict[str, Any] = {}
    if captions:
        rows_of = read_alone(base.condition_of_captions, [text or "a" for text in captions])
        has = torch.tensor([bool(text) for text in captions]).view(units, draws)
        told = {n: part[:-1].unflatten(0, (units, draws)) for n, part in rows_of.items()}
        read = {"text": told, "captioned": has}
    batch = Batch(
        mean, std,
        label=torch.arange(units)[:, None].expand(units, draws) % len(prompts),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.randint(0, base.times, (units, draws), generator=g),
        drop=torch.arange(units * draws).view(units, draws) % 3 == 2,
        weight=torch.ones(units, draws),
        **read,
    )  # fmt: skip
    table = concatenate([base.condition(list(prompts)), base.condition([""])])
    with torch.no_grad():
        ours = denoising_losses(base, lambda label: rows(table, label), torch.float32)(batch)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        labels, dropped = batch.label.flatten().tolist(), batch.drop.flatten().tolist()
        words = [text or prompts[i] for text, i in zip(captions or [""] * len(labels), labels)]
        theirs = published(
            pipeline(folder),
            Rows(
                pixels.repeat_interleave(draws, 0),
                batch.latent_noise.flatten(0, 1),
                batch.noise.flatten(0, 1),
                batch.time.flatten(),
                ["" if gone else text for text, gone in zip(words, dropped)],
            ),
        )
    assert ours.shape == theirs.shape == (units * draws,) and ours.std() > 0
    torch.testing.assert_close(ours, theirs.to(ours), rtol=tolerance, atol=tolerance)
    return ours


def check_sampling(
    base: Base,
    pipe: Any,
    prompts: Sequence[str],
    draw: Draw,
    *,
    guidance_scale: float = 1.0,
    steps: int = 4,
    scheduler: str | None = None,
    levels: int = 1,
) -> np.ndarray:
    """Sfumato's sampler and diffusers' own pipeline draw the same; returns the pictures, uint8.

    The pipeline is given the scheduler as sfumato sets it (trailing steps where it can have them).

    Args:
        base: The base.
        pipe: The same in plain diffusers (`pipeline`).
        prompts: One for each picture.
        draw: Calls the pipeline.
        guidance_scale: 1 is none.
        steps: Of the scheduler.
        scheduler: Its class name; default: the base's own.
        levels: By how many of 256 a pixel may differ, for the rounding of two ways to compute.
    """
    name = scheduler or base.own_sampler
    sampling = Sampling(scheduler=name, steps=steps, guidance_scale=guidance_scale)
    index = np.arange(len(prompts))
    ours = Sampler(base, prompts, sampling).draw(index, index)
    fresh, generators = (
        [torch.Generator().manual_seed(image_seed(sampling.seed, int(i))) for i in index]
        for _ in range(2)
    )
    latents = torch.stack([torch.randn(base.latent_shape, generator=g) for g in generators])
    pipe.scheduler = base.sampler(name, steps)
    with torch.no_grad():
        start = Start(list(prompts), latents, generators, fresh, steps, guidance_scale)
        theirs = np.asarray(draw(pipe, start))
    assert ours.shape == theirs.shape and ours.std() > 3
    difference = np.abs(ours.astype(float) - theirs * 255.0).max()
    assert difference <= levels + 0.5, f"pictures differ by {difference:.1f} of 255"
    return ours


def adapt(base: Path, images: Path, run: Path, method: str, *words: str) -> Run:
    """Two noised steps through the command line; fails with its words where it refuses."""
    asked = [
        "adapt", str(images), "--base", str(base), "--method", method, "-o", str(run),
        "--epsilon", "8", "--delta", "1e-2", "--allow-large-delta", "--anyway", "--yes-public",
    ]  # fmt: skip
    steps = [] if method == "inversion" else ["--steps", "2", "--expected-batch-size", "4"]
    assert main([*asked, *steps, *words]) == 0
    return Run.open(run)


def refused(base: Path, images: Path, run: Path, *words: str, capsys: Any) -> str:
    """The one line with which `adapt` refuses before any charge, "CODE: TEXT"."""
    capsys.readouterr()
    code = main(
        [
            "adapt", str(images), "--base", str(base), "-o", str(run), "--epsilon", "8",
            "--delta", "1e-2", "--allow-large-delta", "--anyway", "--yes-public", *words,
        ]
    )  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if not line.endswith(" ...") and line[:6] != "note: "]
    assert code != 0 and len(lines) == 1, said
    assert not (run / "plan.json").exists()
    return f"{code}: {lines[0].removeprefix('sfumato: ')}"


def check_output(
    run: Run, folder: Path, draw: Draw, prompts: Sequence[str] | None = None, **sampling: Any
) -> np.ndarray:
    """What a run saved opens in plain diffusers, and both draw the same; returns the pictures.

    A whole pipeline is opened as it is, an adapter through the pipeline's `load_lora_weights`.

    Args:
        run: A finished run.
        folder: The base that it began with.
        draw: Calls the pipeline.
        prompts: Default: those of the plan.
        sampling: As `check_sampling` takes it.
    """
    told = list(prompts or run.plan.prompts)
    adapted = open_adapted(run.model, lambda: load_base(folder))
    whole = (run.model / "model_index.json").exists()
    pipe = pipeline(run.model if whole else folder)
    if not whole:
        pipe.load_lora_weights(run.model)
    return check_sampling(adapted, pipe, told, draw, **sampling)
