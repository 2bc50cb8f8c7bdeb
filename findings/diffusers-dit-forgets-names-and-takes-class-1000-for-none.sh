#!/usr/bin/env bash
# diffusers 0.42.1: DiTPipeline loses its class names when it saves itself, and takes row 1000 of the class table for "no class"
# whatever the number of classes. A DiT of 1,200 classes has its null row at 1200 (its own label dropout in training uses that one);
# with guidance the pipeline subtracts the prediction for class 1000 instead, without a warning.
# Seen: labels of a pipeline made with id2label {0: "cat, kitten", 1: "dog"} are 3 before and 0 after save_pretrained and
# from_pretrained. Of a DiT with 1,200 classes the guided picture of class 3 changes when row 1000 is overwritten, and does not change
# at all when row 1200 is, the one that LabelEmbedding drops labels to.
# Guess: what the constructor takes is saved; the null class is the one that the model's own dropout uses.
# Why it matters: an adapted model answers to other names than its base, or to none; a class-conditional model with new classes is
# guided away from one of them. Write id2label into model_index.json, and leave row 1000 the null row when classes are added.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0
cd "$work"
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

torch.manual_seed(0)
vae = AutoencoderKL(
    block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    latent_channels=4, norm_num_groups=2, sample_size=16,
)
denoiser = DiTTransformer2DModel(
    num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8, num_embeds_ada_norm=1200,
).eval()
for parameter in denoiser.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
pipe = DiTPipeline(denoiser, vae, DDIMScheduler(), id2label={0: "cat, kitten", 1: "dog"})
pipe.set_progress_bar_config(disable=True)
before = len(pipe.labels)
pipe.save_pretrained("saved")
after = len(DiTPipeline.from_pretrained("saved").labels)

embedder = denoiser.transformer_blocks[0].norm1.emb.class_embedder
table = embedder.embedding_table.weight.data
dropped = int(embedder.token_drop(torch.tensor([3]), torch.ones(1)))


def picture():
    made = pipe([3], guidance_scale=4.0, generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np")
    return torch.from_numpy(made.images)


def changed_by(row):
    kept, first = table[row].clone(), picture()
    table[row] += 5.0
    other = picture()
    table[row] = kept
    return float((first - other).abs().max())


rows = {row: changed_by(row) for row in (1000, 1200)}
print(f"names: {before} before, {after} after; labels are dropped to row {dropped}; the guided picture changes by row: {rows}")
if (before, after, dropped) != (3, 0, 1200) or not rows[1000] > 0 or rows[1200] != 0:
    sys.exit("changed: names are kept, or the null class is the last row")
PY
