#!/usr/bin/env bash
# diffusers 0.42.1, peft 0.21.2: a LoRA with alpha 8 and rank 2, saved by get_peft_model_state_dict, convert_state_dict_to_diffusers and
# save_lora_weights(folder, unet_lora_layers=...), reads back at alpha 2: a quarter of what was trained, without a warning. The file has no
# metadata unless unet_lora_adapter_metadata is passed. And it holds two naming schemes at once: attention projections as
# "to_q.lora.down.weight", every other layer (feed-forward, convolutions) as "conv1.lora_A.weight".
# Seen (UNet with to_q, ff.net.2 and conv1 adapted): 16 tensors of the first scheme, 24 of the second; read back r 2, alpha 2; the change
# that the adapter makes to the output is 0.25 of the trained one, to 5 %.
# Guess: a file that a library writes of its own adapter gives the same model when the same library reads it; one file, one scheme.
# Why it matters: a private adapter is released at a quarter of its strength, after the budget is spent, and a reader of one of the two
# schemes loses the other layers. Fold alpha / rank into B, write one scheme, and state r and alpha in the header.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.23.0
cd "$work"
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import sys

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

torch.manual_seed(0)
settings = dict(
    sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4, norm_num_groups=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
unet = UNet2DConditionModel(**settings).eval()
again = UNet2DConditionModel(**settings).eval()
again.load_state_dict(unet.state_dict())
inputs = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 3, 16)
with torch.no_grad():
    plain = unet(*inputs).sample
    unet.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "ff.net.2", "conv1"]))
    for name, tensor in unet.named_parameters():
        if "lora_B" in name:  # small, so that the output is nearly linear in it
            tensor.copy_(torch.randn(tensor.shape) * 1e-4)
    trained = unet(*inputs).sample - plain
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights("saved", unet_lora_layers=layers)
    file = "saved/pytorch_lora_weights.safetensors"
    found = load_file(file)
    again.load_lora_adapter(found, prefix="unet")
    read = again(*inputs).sample - plain
(config,) = again.peft_config.values()
ratio = float((read * trained).sum() / trained.square().sum())
old = sum(".lora.down." in name or ".lora.up." in name for name in found)
new = sum(".lora_A." in name or ".lora_B." in name for name in found)
metadata = safe_open(file, "pt").metadata()
print(f"names: {old} old, {new} new; read back r {config.r}, alpha {config.lora_alpha}; effect {ratio:.3f}; metadata {metadata}")
if (old, new, config.r, config.lora_alpha) != (16, 24, 2, 2) or abs(ratio - 0.25) > 0.0125:
    sys.exit("changed: the file keeps alpha, or one naming scheme")
PY
