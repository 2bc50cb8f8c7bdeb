#!/usr/bin/env bash
# diffusers 0.42.1: with several prompts and num_images_per_prompt > 1, SanaPipeline gives the pictures of one prompt the attention mask of
# another. Embeddings are repeated prompt by prompt (a, a, b, b), masks as a whole list (a, b, a, b). Lumina2Pipeline, PRXPipeline,
# AuraFlowPipeline, HunyuanDiTPipeline and Kandinsky3Pipeline repeat them in the same two ways; PixArtSigmaPipeline does not.
# Seen (tiny random pipeline): of the prompts "cross" and a longer one, two pictures each, the tokens told are [5, 37, 5, 37] where
# [5, 5, 37, 37] belong; from the same noise, the second picture of "cross" and the first of the other are not those that each prompt
# makes alone. No error, no warning.
# Guess: num_images_per_prompt draws each prompt several times.
# Why it matters: synthetic sets and previews are drawn so; a picture is of a prompt cut short, or of padding, and scores of text alignment
# and of training sets are of other prompts than the file says.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import sys

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

torch.manual_seed(0)
words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{n:02X}>" for n in range(256)), *map(chr, range(33, 127)), "\u2581"]
tokenizer = GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
text = Gemma2Model(Gemma2Config(vocab_size=len(words), **sizes)).eval()
levels = dict(encoder_block_types=("ResBlock",) * 3, decoder_block_types=("ResBlock",) * 3, encoder_block_out_channels=(8,) * 3,
              decoder_block_out_channels=(8,) * 3, encoder_layers_per_block=(1,) * 3, decoder_layers_per_block=(1,) * 3,
              encoder_qkv_multiscales=((),) * 3, decoder_qkv_multiscales=((),) * 3)
vae = AutoencoderDC(latent_channels=4, attention_head_dim=2, **levels).eval()
denoiser = SanaTransformer2DModel(sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                                  num_attention_heads=2, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
                                  caption_channels=16).eval()
for parameter in denoiser.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
pipe = SanaPipeline(tokenizer, text, vae, denoiser, scheduler)
pipe.set_progress_bar_config(disable=True)
how = dict(height=32, width=32, num_inference_steps=2, guidance_scale=1.0, use_resolution_binning=False, complex_human_instruction=None,
           output_type="latent")
prompts, noise = ["cross", "a red square beside two green circles"], torch.randn(4, 4, 8, 8)

mask = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, num_images_per_prompt=2)[1]
told = mask.sum(1).tolist()
together = pipe(prompts, num_images_per_prompt=2, latents=noise.clone(), **how).images
alone = torch.cat([pipe(prompts[i // 2], latents=noise[i : i + 1].clone(), **how).images for i in range(4)])
apart = [round(float((one - other).abs().max()), 3) for one, other in zip(together, alone)]
print(f"tokens told: {told}; largest difference from the same picture drawn alone: {apart}")
if told != [told[0], told[1]] * 2 or max(apart[0], apart[3]) > 1e-3 or min(apart[1], apart[2]) < 1e-2:
    sys.exit("changed: each picture has the mask of its prompt")
PY
