"""Leak lint: marked pixels, names, captions, tags and secrets are looked for in everything that is
shown, kept outside or released.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sfumato import verbs
from sfumato.cli import main
from sfumato.methods import Saliency
from sfumato.options import Performance, Sampling
from sfumato.records import bounded, load_records, process
from sfumato.runs.folder import Run

MARKERS = 50


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Pictures that carry a mark in name, caption, person, text chunk, EXIF and pixels: (folder,
    words, rows of pixels).
    """
    root, rng = tmp_path_factory.mktemp("marked"), np.random.default_rng(5)
    words, rows, table = [], [], ["file_name,label,caption,patient"]
    for number in range(MARKERS):
        name, caption, person, tag, place = (
            f"zq{kind}{number:02d}mark" for kind in ("name", "word", "person", "tag", "gps")
        )
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", tag)
        exif = Image.Exif()
        exif[0x010E] = exif.get_ifd(0x8825)[29] = place  # a description, and GPS' own date as text
        Image.fromarray(pixels).save(root / f"{name}.png", pnginfo=note, exif=exif)
        table.append(f"{name}.png,{'ab'[number % 2]},{caption},{person}")
        words += [name, caption, person, tag, place]
        rows += [pixels[0].tobytes(), pixels[8, 4:12].tobytes()]
    (root / "metadata.csv").write_text("\n".join(table))
    return root, words, rows


@pytest.fixture(scope="module")
def artefacts(marked, tiny_base, tmp_path_factory):
    """A run with a probe from end to end, with all that it printed."""
    root, top = marked[0], tmp_path_factory.mktemp("made")
    said: list[str] = []
    run = verbs.adapt(
        root,
        anyway=True,
        yes_public=True,
        output=top / "run",
        epsilon=4.0,
        delta=1e-2,
        base=str(tiny_base),
        method=Saliency(keep=5, probe_units=8, probe_draws=1, rank=2),
        unit="patient",
        caption_column="caption",
        classes=["a", "b"],
        expected_batch_size=8,
        steps=2,
        max_per_unit=1,
        performance=Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
        on_stage=said.append,
        ledger=top / "book" / "ledger.sqlite",
    )
    secrets = [
        (run.folder / "run.key").read_bytes().strip(),
        (top / "book" / "ledger.sqlite.key").read_bytes().split(b"\n")[0],
    ]
    book = ["--ledger", str(top / "book" / "ledger.sqlite")]
    audited = shown("audit", run.folder, "--only", "B", *book)
    folder = verbs.synthesize(run, 6, top / "release", sampling=Sampling(steps=1))
    drafted = json.loads((folder / "synthesis.json").read_text())
    verbs.release(folder)
    model = verbs.release(verbs.export(run, top / "model"))
    report = verbs.verify(folder)
    export = "".join(run.ledger.ledger.export())
    outside = top / "outside"
    outside.mkdir()
    images = [str(root), "--unit", "patient", "--classes", "a,b"]
    told = [
        audited,
        shown("ledger", "export", "-o", outside / "chain.jsonl", *book),
        shown("ledger", "show", *book),
        shown("ledger", "show", *images, *book),
        shown("ledger", "show", "--against", folder / "privacy.json", *book),
        shown("verify", folder),
        shown(
            "plan",
            *images,
            "--epsilon",
            "4",
            "--delta",
            "1e-2",
            "--base",
            tiny_base,
            "--json",
            *book,
        ),
        shown("plan", *images, "--epsilon", "4", "--delta", "1e-2", "--base", tiny_base, *book),
    ]
    # What the ledger knows images and patients by, as it keeps it: not one leaves.
    table = run.ledger.ledger.chain.read("SELECT picture, file, unit FROM trace", [])
    keyed = {part for trace in table for part in trace if part}
    assert len(keyed) > 2 * MARKERS
    records = load_records(root, unit="patient", classes=["a", "b"])
    prints = [
        mark for marks in (records.fingerprints, *records.marks.values()) for mark in marks if mark
    ]
    told = "\n".join([*told, *said, repr(run), json.dumps(drafted), repr(report), export])
    return {
        "top": top,
        "run": run,
        "told": told,
        "secrets": secrets,
        "prints": prints,
        "keyed": sorted(keyed),
        "folders": [folder, model, outside],
    }


