#!/usr/bin/env bash
# torch 2.13.0: torch.randint is not uniform below a range of 2^28: it takes a 32-bit word modulo the range.
# Seen (4,000,000 draws): of torch.randint(0, 3 * 2**26) a share of 0.3440 lies in the lowest third (22 of 64 words);
# of torch.randint(0, 3 * 2**30) it is 0.3338. Tensor.random_ draws alike.
# Guess: uniform, as numpy's Generator.integers is (it rejects words); or no bias that a sample of this size shows.
# Why it matters: somebody who draws noise as integers from a table looks a uniform word up in it. With a table of
# 27 or 28 bits and a range that is no power of two, one third of the table is used 3 % too often, and the
# privacy loss is not that of the table. Draw whole words, or powers of two.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch

torch.manual_seed(0)
low = {}
for third in (2**26, 2**30):
    draws = torch.randint(0, 3 * third, (4_000_000,))
    low[third] = float((draws < third).double().mean())
    print(f"range 3 * {third}: lowest third {low[third]:.4f} (uniform 0.3333, a word modulo the range {22 / 64:.4f} at 2**26)")
if abs(low[2**26] - 22 / 64) > 0.001 or abs(low[2**30] - 1 / 3) > 0.001:
    sys.exit("changed: the draws follow another law")
PY
