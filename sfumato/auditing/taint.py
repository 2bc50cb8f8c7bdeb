"""M5: nothing that is published, constant or counted depends on one record.

Whole runs on neighbours, on a dummy pipeline.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from .. import verbs
from ..bases.tiny import CLASSES, make_tiny_base, make_tiny_images
from ..methods import Lora
from ..options import Performance, Sampling
from ..releases import DRAFT
from ..training import open_latents
from .finding import Finding, Notes

# Few steps with much noise, because they are priced in a moment. No histogram: class counts are
# then not released.
OPTIONS: dict[str, Any] = {
    "epsilon": 0.1,
    "anyway": True,  # a few dummy images can teach nothing, and need not
    "delta": 1e-3,
    "steps": 2,
    "expected_batch_size": 6,
    "method": Lora(rank=2),
    "classes": CLASSES,
    "max_bad": 1.0,
    "caption_column": "txt",
    "performance": Performance(micro_batch=4, precision="float32"),
}
SECRET = ("head", "run", "run_key_id", "entries", "charges", "ledger")


def untouched(seed: int) -> Finding:
    """M5: everything published is equal for D and its neighbours.

    Plan, options, public log, shapes, settings, prompts and counts per class. Neighbours: one
    record with another image and another label, one whose file does not decode, and one with
    another caption. The run keys differ, so everything that is equal is equal whatever was drawn.
    The cached latents and captions of all other records are equal to the bit.
    """
    notes = Notes()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = make_tiny_base(folder / "base")
        plain = make_tiny_images(folder / "plain", seed=seed)
        for image in sorted(plain.rglob("*.png")):
            image.with_suffix(".txt").write_text(f"{image.parent.name} of case {image.stem}")
        first = sorted(plain.rglob("*.png"))[3].relative_to(plain)
        found = {"as they are": _published(plain, base, folder / "run plain")}
        for what in ("another record", "a broken file", "another caption"):
            images = folder / what
            shutil.copytree(plain, images)
            _spoil(images / first, what)
            found[what] = _published(images, base, folder / f"run {what}")
    right, latents = found.pop("as they are")
    for what, (facts, others) in found.items():
        for name, value in right.items():
            notes.numbers += 1
            notes.expect(facts.get(name) == value, f"{name} changes with one record ({what})")
        notes.expect(set(facts) == set(right), f"other files are published ({what})")
        kept = sum((Counter(latents) & Counter(others)).values())
        notes.expect(
            kept >= len(latents) - 1,
            f"{len(latents) - kept} latents or captions change with one record ({what})",
        )
    return notes.finding(
        "M5", "whole runs on a tiny base", sees="any published fact that one record changes"
    )


def _spoil(path: Path, what: str) -> None:
    from PIL import Image

    if what == "a broken file":
        path.write_bytes(path.read_bytes()[:60])
    elif what == "another caption":
        path.with_suffix(".txt").write_text("made up " * 1000)
    else:
        Image.new("RGB", (40, 24), (255, 255, 255)).save(path)
        other = next(name for name in CLASSES if name != path.parent.name)
        path.rename(path.parent.parent / other / "moved.png")


def _published(images: Path, base: Path, folder: Path) -> tuple[dict[str, Any], list[bytes]]:
    """All facts that may leave or are public by the plan, by name.

    And latents and captions of all records, as bytes.
    """
    ledger, output = folder.with_suffix(".ledger"), folder.with_suffix(".release")
    run = verbs.adapt(images, output=folder, base=str(base), ledger=ledger, **OPTIONS)
    release = verbs.synthesize(run, 5, output, sampling=Sampling(steps=1, batch=5))
    draft, data = (
        json.loads((release / DRAFT).read_text("utf-8")),
        open_latents(run.folder / "cache"),
    )
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    facts: dict[str, Any] = {
        "the plan": run.plan.to_json(),
        "an option": run.options,
        "the public log": (run.folder / "metrics.jsonl").read_text("utf-8"),
        "the number of units": data.n_units,
        "the certificate": _plain(draft["certificate"]),
        "the number of pictures per class": sorted(
            Counter(name.split("/")[-2] for name in draft["files"] if name.endswith(".png")).items()
        ),
        "the kinds of rows in the ledger": [row.kind for row in run.ledger.ledger.rows],
        "the names of files": sorted(files),
    }
    shapes = {}
    for path in sorted(run.model.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            shapes[path.name] = [tuple(file.get_slice(name).get_shape()) for name in file.keys()]
    facts["shapes of the trained tensors"] = {name: sorted(found) for name, found in shapes.items()}
    assert data.texts is not None  # captions train here
    told, first = data.texts.told.values(), data.texts.first
    captions = [
        b"".join(part[start:end].numpy().tobytes() for part in told)
        for start, end in zip(first, first[1:])
    ]
    return facts, [np.ascontiguousarray(m).tobytes() + c for m, c in zip(data.mean, captions)]


def _plain(value: Any) -> Any:
    """Without what names the run: keys, hashes, ids."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in SECRET}
    return [_plain(v) for v in value] if isinstance(value, list) else value
