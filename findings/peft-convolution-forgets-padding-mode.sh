#!/usr/bin/env bash
# peft 0.21.2: the LoRA of a Conv2d with padding_mode "circular" or "reflect" pads its own input with zeros. Training and merging
# then disagree: the merged layer is another function than the one that was trained.
# Seen (3 to 4 channels, kernel 3, rank 2): merged minus unmerged, relative to what the adapter adds: 2e-7 with zeros, 0.64 circular,
# 0.55 reflect. With dilation 2 the adapter's forward raises (its convolution is not dilated).
# Guess: the adapter copies the convolution's settings, or refuses; merging changes nothing beyond rounding.
# Why it matters: a UNet that was made tileable is adapted privately, the epsilon is spent on the unmerged function, and the
# merged weights that are released draw other pictures. Compare before and after merge_adapter() on one batch.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 peft==0.21.2
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from peft import LoraConfig, get_peft_model


@torch.no_grad()
def difference(**settings):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3, **settings)
    model = get_peft_model(torch.nn.Sequential(layer), LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)).eval()
    x = torch.randn(1, 3, 6, 6)
    apart, plain = model(x), layer(x)
    model.merge_adapter()
    return float((model(x) - apart).abs().max() / (apart - plain).abs().max())


seen = {mode: difference(padding=1, padding_mode=mode) for mode in ("zeros", "circular", "reflect")}
try:
    difference(padding=2, dilation=2)
    dilated = "runs"
except RuntimeError:
    dilated = "raises"
print({mode: f"{value:.1e}" for mode, value in seen.items()}, "dilation 2:", dilated)
if seen["zeros"] > 1e-4 or min(seen["circular"], seen["reflect"]) < 0.1 or dilated != "raises":
    sys.exit("changed: the adapter follows the convolution")
PY
