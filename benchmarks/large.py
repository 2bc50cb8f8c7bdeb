"""Memory and time of one LoRA step at real sizes, private over non-private: JSON lines.

    python benchmarks/large.py --models sdxl,sd35 --side 64
    python benchmarks/large.py --models sdxl,sd35 --side 64 --weights float16   # kept as stored
    python benchmarks/large.py --models tiny      # seconds; for a look at the program

Random weights in the published shapes of Stable Diffusion XL's UNet and of Stable Diffusion 3.5
medium's transformer, LoRA of rank 4 on the attention projections, one record with one draw. Both
sides compute the same loss of the same row; before anything is reported, the private side's sum is
compared with the other's gradient scaled to the clip (the grid alone moves it by up to 0.002).
Peaks are what the process had in memory at most, above what it had before the step: a profiler's
record of single allocations would not fit beside models of this size. Linux alone.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import clock, machine, peak_mb, prepare_process
from models import PROJECTIONS

from sfumato.compute.stored import Stored, pack
from sfumato.gradients import Engine
from sfumato.privacy.rounding import Rounding

RANK, CLIP = 4, 1.0


def sdxl() -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Stable Diffusion XL's UNet by its published settings, and the shapes of a row's inputs."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return model, {"latent": (4,), "text": (77, 2048), "pooled": (1280,), "sizes": (6,)}


def sd35() -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Stable Diffusion 3.5 medium's transformer by its published settings, and its inputs."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=128,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        num_attention_heads=24,
        attention_head_dim=64,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )
    return model, {"latent": (16,), "text": (333, 4096), "pooled": (2048,)}


def tiny() -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A transformer of the second kind, small."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=32, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2,
        attention_head_dim=16, joint_attention_dim=32, caption_projection_dim=32,
        pooled_projection_dim=32,
    )  # fmt: skip
    return model, {"latent": (4,), "text": (16, 32), "pooled": (32,)}


MODELS: dict[str, Callable[[], Any]] = {"sdxl": sdxl, "sd35": sd35, "tiny": tiny}


def filled(
    make: Callable[[], Any], weights: torch.dtype, *, keep: bool = True
) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A model with small random weights, made without the constructors' own initialisation.

    In half precision its matrices are kept as a base's are that is stored so, unless not to `keep`.
    """
    with torch.device("meta"):
        model, shapes = make()
    buffers = {name: tuple(b.shape) for name, b in model.named_buffers()}
    model = model.to(weights).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        norm = p.ndim == 1 and name.endswith("weight")
        p.data.uniform_(-0.02, 0.02, generator=generator).add_(1.0 if norm else 0.0)
    for name in buffers:  # tables of positions
        model.get_buffer(name).zero_()
    if keep and weights != torch.float32:
        pack(model)
    return model.requires_grad_(False).eval(), shapes


def held(model: Any) -> int:
    """Bytes of a model's weights in memory."""
    kept = (p.kept if isinstance(p, Stored) else p for p in model.parameters())
    return sum(p.numel() * p.element_size() for p in kept)


def row_losses_of(name: str, model: Any) -> Callable[[Any], torch.Tensor]:
    """A batch of rows -> their losses."""

    def losses(row: dict[str, torch.Tensor]) -> torch.Tensor:
        if name == "sdxl":
            more = {"added_cond_kwargs": {"text_embeds": row["pooled"], "time_ids": row["sizes"]}}
            said = model(row["latent"], row["time"], row["text"], **more).sample
        else:
            said = model(
                hidden_states=row["latent"],
                timestep=row["time"],
                encoder_hidden_states=row["text"],
                pooled_projections=row["pooled"],
            ).sample
        return said.float().pow(2).mean((1, 2, 3))

    return losses


class Rows(dict[str, torch.Tensor]):
    """A batch that slices by record."""

    def __len__(self) -> int:
        return len(self["time"])

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice):
            return Rows({name: value[part] for name, value in self.items()})
        return super().__getitem__(part)


def step_costs(step: Callable[[], Any]) -> tuple[Any, int, float]:
    """(result, most bytes in memory above those before, processor seconds)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_mb()
    result, seconds, _ = clock(step)
    return result, (peak_mb() - before) * 2**20, seconds


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """All of them in one vector, fp64."""
    return torch.cat([value.double().flatten() for value in tensors.values()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=lambda text: text.split(","), default=["sdxl", "sd35"])
    parser.add_argument("--side", type=int, default=64, help="of the latents")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    args = parser.parse_args()
    prepare_process(args.threads, "return")
    measured("tiny", args)  # loads what the libraries load at first use
    for name in args.models:
        print(json.dumps(measured(name, args) | machine("cpu")), flush=True)


def measured(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both sides of one model."""
    from peft import LoraConfig

    model, shapes = filled(MODELS[name], getattr(torch, args.weights))
    weights, parameters = held(model), sum(p.numel() for p in model.parameters())
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=PROJECTIONS))
    if args.checkpointing:
        model.enable_gradient_checkpointing()
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(1)
    for tensor in trainable.values():
        tensor.data.uniform_(-0.02, 0.02, generator=generator)
    row = Rows({
        key: torch.randn(1, *shape, *(2 * (args.side,) if key == "latent" else ()),
                         generator=generator)
        for key, shape in shapes.items()
    })  # fmt: skip
    row["time"] = torch.tensor([500])
    losses = row_losses_of(name, model)
    numbers = sum(p.numel() for p in trainable.values())
    rounding = Rounding.of(CLIP, numbers)

    def plain() -> list[torch.Tensor | None]:
        tensors = list(trainable.values())
        return list(torch.autograd.grad(losses(row).sum(), tensors, allow_unused=True))

    grads, peak, cpu = step_costs(plain)
    peaks, seconds = {"plain": peak}, {"plain": cpu}
    exact = {n: g for n, g in zip(trainable, grads) if g is not None}
    learns = {n: trainable[n] for n in exact}
    for dead in trainable.keys() - learns.keys():
        trainable[dead].requires_grad_(False)
    with Engine(model, learns) as engine:

        def private() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            return engine.clipped_sum(
                losses, row, clip=lambda norms: CLIP / norms, rounding=rounding
            )

        (sums, _), peaks["private"], seconds["private"] = step_costs(private)
    norm, got = flat(exact).norm(), flat({n: sums[n] for n in exact}) * rounding.step
    error = float((got - flat(exact) * (CLIP / norm)).norm()) / CLIP
    if not error < rounding.slack / 4 + 1e-3:
        raise SystemExit(f"{name}: the gradients differ by {error:.1e}, nothing is reported")
    return {
        "model": name,
        "parameters": parameters,
        "weights": args.weights,
        "trainable": numbers,
        "side": args.side,
        "checkpointing": args.checkpointing,
        "error": error,
        "weights_bytes": weights,
        "peak_bytes_above_weights": peaks,
        "activations_ratio": peaks["private"] / peaks["plain"],
        "memory_ratio": (weights + peaks["private"]) / (weights + peaks["plain"]),
        "cpu_seconds": seconds,
        "without_gradient": len(trainable) - len(learns),
    }


if __name__ == "__main__":
    main()
