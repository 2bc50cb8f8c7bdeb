#!/usr/bin/env bash
# Pillow 13.0.0: a grey TIFF that is stored with white as zero (PhotometricInterpretation 0, as scanners and microscopes write) is turned when
# it has 8 bits a sample, and not when it has 16.
# Seen: one grey ramp, stored so in 8 and in 16 bits: 8 bits read back as the ramp, 16 bits as its negative; no warning, and nothing in
# `info` says which.
# Guess: the photometric interpretation is applied or not, whatever the depth.
# Why it matters: a private set of both depths is half negatives, and public images for --stand-in may be the other half.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W error - <<'PY'
import io
import struct
import sys
import numpy as np
from PIL import Image


def tiff(samples, white_is_zero):
    """A little-endian TIFF of one strip, byte for byte as the standard has it."""
    bits = 8 * samples.dtype.itemsize
    height, width = samples.shape
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 150), (277, 1), (278, height)]
    entries.append((279, samples.nbytes))
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return (b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0)).ljust(150, b"\0") + samples.tobytes()


ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
read = {}
for bits, top, samples in ((8, 255, (ramp >> 8).astype(np.uint8)), (16, 65535, ramp)):
    image = Image.open(io.BytesIO(tiff(top - samples, True)))
    found = np.asarray(image)
    plain = np.asarray(Image.open(io.BytesIO(tiff(samples, False))))
    read[bits] = "the ramp" if (found == plain).all() else "its negative" if (found == top - plain).all() else "neither"
print("stored with white as zero, read back as:", read)
if read != {8: "the ramp", 16: "its negative"}:
    sys.exit("changed: both depths are read alike")
PY
