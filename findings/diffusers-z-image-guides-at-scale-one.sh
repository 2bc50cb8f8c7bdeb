#!/usr/bin/env bash
# diffusers 0.42.1: ZImagePipeline guides at guidance_scale=1, by twice what the text adds. Its scale is one less than that of the other
# pipelines, though its documentation defines it as they do ("w of equation 2 of the Imagen paper", "enabled by setting guidance_scale > 1").
# Seen (tiny random pipeline): at scale 1 the denoiser is called with two rows and the picture is another than at scale 0; the one of
# scale 1 is, to rounding, told + (told - empty), which other pipelines draw at 2.
# Guess: 1 draws without guidance, and s draws empty + s (told - empty).
# Why it matters: figures of one scale for several models compare different things, and "without guidance" costs twice the time.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import sys

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

torch.manual_seed(0)
words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
tokenizer = Qwen2Tokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}: {{ m['content'] }}]{% endfor %}"
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
text = Qwen3Model(Qwen3Config(vocab_size=len(words), **sizes)).eval()
vae = AutoencoderKL(block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                    latent_channels=4, norm_num_groups=2, shift_factor=0.1).eval()
denoiser = ZImageTransformer2DModel(in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
                                    axes_dims=[4, 2, 2], axes_lens=[1024, 32, 32]).eval()
pipe = ZImagePipeline(FlowMatchEulerDiscreteScheduler(shift=3.0), vae, text, tokenizer, denoiser)
pipe.set_progress_bar_config(disable=True)
noise, rows, answers = torch.randn(1, 4, 8, 8), [], []
own = denoiser.forward


def forward(*args, **more):
    found = own(*args, **more)
    rows.append(len(args[0]))
    answers.append([part.squeeze(1) for part in found[0]])
    return found


denoiser.forward = forward
drawn = {}
for scale in (0.0, 1.0):
    drawn[scale] = pipe(["cross"], height=16, width=16, num_inference_steps=1, guidance_scale=scale, latents=noise.clone(),
                        output_type="latent").images
    print(f"scale {scale:g}: {rows[-1]} rows a call")
told, empty = answers[-1]
at_two = noise + (told + (told - empty))  # one step from noise to picture; the model answers with its sign turned
apart = {scale: float((picture - at_two).abs().max()) for scale, picture in drawn.items()}
print(f"distance from a guidance of 2: at scale 0 {apart[0.0]:.4f}, at scale 1 {apart[1.0]:.1e}")
if rows != [1, 2] or apart[1.0] > 1e-4 or apart[0.0] < 1e-3:
    sys.exit("changed: scale 1 is no guidance")
PY
