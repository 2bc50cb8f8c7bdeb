#!/usr/bin/env bash
# pydicom 3.0.2: apply_modality_lut and apply_voi_lut look at the top of a data set only. Enhanced (multi-frame) CT and MR keep rescale and window
# in functional groups: both return the stored values, without a warning.
# Seen: an enhanced CT with intercept -1024 and window 40/400 in its shared groups: 0..4095 comes back as it is; with the same two elements at
# the top, -1024..3071 and then the window.
# Guess: the functions that pydicom offers for the transforms apply those that the file has, or say that they did not.
# Why it matters: one folder holds classic and enhanced files of one scanner. A declared window (40/400) then shows bones and air of the
# enhanced ones as the tissue of the others; each picture looks plausible.
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


def item(**tags):
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def transformed(ds):
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 12, 0
    measured = apply_modality_lut(np.array([0, 1064, 4095], np.uint16), ds)
    return measured.tolist(), apply_voi_lut(measured, ds).tolist()


rescale, window = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}, {"WindowCenter": "40", "WindowWidth": "400"}
groups = item(PixelValueTransformationSequence=[item(**rescale)], FrameVOILUTSequence=[item(**window)])
enhanced = transformed(item(SharedFunctionalGroupsSequence=[groups]))
classic = transformed(item(**rescale, **window))
print("enhanced:", enhanced, "classic:", classic)
if enhanced != ([0, 1064, 4095], [0, 1064, 4095]) or classic[0] != [-1024, 40, 3071] or classic[1][2] != 3071:
    sys.exit("changed: functional groups are applied, or another range is")
PY
