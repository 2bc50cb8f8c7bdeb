"""How well `--time` keeps its word, and what more time is worth: wall and processor time of whole
runs of the command line, and a classifier's accuracy on real digits.

    python benchmarks/timed.py --times 5min,20min,60min --out benchmarks/results/timed.jsonl

The private images are the first bundled digits (MNIST is public: nothing is protected here) as PNG
files. A run is `sfumato adapt` in a process of its own, from its start to its end; pictures and
classifier come on top and are not timed. On a machine with other work wall time says little, so
each row has processor time and the load before it as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits(folder: Path, count: int, side: int) -> Path:
    """The first digits as PNG files in a folder for each class."""
    import numpy as np
    from PIL import Image

    from sfumato.records import bundled_digits

    known = bundled_digits("train")
    pictures = known.images(np.arange(count), side)
    for number, picture in enumerate(pictures):
        place = folder / str(int(known.labels[number]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).convert("RGB").save(place / f"{number}.png")
    return folder


def adapted(said: argparse.Namespace, asked: str, images: Path, out: Path, ledger: Path) -> dict:
    """One run of the command line: its times, and what was solved for."""
    prompts = [f"--prompt={i}=a handwritten digit {name}" for i, name in enumerate(NAMES)]
    words = ["adapt", str(images), "-o", str(out), "--time", asked, "--base", said.base]
    words += ["--epsilon", str(said.epsilon), "--delta", "1e-5", "--method", said.method]
    words += ["--yes-public", "--anyway", "--ledger", str(ledger), *prompts]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "sfumato", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        sys.exit(ended.stderr[-2000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = re.search(
        r"--steps (\d+) --expected-batch-size (\d+) --noise-draws (\d+)", ended.stderr
    )
    assert found is not None
    steps, batch, draws = map(int, found.groups())
    sheets = len(list((out / "samples").glob("*.png")))
    return {
        "steps": steps,
        "expected_batch_size": batch,
        "noise_draws": draws,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "samples": sheets,
    }


def accuracy(run: Path, ledger: Path, images: int, seed: int = 0) -> float:
    """Accuracy on the bundled test digits of a CNN trained on pictures of the run alone."""
    import numpy as np

    from sfumato.evaluation import train_classifier
    from sfumato.options import Sampling
    from sfumato.records import bundled_digits
    from sfumato.runs.folder import Run
    from sfumato.verbs.facts import adapted_base
    from sfumato.verbs.row_images import draw

    opened = Run.open(run, ledger)
    base = adapted_base(opened)
    pictures, labels = draw(base, opened.plan.prompts, images, Sampling())
    judge = train_classifier("cnn", pictures, labels, len(NAMES), seed=seed, steps=600)
    test = bundled_digits("test")
    real = test.images(np.arange(test.n), base.resolution)
    return float((judge.predict(real) == test.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", default="5min,20min,60min")
    parser.add_argument("--private", type=int, default=5000, help="how many digits")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--base", default="glyphs")
    parser.add_argument("--method", default="attention")
    parser.add_argument("--images", type=int, default=4000, help="pictures for the classifier")
    parser.add_argument("--no-accuracy", action="store_true")
    parser.add_argument("--out", type=Path)
    said = parser.parse_args()
    from sfumato.bases import base_info
    from sfumato.options import parse

    for asked in said.times.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            top = Path(scratch)
            images = digits(top / "digits", said.private, base_info(said.base).resolution)
            ledger, seconds = top / "book" / "ledger.sqlite", parse.duration(asked)
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            row = {"asked_seconds": seconds, "private": said.private, "base": said.base}
            row |= {"method": said.method, "epsilon": said.epsilon, "load_before": load}
            row |= adapted(said, asked, images, top / "run", ledger)
            row["wall_over_asked"] = round(row["wall_seconds"] / seconds, 3)
            if not said.no_accuracy:
                row["accuracy"] = round(accuracy(top / "run", ledger, said.images), 4)
            row |= {"commit": measure.commit(), "machine": measure.machine()}
        line = json.dumps(row)
        print(line, flush=True)
        if said.out is not None:
            said.out.parent.mkdir(parents=True, exist_ok=True)
            with said.out.open("a", encoding="utf-8") as table:
                table.write(line + "\n")


if __name__ == "__main__":
    main()
