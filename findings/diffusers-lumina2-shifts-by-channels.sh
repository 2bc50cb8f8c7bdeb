#!/usr/bin/env bash
# diffusers 0.42.1: with a scheduler of use_dynamic_shifting, Lumina2Pipeline takes the number of latent channels for the number of patches.
# Seen (tiny random pipeline of 4 channels): pictures of 32, 64 and 128 pixels are all drawn with mu 0.4573, that of 4 patches.
# Guess: mu grows with the picture, as in FLUX and Stable Diffusion 3, from which the rule was copied: there latents are packed, and their
# second axis counts patches.
# Why it matters: who trains or draws by the settings in the folder and the rule in the papers has another schedule than the pipeline.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

torch.manual_seed(0)
words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{n:02X}>" for n in range(256)), *map(chr, range(33, 127)), "\u2581"]
tokenizer = GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
tokenizer.add_bos_token = True
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
text = Gemma2Model(Gemma2Config(vocab_size=len(words), **sizes)).eval()
vae = AutoencoderKL(block_out_channels=(4,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                    latent_channels=4, norm_num_groups=2, shift_factor=0.1).eval()
denoiser = Lumina2Transformer2DModel(sample_size=16, in_channels=4, hidden_size=16, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
                                     num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 2, 2), axes_lens=(300, 32, 32), cap_feat_dim=16).eval()
scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
pipe = Lumina2Pipeline(denoiser, scheduler, vae, text, tokenizer)
pipe.set_progress_bar_config(disable=True)
own, seen = scheduler.set_timesteps, []
scheduler.set_timesteps = lambda *args, mu=None, **more: (seen.append(round(mu, 4)), own(*args, mu=mu, **more))
scheduler.set_timesteps.__signature__ = __import__("inspect").signature(own)
for side in (32, 64, 128):
    pipe("cross", height=side, width=side, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
    print(f"{side} pixels, {(side // 16) ** 2} patches: mu {seen[-1]}")
if seen != [seen[0]] * 3:
    sys.exit("changed: mu follows the size of the picture")
PY
