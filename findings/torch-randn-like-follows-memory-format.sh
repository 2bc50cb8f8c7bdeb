#!/usr/bin/env bash
# torch 2.13.0 (CPU): with one seed, randn_like of a channels_last tensor does not give the values of randn_like of the same
# tensor in the usual layout, not even in another order: it takes another sampling routine.
# Seen: shape (2, 4, 8, 8), seed 0: unequal, and the sorted values are unequal as well; torch.randn with the shape equals
# the contiguous one.
# Guess: the seed and the shape decide the values; or, at worst, the same values in another place.
# Why it matters: diffusion training draws its noise with randn_like(latents), and channels_last is switched on for speed.
# A replay that must reproduce a private run bit by bit needs the memory format in its fingerprint, not only the seed.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import torch

x = torch.zeros(2, 4, 8, 8)
drawn = []
for layout in (x, x.to(memory_format=torch.channels_last)):
    torch.manual_seed(0)
    drawn.append(torch.randn_like(layout))
torch.manual_seed(0)
plain = torch.randn(x.shape)
same = torch.equal(drawn[0], drawn[1])
multiset = torch.equal(drawn[0].flatten().sort().values, drawn[1].flatten().sort().values)
print("first values:", [round(float(d.flatten()[0]), 4) for d in drawn], "equal:", same, "equal when sorted:", multiset)
if same or multiset or not torch.equal(plain, drawn[0]):
    sys.exit("changed: the memory format no longer decides the values")
PY
