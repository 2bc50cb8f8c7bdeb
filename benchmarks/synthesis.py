"""Pictures a second of sfumato's sampler against diffusers' own pipeline: `python
benchmarks/synthesis.py [--quick]`.

Both sides draw the same pictures (same starting noise, scheduler, steps, guidance and batch), which
is checked first; then they take turns in one process. Prints one JSON line per weights, guidance
and side: the plain `StableDiffusionPipeline.__call__` in float32 and in bfloat16, and sfumato, with
pictures a second by the clock and by processor time (best of the turns, prompts and set-up
included). `ratio` is sfumato's rate over that side's. `--full` times the verb instead: `sfumato
synthesize` writing 60,000 pictures in 16 steps, from a run of one step.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Both must stand before torch is loaded; the first are what sfumato's own command sets.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PROMPTS = [f"a handwritten digit {name}" for name in DIGITS]
SCHEDULER = "DPMSolverMultistepScheduler"
LARGEST_DIFFERENCE = 2.0  # mean over pixels, of 255: what bfloat16 may do to pictures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base", default="glyphs", help="a bundled base or a StableDiffusionPipeline folder"
    )
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="one turn of 4 steps, under a minute")
    parser.add_argument("--full", action="store_true", help="time the verb itself, files included")
    parser.add_argument("-n", type=int, default=60_000, help="pictures of --full")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC, **QUIET})
    if args.quick:
        args.steps, args.turns = 4, 1
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    if args.full:
        full(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Print a line per weights, guidance and side."""
    import torch

    from sfumato.bases import load_base, load_lora
    from sfumato.methods.formats import choose_for_base

    with tempfile.TemporaryDirectory() as folder:
        live = random_lora(args.base, Path(folder))
        merged = load_base(args.base)
        load_lora(merged, Path(folder))
    for weights, base in (("lora merged", merged), ("lora not merged", live)):
        choose_for_base(base, PROMPTS, "auto", "sample", "decode")
        for guidance in (1.0, 2.0):
            sides = {
                "diffusers float32": pipeline_side(base, args, guidance, torch.float32),
                "diffusers bfloat16": pipeline_side(base, args, guidance, torch.bfloat16),
                "sfumato": own_side(base, args, guidance),
            }
            images = {name: draw() for name, draw in sides.items()}
            seconds = take_turns(sides, args.turns)
            for name in sides:
                difference = abs(images[name] - images["diffusers float32"]).mean()
                if difference > LARGEST_DIFFERENCE:
                    sys.exit(
                        f"{name}, {weights}, guidance {guidance:g}: pictures differ by"
                        f" {difference:.2f} of 255"
                    )
                row = {
                    "weights": weights,
                    "guidance": guidance,
                    "side": name,
                    "images_per_s": round(args.batch / seconds[name][0], 1),
                    "images_per_cpu_s": round(args.batch / seconds[name][1], 1),
                    "ratio": round(seconds[name][0] / seconds["sfumato"][0], 3),
                    "ratio_cpu": round(seconds[name][1] / seconds["sfumato"][1], 3),
                    "difference_of_255": round(float(difference), 3),
                }
                print(json.dumps({**row, **settings(args)}), flush=True)


def random_lora(name: str, folder: Path):
    """A base with a live adapter of rank 4 on the attention projections, saved in `folder`
    as well.
    """
    import torch

    from sfumato.bases import add_lora, load_base, save_lora

    base = load_base(name)
    ends = (".to_q", ".to_k", ".to_v", ".to_out.0")
    add_lora(base, [n for n, _ in base.unet.named_modules() if n.endswith(ends)], 4, 4.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor_name, tensor in base.unet.named_parameters():
            if "lora_B" in tensor_name:  # they start at zero, where an adapter changes nothing
                tensor.normal_(std=0.05, generator=generator)
    base.unet.requires_grad_(False).eval()
    save_lora(base, folder)
    return base


def pipeline_side(base, args: argparse.Namespace, guidance: float, dtype):
    """A function that draws one batch by the plain pipeline: float64 [batch, R, R, 3], 0 to 255."""
    import torch

    from sfumato.synthesis.sampler import image_seed

    pipe = copy.deepcopy(base.as_pipeline()).to(dtype)
    pipe.scheduler = base.sampler(SCHEDULER, 1)
    pipe.set_progress_bar_config(disable=True)
    shape = base.latent_shape
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(args.batch)]

    def draw():
        generators = [torch.Generator().manual_seed(image_seed(0, i)) for i in range(args.batch)]
        latents = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(dtype)
        out = pipe(
            prompts,
            latents=latents,
            num_inference_steps=args.steps,
            guidance_scale=guidance,
            height=base.resolution,
            width=base.resolution,
            output_type="np",
        )
        return out.images.astype(float) * 255

    return draw


def own_side(base, args: argparse.Namespace, guidance: float):
    """A function that draws the same batch by sfumato's sampler."""
    import numpy as np

    from sfumato.options import Sampling
    from sfumato.synthesis.sampler import pictures

    sampling = Sampling(
        scheduler=SCHEDULER, steps=args.steps, guidance_scale=guidance, batch=args.batch
    )
    numbers = np.arange(args.batch)

    def draw():
        drawn = pictures(base, PROMPTS, numbers % len(PROMPTS), numbers, sampling)
        return np.concatenate([images for _, images in drawn]).astype(float)

    return draw


def take_turns(sides: dict, turns: int) -> dict[str, tuple[float, float]]:
    """Smallest wall and processor seconds of each side."""
    best = {name: (float("inf"), float("inf")) for name in sides}
    for _ in range(turns):
        for name, draw in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            draw()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = (min(best[name][0], spent[0]), min(best[name][1], spent[1]))
    return best


def full(args: argparse.Namespace) -> None:
    """Print one line: the verb from the shell, from its start to the last file."""
    from PIL import Image

    from sfumato import verbs
    from sfumato.records import bundled_digits

    test = bundled_digits("test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (image, label) in enumerate(zip(test.images(range(400), 32), test.labels)):
            (folder / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / "digits" / str(label) / f"{i}.png")
        verbs.adapt(
            folder / "digits",
            anyway=True,
            yes_public=True,
            output=folder / "run",
            ledger=folder / "ledger.sqlite",  # public digits: the user's own ledger is not for them
            epsilon=10,
            base=args.base,
            method="lora",
            steps=1,
            prompt={str(i): prompt for i, prompt in enumerate(PROMPTS)},
            embedder=False,
        )
        command = [
            sys.executable,
            "-m",
            "sfumato",
            "synthesize",
            str(folder / "run"),
            "-n",
            str(args.n),
        ]
        command += [
            "-o",
            str(folder / "out"),
            "--steps",
            str(args.steps),
            "--batch",
            str(args.batch),
        ]
        started = time.perf_counter()
        subprocess.run(
            command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        )
        wall = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        written = sum(1 for _ in (folder / "out").rglob("*.png"))
    row = {
        "side": "sfumato synthesize",
        "pictures": written,
        "seconds": round(wall, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "images_per_s": round(written / wall, 1),
        "peak_rss_mb": round(used.ru_maxrss / 1024),
    }
    print(json.dumps({**row, **settings(args)}), flush=True)


def settings(args: argparse.Namespace) -> dict:
    """What every line says about its circumstances."""
    from importlib.metadata import version

    return {
        "base": args.base,
        "scheduler": SCHEDULER,
        "steps": args.steps,
        "batch": args.batch,
        "threads": args.threads,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "diffusers", "peft")},
    }


if __name__ == "__main__":
    main()
