#!/usr/bin/env bash
# datasets 5.2.0, imagefolder: a metadata.csv beside class folders takes the labels away, and the pictures that it does not name.
# Seen: 2 class folders of 3 pictures: a ClassLabel column of 6 rows. With a metadata.csv that adds a column patient: image and patient,
# no label, and drop_labels=False does not bring it back. With a table of 3 of the 6 pictures: 3 rows. Nothing is said in either case.
# Guess: label from the folder and patient from the table; None, or a warning, for pictures that the table does not name.
# Why it matters: the table is how a set gets its unit column. Adding it makes a labelled set unlabelled, and a table of some
# patients makes the set smaller.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 HF_HOME="$work/home" "$work/venv/bin/python" -W ignore - <<'PY'
import os
import sys
import datasets
import numpy
from PIL import Image

datasets.disable_progress_bars()
for label in ("cat", "dog"):
    os.makedirs("set/train/" + label)
    for i in range(3):
        Image.fromarray(numpy.full((8, 8), i, numpy.uint8)).save(f"set/train/{label}/{i}.png")


def loaded(name, labels=(), **options):
    rows = [f"{label}/{i}.png,P{i}" for label in labels for i in range(3)]
    if rows:
        with open("set/train/metadata.csv", "w") as table:
            table.write("\n".join(["file_name,patient", *rows]))
    found = datasets.load_dataset("imagefolder", data_dir="set", split="train", cache_dir=name, **options)
    return sorted(found.column_names), found.num_rows


seen = {
    "folders": loaded("a"),
    "table": loaded("b", ("cat", "dog")),
    "drop_labels=False": loaded("c", ("cat", "dog"), drop_labels=False),
    "table of half": loaded("d", ("cat",)),
}
print("datasets", datasets.__version__, seen)
if seen != {
    "folders": (["image", "label"], 6),
    "table": (["image", "patient"], 6),
    "drop_labels=False": (["image", "patient"], 6),
    "table of half": (["image", "patient"], 3),
}:
    sys.exit("changed: a table beside class folders leaves labels or pictures")
PY