def shown(*words) -> str:
    """All that the command line says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main([str(word) for word in words]) == 0, out.getvalue()
    return out.getvalue()


def blobs(folder: Path):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, path.name.encode() + b"\0" + path.read_bytes()
        if path.suffix == ".html":
            for text in re.findall(r"data:image/\w+;base64,([^\"]+)", path.read_text("utf-8")):
                yield f"a picture of {path.name}", base64.b64decode(text)


def test_nothing_private_leaves(marked, artefacts):
    _, words, rows = marked
    seeked = [w.encode() for w in words] + rows + [p for p in artefacts["prints"]]
    seeked += [p.hex().encode() for p in artefacts["prints"]]
    seeked += [form for mark in artefacts["keyed"] for form in (mark, mark.hex().encode())]
    secrets = artefacts["secrets"] + [bytes.fromhex(s.decode()) for s in artefacts["secrets"]]
    seen = 0
    for folder in artefacts["folders"]:
        for name, blob in blobs(folder):
            seen += 1
            assert not [m for m in seeked + secrets if m in blob], name
    names = {name for folder in artefacts["folders"] for name, _ in blobs(folder)}
    assert names >= {"PRIVACY.html", "adapted-000.png", "base-000.png", "a picture of report.html"}
    assert seen > 20 and len(seeked) > 5 * MARKERS
    told = artefacts["told"].encode()
    assert not [m for m in seeked + secrets if m in told]


def test_what_stays_holds_no_names_and_the_ledger_no_picture(marked, artefacts):
    _, words, rows = marked
    assert {"audit.json", "metrics.jsonl", "plan.json", "options.json"} <= {
        name for name, _ in blobs(artefacts["run"].folder)
    }
    for name, blob in blobs(artefacts["run"].folder):
        assert not [w for w in words if w.encode() in blob], name
        assert not [r for r in rows if r in blob], name
        assert not [s for s in artefacts["secrets"] if s in blob], (
            f"{name}: the run key should be erased"
        )
    for name, blob in blobs(artefacts["top"] / "book"):
        seeked = [w.encode() for w in words] + rows + list(artefacts["prints"])
        assert not [m for m in seeked if m in blob], name


def test_a_picture_that_kills_the_decoder_is_named_by_its_rule_alone(
    marked, tmp_path, capfd, monkeypatch
):
    """Neither we nor the other process say whose it was, and no core file is left."""
    root, words, _ = marked
    broken, here = shutil.copytree(root, tmp_path / "broken"), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    bounded._ONE.stop()
    real, sent = process.Process.send, []

    def send(self, kind, data, seconds):
        real(self, kind, data, seconds)
        sent.append(kind)
        if len(sent) in (1, 20):
            os.kill(self.child.pid, signal.SIGSEGV)

    monkeypatch.setattr(process.Process, "send", send)
    assert (
        main(["plan", str(broken), "--base", "icons", "--unit", "patient", "--epsilon", "1"]) == 10
    )
    told = "".join(capfd.readouterr())
    assert (
        bounded.CRASHED in told and not [w for w in words if w in told] and not list(here.iterdir())
    )
    bounded._ONE.stop()


def test_a_crash_shows_no_marker(marked, tmp_path, capsys, monkeypatch, tiny_base):
    root, words, _ = marked
    real = Run.create

    def create(*_, **__):
        raise RuntimeError(f"{words[0]} {np.arange(3)} {root}")

    monkeypatch.setattr(Run, "create", create)
    command = [
        "adapt",
        str(root),
        "--unit",
        "patient",
        "--classes",
        "a,b",
        "--epsilon",
        "4",
        "--base",
        str(tiny_base),
        "--anyway",
        "--yes-public",
    ]
    assert main([*command, "-o", str(tmp_path / "run")]) == 70
    shown = "".join(capsys.readouterr())
    assert (
        "RuntimeError" in shown and not [w for w in words if w in shown] and str(root) not in shown
    )
    monkeypatch.setattr(Run, "create", real)
    broken = shutil.copytree(root, tmp_path / "broken")
    for path in list(broken.glob("*.png"))[:20]:
        path.write_bytes(hashlib.sha256(path.name.encode()).digest())
    assert main(["adapt", str(broken), *command[2:], "-o", str(tmp_path / "run")]) == 10
    shown = "".join(capsys.readouterr())
    assert "--max-bad" in shown and not [w for w in words if w in shown]
