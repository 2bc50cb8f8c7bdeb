#!/usr/bin/env bash
# pydicom 3.0.2: apply_voi_lut looks a value up in a VOI LUT in the integer type of the table's entries: with 4,096 entries of 8 bits
# (valid: PS3.3 C.11.2, LUT Descriptor 4096\0\8, what a 12-bit radiograph for an 8-bit screen has) places wrap modulo 256.
# Seen: a ramp table (entry i is i // 16) gives 0, 15, 0, 14, 15 for the values 0, 255, 256, 1000, 4095; without a warning. The same table
# as a Modality LUT gives 0, 15, 16, 62, 255.
# Guess: both functions look up the same table alike; the type of the entries says nothing of their number.
# Why it matters: radiographs turn into bands of noise, and whoever converts a private set with pydicom trains on that, with a real budget.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W error - <<'PY'
import sys
import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

table = Dataset()
table.add_new(0x00283002, "US", [4096, 0, 8])
table.add_new(0x00283006, "US", [i // 16 for i in range(4096)])
ds = Dataset()
ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 12, 0
values = np.array([0, 255, 256, 1000, 4095], np.uint16)
ds.VOILUTSequence = [table]
voi = apply_voi_lut(values, ds).tolist()
del ds.VOILUTSequence
ds.ModalityLUTSequence = [table]
modality = apply_modality_lut(values, ds).tolist()
print("as VOI LUT:", voi, "as Modality LUT:", modality, "the table:", (values // 16).tolist())
if voi != [0, 15, 0, 14, 15] or modality != [0, 15, 16, 62, 255]:
    sys.exit("changed: places are counted in another type")
PY
