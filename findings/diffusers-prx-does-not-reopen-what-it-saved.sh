#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.23.0: a PRXPipeline that save_pretrained wrote does not open again.
# Seen (tiny random pipeline, text encoder 16 wide): save_pretrained writes the encoder's own settings, and pipelines/prx/__init__.py, which
# from_pretrained goes through, reads them as those of a whole T5Gemma: its encoder has the default width, and the weights do not fit.
# Guess: what a pipeline saves, it opens.
# Why it matters: a run that ends by saving its pipeline has spent its budget on a folder that nobody opens. (Saving the settings of a whole
# T5Gemma beside the encoder's weights cures it.)
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 ftfy==6.3.1
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel
from transformers import GemmaTokenizer
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

torch.manual_seed(0)
words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{n:02X}>" for n in range(256))]
tokenizer = GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
part = T5GemmaModuleConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                           num_key_value_heads=1, head_dim=8)
text = T5GemmaEncoder(T5GemmaConfig(encoder=part, decoder=part, vocab_size=len(words)).encoder)
vae = AutoencoderKL(block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                    latent_channels=4, norm_num_groups=2, shift_factor=0.1)
denoiser = PRXTransformer2DModel(in_channels=4, context_in_dim=16, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4])
PRXPipeline(denoiser, FlowMatchEulerDiscreteScheduler(), text, tokenizer, vae).save_pretrained("saved")
# as diffusers.pipelines.prx reads the settings that it builds the encoder by (building it would take gigabytes)
width = T5GemmaConfig.from_pretrained("saved/text_encoder").encoder.hidden_size
print(f"the encoder would be {width} wide; its weights are {text.config.hidden_size} wide")
if width == text.config.hidden_size:
    sys.exit("changed: the encoder's settings are read as they were saved")
PY
