#!/usr/bin/env bash
# torch 2.13.0 (CPU): the gradient of a bfloat16 nn.Embedding adds a repeated token one by one in bfloat16, and stops growing.
# Seen: 560 places with gradient 1 give 256; index_add_ of the same 560 bfloat16 ones gives 560, and a Linear on one-hot
# rows gives 560.
# Guess: 560, since products and sums of bfloat16 tensors are accumulated in float32.
# Why it matters: a batch of 8 prompts has hundreds of padding tokens, and textual inversion repeats its placeholder
# in every prompt. Their rows get less than half the gradient, in the norm that is clipped and in the update.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch

torch.set_num_threads(1)
ids = torch.ones(8 * 70, dtype=torch.long)
ones = torch.ones(560, 2, dtype=torch.bfloat16)
table = torch.nn.Embedding(4, 2, dtype=torch.bfloat16)
table(ids).sum().backward()
embedding = float(table.weight.grad[1, 0])
index_add = float(torch.zeros(4, 2, dtype=torch.bfloat16).index_add_(0, ids, ones)[1, 0])
linear = torch.nn.Linear(4, 2, bias=False, dtype=torch.bfloat16)
linear(torch.nn.functional.one_hot(ids, 4).bfloat16()).sum().backward()
product = float(linear.weight.grad[0, 1])
print(f"Embedding {embedding:.0f}, index_add_ {index_add:.0f}, Linear on one-hot rows {product:.0f}")
if (embedding, index_add, product) != (256.0, 560.0, 560.0):
    sys.exit("changed: the repeated token's gradient is another")
PY
