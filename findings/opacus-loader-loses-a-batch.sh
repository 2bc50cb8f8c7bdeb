#!/usr/bin/env bash
# opacus 1.6.0: DPDataLoader of a loader with 93 batches makes 92, and get_noise_multiplier(epochs=1) prices 92. The rate is kept
# as 1 / 93 in floating point, and the number of steps is int(1 / rate): 92.99999999999999 is cut to 92.
# Seen: 93 -> 92, 99 -> 98; 49 -> 49; 141 of the lengths from 1 to 2,000 lose a step. At 930 records in batches of 10, the noise
# for one epoch equals the noise for 92 steps, and not for 93.
# Guess: len(DPDataLoader) == len(DataLoader), for every length.
# Why it matters: with poisson_sampling=False the loop takes all 93 steps of an epoch, with noise for 92; and a run by epochs is a step per
# epoch shorter than its plan says. Give steps, not epochs, to the accountant.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 opacus==1.6.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch
from opacus.accountants.utils import get_noise_multiplier
from opacus.data_loader import DPDataLoader

lengths = {}
for n in (49, 93, 99):
    plain = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(10 * n, 1)), batch_size=10)
    private = DPDataLoader.from_data_loader(plain)
    lengths[n] = sum(1 for _ in private)
    print(f"{len(plain)} batches become {lengths[n]} (len says {len(private)})")
common = dict(target_epsilon=1.0, target_delta=1e-5, sample_rate=1 / 93, epsilon_tolerance=1e-6, accountant="rdp")
epoch, fewer, right = (get_noise_multiplier(**common, **k) for k in ({"epochs": 1}, {"steps": 92}, {"steps": 93}))
lost = sum(int(1 / (1 / n)) != n for n in range(1, 2001))
print(f"noise for 1 epoch {epoch:.6f}, 92 steps {fewer:.6f}, 93 steps {right:.6f}; lengths below 2,001 that lose a step: {lost}")
if lengths != {49: 49, 93: 92, 99: 98} or epoch != fewer or epoch == right:
    sys.exit("changed: the number of steps is another")
PY
