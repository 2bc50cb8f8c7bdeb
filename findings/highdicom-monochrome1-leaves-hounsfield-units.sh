#!/usr/bin/env bash
# highdicom 0.28.2: Image.get_frame() of a MONOCHROME1 file mirrors the stored values about the middle of their whole 16-bit range, and
# applies the rescale afterwards: what comes back is no longer in the units of the rescale.
# Seen: one CT of -896..1167 HU, the same file marked MONOCHROME1: -3216..-1153. pydicom's transforms leave both at -896..1167.
# Guess: values stay what they are and only the grey scale for display is turned, or the mirror is about the window or the values in HU.
# Why it matters: a window or range that is declared in Hounsfield units (40/400) maps every such picture to one flat black, and a set
# with both kinds of file is half empty.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import sys
import highdicom
import pydicom
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut

ds = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
seen = {}
for kind in ("MONOCHROME2", "MONOCHROME1"):
    ds.PhotometricInterpretation = kind
    ds.save_as(f"{kind}.dcm")
    frame = highdicom.imread(f"{kind}.dcm").get_frame(1)
    measured = apply_modality_lut(pydicom.dcmread(f"{kind}.dcm").pixel_array, ds)
    seen[kind] = [(float(found.min()), float(found.max())) for found in (frame, measured)]
print("(highdicom, pydicom), smallest and largest:", seen)
right = (-896.0, 1167.0)
if seen != {"MONOCHROME2": [right, right], "MONOCHROME1": [(-3216.0, -1153.0), right]}:
    sys.exit("changed: frames are turned in another way")
PY
