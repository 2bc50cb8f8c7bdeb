#!/usr/bin/env bash
# transformers 5.23.0: CLIPTextModel with eos_token_id 2 in its config (as in the text encoders of Stable Diffusion 1 and SDXL) takes its
# pooled output at the largest token id, not at the end of the text. A token added by textual inversion has the largest id of all.
# Seen (tiny random model, ids 98 5 100 7 99 99 ..., 99 ends the text, 100 was added): eos_token_id 2 pools position 2, the new token;
# eos_token_id 99 pools position 4.
# Guess: the state at the first end-of-text token, which has read the whole prompt.
# Why it matters: SDXL conditions on the pooled output. With a learned word in the prompt, it no longer depends on anything after that
# word, so whatever the prompt says behind it is lost there, and images of one unit look alike for no statistical reason.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from transformers import CLIPTextConfig, CLIPTextModel

ids, pooled = torch.tensor([[98, 5, 100, 7, 99, 99, 99, 99]]), {}
for eos in (2, 99):
    torch.manual_seed(0)
    sizes = dict(vocab_size=101, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    config = CLIPTextConfig(**sizes, max_position_embeddings=8, eos_token_id=eos, bos_token_id=98, pad_token_id=99)
    with torch.no_grad():
        out = CLIPTextModel(config).eval()(ids)
    distance = (out.last_hidden_state[0] - out.pooler_output[0]).abs().max(1).values
    pooled[eos] = int(distance.argmin())
    print(f"eos_token_id {eos}: pooled at position {pooled[eos]} (distance {float(distance.min()):.0e})")
if pooled != {2: 2, 99: 4}:
    sys.exit("changed: the pooled output is taken elsewhere")
PY
