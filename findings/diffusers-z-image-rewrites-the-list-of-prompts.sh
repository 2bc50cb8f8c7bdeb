#!/usr/bin/env bash
# diffusers 0.42.1: ZImagePipeline writes the chat that its text encoder reads into the list of prompts that it was given.
# Seen (tiny random pipeline): after one call the caller's list ["cross"] holds the whole chat; the second call with the same list and the
# same seed wraps the chat in a chat and draws another picture.
# Guess: a pipeline leaves its arguments as they were, as all others of diffusers do with a list of prompts.
# Why it matters: whoever draws a set in pieces from one list of public prompts conditions every piece on something else, records prompts
# that were not the ones asked for, and replays another set from the same seed.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
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
prompts, pictures = ["cross"], []
for _ in range(2):
    seed = torch.Generator().manual_seed(0)
    pictures.append(pipe(prompts, height=16, width=16, num_inference_steps=2, guidance_scale=0.0, generator=seed, output_type="np").images)
    print("the list of prompts is now", prompts)
difference = float(abs(pictures[0] - pictures[1]).max())
print(f"the two pictures differ by {difference:.4f} of 1")
if prompts != ["[user: [user: cross]]"] or difference < 1e-5:
    sys.exit("changed: the list of prompts is left as it was")
PY
