"""What is measured: denoisers with random weights and fixed seeds, their trainable sets, and a
batch of dummy records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]
TOKENS = 77
TRAINABLE = ("lora4", "lora16", "attention", "whole")  # lora with any rank
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Batch:
    """B records with K draws each; slices by record.

    noisy, target: [B, K, 4, h, w] latents. time: int64 [B, K]. condition: text [B, K, 77, width] or
    class int64 [B, K].
    """

    noisy: Tensor
    target: Tensor
    time: Tensor
    condition: Tensor

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, part: slice) -> Batch:
        return replace(
            self, **{field.name: getattr(self, field.name)[part] for field in fields(self)}
        )


@dataclass(frozen=True)
class Case:
    """One model with one trainable set and one batch. `row_losses`: Batch -> [B*K], in the
    precision that is measured; `exact_losses`: the same in float32, which errors are relative to.
    """

    name: str
    model: nn.Module
    trainable: dict[str, nn.Parameter]
    row_losses: Callable[[Any], Tensor]
    exact_losses: Callable[[Any], Tensor]
    batch: Any
    draws: int


def unet(
    size: int,
    widths: tuple[int, ...],
    layers: int,
    *,
    text: int = 768,
    plain: bool = True,
    mid: bool = True,
):
    """A Stable Diffusion UNet at latents 4 x size x size; with `plain` its lowest level has no
    attention.
    """
    from diffusers import UNet2DConditionModel

    attended = len(widths) - plain
    return UNet2DConditionModel(
        sample_size=size,
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D",) * attended + ("DownBlock2D",) * plain,
        up_block_types=("UpBlock2D",) * plain + ("CrossAttnUpBlock2D",) * attended,
        mid_block_type="UNetMidBlock2DCrossAttn" if mid else None,
        cross_attention_dim=text,
        attention_head_dim=8,
        norm_num_groups=min(32, widths[0] // 2),
    )


def dit(size: int, heads: int, layers: int):
    """A class-conditional DiT, 64 wide per head, patches of 2 x 2, without label dropout (it would
    couple nothing, but each engine would draw another one; the table keeps its row for the empty
    label).
    """
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=64,
        in_channels=4,
        num_layers=layers,
        sample_size=size,
        patch_size=2,
    )
    for module in model.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    return model


# name -> builder; scaling.py changes sizes through the builders themselves
MODELS: dict[str, Callable[[], nn.Module]] = {
    "unet16": lambda: unet(16, (128, 256, 256), 2),
    "unet32": lambda: unet(32, (128, 256, 256), 2),
    "dit": lambda: dit(16, 6, 6),
    # The top level of Stable Diffusion 1.5: three transformer blocks, 320 wide, 4096 tokens, text
    # 77 x 768.
    "sd64": lambda: unet(64, (320,), 1, plain=False, mid=False),
    # Stable Diffusion 1.5's whole UNet, 860 million numbers: for a GPU (gpu.py)
    "sd15": lambda: unet(64, (320, 640, 1280, 1280), 2),
    "tiny": lambda: unet(8, (8, 16), 1, text=16),  # for tests
}
NAMES = ("base", *MODELS)


def build(
    name: str,
    trainable: str,
    *,
    records: int,
    draws: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
) -> Case:
    """The case `name`; the same call gives the same numbers. Raises ValueError for an unknown model
    or trainable set.
    """
    if name == "base":
        return bundled(trainable, records, draws, dtype)
    if name not in MODELS:
        raise ValueError(f"model {name}: choose {', '.join(NAMES)}")
    return assemble(name, MODELS[name], trainable, records, draws, dtype, device)


def assemble(
    name: str,
    builder: Callable[[], nn.Module],
    trainable: str,
    records: int,
    draws: int,
    dtype: str = "float32",
    device: str = "cpu",
) -> Case:
    """A case of any diffusers UNet or DiT."""
    torch.manual_seed(0)
    with torch.device(device):  # a large model is made where it is needed
        model = builder().train().requires_grad_(False)
        tensors = choose(model, trainable)
    model.to(device)
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    text = getattr(model.config, "cross_attention_dim", None)
    batch = dummy_records(records, draws, model.config.sample_size, text, device)
    return Case(
        name,
        model,
        tensors,
        losses(model, text, DTYPES[dtype]),
        losses(model, text, torch.float32),
        batch,
        draws,
    )


def choose(model: nn.Module, trainable: str) -> dict[str, nn.Parameter]:
    """The tensors of a trainable set by name; a LoRA is added to the model, with B drawn at
    random.
    """
    if trainable.startswith("lora"):
        from peft import LoraConfig, inject_adapter_in_model

        rank = int(trainable[4:])
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=PROJECTIONS), model
        )
        # inject_adapter_in_model hands the model back in evaluation mode for some versions
        model.train()
        tensors = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    elif trainable == "attention":
        parts = ("attentions.",) if hasattr(model, "down_blocks") else (".attn1.", ".ff.")
        tensors = {
            name: p for name, p in model.named_parameters() if any(part in name for part in parts)
        }
    elif trainable == "whole":
        tensors = dict(model.named_parameters())
    else:
        raise ValueError(f"trainable {trainable}: choose {', '.join(TRAINABLE)}")
    wake(tensors)
    return tensors


def wake(tensors: dict[str, nn.Parameter]) -> None:
    """LoRA's B starts at zero, which makes the gradient of A zero and hides it."""
    for name, tensor in tensors.items():
        if "lora_B" in name:
            nn.init.normal_(tensor, std=0.05)


