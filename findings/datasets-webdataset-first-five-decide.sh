#!/usr/bin/env bash
# datasets 5.2.0, WebDataset tars: the first five samples decide which columns there are; what begins later is dropped without a word.
# Seen: 12 samples with a member NAME.patient each from the sixth on: the loaded set has no column patient. From the fifth on: ValueError.
# From the first on, missing in the sixth: the column is there, with None.
# Guess: the columns of all samples, None where one has none; or a refusal wherever they differ.
# Why it matters: the column that says whose picture it is decides what is protected. A shard that begins with samples of another source
# loses it, and every picture is then a person of its own.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 HF_HOME="$work/home" "$work/venv/bin/python" -W ignore - <<'PY'
import io
import sys
import tarfile
import datasets
import numpy
from PIL import Image

datasets.disable_progress_bars()


def png(i):
    out = io.BytesIO()
    Image.fromarray(numpy.full((8, 8), i, numpy.uint8)).save(out, "PNG")
    return out.getvalue()


def columns(name, has):
    with tarfile.open(name + ".tar", "w") as tar:
        for i in range(12):
            held = {"png": png(i), "cls": str(i % 2).encode()} | ({"patient": b"P%d" % i} if has(i) else {})
            for column, data in held.items():
                info = tarfile.TarInfo(f"{i:04d}.{column}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    try:
        rows = datasets.load_dataset("webdataset", data_files=name + ".tar", split="train", cache_dir=name)
    except ValueError:
        return "ValueError"
    return "patient" in rows.column_names


seen = {
    "from the sixth": columns("a", lambda i: i >= 5),
    "from the fifth": columns("b", lambda i: i >= 4),
    "all but the sixth": columns("c", lambda i: i != 5),
}
print("datasets", datasets.__version__, "has a column patient:", seen)
if seen != {"from the sixth": False, "from the fifth": "ValueError", "all but the sixth": True}:
    sys.exit("changed: other samples decide which columns there are")
PY
