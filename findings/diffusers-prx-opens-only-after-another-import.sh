#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.23.0: a fresh process cannot open a PRXPipeline: "`transformers` has no class `T5GemmaEncoder`". After
# `import transformers.processing_utils`, or any pipeline that imports it, the same line opens the same folder.
# Seen (tiny random pipeline): pipelines/prx/__init__.py puts the encoder's class into the module transformers when it is first asked for.
# Importing that class imports transformers/processing_utils.py, which loads transformers a second time and leaves the new module in
# sys.modules: the class lands in the old one, and from_pretrained looks in the new one.
# Guess: a pipeline's own from_pretrained opens its folders whatever was imported before; a test after other tests says that it does.
# Why it matters: a card's three lines, tried in a warm notebook, fail for whoever pastes them; a budget is spent on a folder that "does not open".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 ftfy==6.3.1
cd "$work"
export OMP_NUM_THREADS=1
"$work/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
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
whole = T5GemmaConfig(encoder=part, decoder=part, vocab_size=len(words))
vae = AutoencoderKL(block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                    latent_channels=4, norm_num_groups=2, shift_factor=0.1)
denoiser = PRXTransformer2DModel(in_channels=4, context_in_dim=16, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4])
text = T5GemmaEncoder(whole.encoder)
PRXPipeline(denoiser, FlowMatchEulerDiscreteScheduler(), text, tokenizer, vae).save_pretrained("saved")
whole.save_pretrained("saved/text_encoder")  # as in the published folders: settings of a whole T5Gemma
PY
opens() {
    "$work/venv/bin/python" -W ignore -c "$1
from diffusers import PRXPipeline
PRXPipeline.from_pretrained('saved')" >said 2>&1 && echo opens || tail -n 1 said | cut -c 1-52
}
plain="$(opens "")"
warm="$(opens "import transformers.processing_utils")"
echo "in a fresh process: $plain"
echo "after transformers.processing_utils: $warm"
if [ "$plain" = opens ] || [ "$warm" != opens ]; then
    echo "changed: what was imported before makes no difference" >&2
    exit 1
fi