def dummy_records(records: int, draws: int, size: int, text: int | None, device: str) -> Batch:
    """Random latents, times and conditions; the draws of a record share its condition."""
    g = torch.Generator().manual_seed(1)
    shape = (records, draws, 4, size, size)
    if text is None:
        condition = torch.randint(0, 1000, (records, 1), generator=g).expand(-1, draws)
    else:
        condition = torch.randn(records, 1, TOKENS, text, generator=g).expand(-1, draws, -1, -1)
    batch = Batch(
        noisy=torch.randn(shape, generator=g),
        target=torch.randn(shape, generator=g),
        time=torch.randint(0, 1000, (records, draws), generator=g),
        condition=condition.contiguous(),
    )
    return Batch(**{field.name: getattr(batch, field.name).to(device) for field in fields(batch)})


def losses(model: nn.Module, text: int | None, dtype: torch.dtype) -> Callable[[Batch], Tensor]:
    """Batch -> row losses [B*K]: mean square error of the predicted noise, one mean per row."""

    def row_losses(batch: Batch) -> Tensor:
        noisy, time = batch.noisy.flatten(0, 1), batch.time.flatten()
        with torch.autocast(noisy.device.type, dtype, enabled=dtype != torch.float32):
            if text is None:
                predicted = model(noisy, time, batch.condition.flatten()).sample[:, :4]
            else:
                predicted = model(noisy, time, batch.condition.flatten(0, 1)).sample
        return (predicted.float() - batch.target.flatten(0, 1)).pow(2).mean((1, 2, 3))

    return row_losses


def bundled(trainable: str, records: int, draws: int, dtype: str) -> Case:
    """The bundled base `glyphs` (latents 4 x 8 x 8) under sfumato's own methods and row losses."""
    from sfumato.bases import load_base
    from sfumato.compute.precision import Formats
    from sfumato.methods import METHODS, Given
    from sfumato.methods.prompts import choose_prompts
    from sfumato.training.dummy import dummy_batch
    from sfumato.verbs.demo import demo_prompts

    method = "lora" if trainable.startswith("lora") else {"whole": "full"}.get(trainable, trainable)
    options = {"rank": int(trainable[4:])} if method == "lora" else {}
    base, classes = load_base("glyphs"), tuple("0123456789")
    torch.manual_seed(0)
    prompts = choose_prompts(base, classes, **demo_prompts("glyphs"))
    base.formats = Formats.everywhere(dtype)
    adaptation = METHODS[method](**options).apply(base, Given(prompts))
    adaptation.model.train()
    wake(adaptation.trainable)
    facts = SimpleNamespace(base=base, plan=SimpleNamespace(noise_draws=draws, classes=classes))
    batch = dummy_batch(facts, records)
    exact = adaptation.exact_losses
    return Case(
        "base", adaptation.model, adaptation.trainable, adaptation.row_losses, exact, batch, draws
    )
