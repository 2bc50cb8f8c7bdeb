#!/usr/bin/env bash
# jax 0.10.2, jax-privacy 2.0.0: Gaussian noise for bfloat16 gradients takes 128 values, and its mean is not 0.
# jax.random.normal(dtype=bfloat16) draws a uniform number of 7 bits and maps it; jax_privacy.noise_addition.gaussian_privatizer
# draws in the dtype of the gradients unless told otherwise (its dtype argument).
# Seen (20,000,000 draws): 128 different values from -2.89 to +2.52, mean -0.0118 (50 standard errors), variance 0.994.
# torch.randn(dtype=bfloat16) has thousands of values out to 5.3: it rounds float32 draws.
# Guess: drawn in float32, then rounded to bfloat16; symmetric.
# Why it matters: noise that never leaves 2.9 sigma is not the Gaussian mechanism: a sum further out than that tells
# neighbours apart for certain, whatever epsilon was computed. Give dtype=float32 (still finite, out to about 5.4).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check jax==0.10.2 jax-privacy==2.0.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax_privacy import noise_addition

draws = np.asarray(jax.random.normal(jax.random.key(0), (20_000_000,), jnp.bfloat16)).astype(np.float64)
values = np.unique(draws)
print(f"jax.random.normal: {len(values)} values, {values[0]:.2f} to {values[-1]:.2f}, mean {draws.mean():.4f}, variance {draws.var():.4f}")
gradient = jnp.zeros(1_000_000, jnp.bfloat16)
counts = {}
for dtype in (None, jnp.float32):
    privatizer = noise_addition.gaussian_privatizer(stddev=1.0, prng_key=jax.random.key(1), dtype=dtype)
    noisy, _ = privatizer.update(gradient, privatizer.init(gradient))
    counts[dtype] = len(np.unique(np.asarray(noisy).astype(np.float64)))
print(f"gaussian_privatizer: {counts[None]} values, with dtype float32 {counts[jnp.float32]}")
if len(values) != 128 or counts[None] != 128 or counts[jnp.float32] < 1000 or draws.mean() > -0.005 or values[-1] > 3:
    sys.exit("changed: the noise has another law")
PY
