"""One reader per format, with whole files to spoil: what a user's command does with such a file, as
far as it parses.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import seeds

Spoil = Callable[[random.Random, bytes, list[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """`read(data)` returns or raises SfumatoError; `spoil(rng, seed, seeds)` makes the data."""

    seeds: list[bytes]
    read: Callable[[bytes], object]
    spoil: Spoil = seeds.spoilt


def picture(form: str):
    def make(place: Path) -> Target:
        from sfumato.errors import DataError
        from sfumato.records import bounded

        def read(data: bytes) -> None:
            [(_, seen)] = bounded.look([data].__getitem__, 1)
            if isinstance(seen, str):
                raise DataError(seen)
            [(_, pixels)] = bounded.hand_over([data].__getitem__, [0])
            assert pixels.shape[1::-1] == seen.size

        return Target(
            seeds.pictures(form), read, seeds.spoilt_png if form == "PNG" else seeds.spoilt
        )

    return make


def scan(place: Path) -> Target:
    from sfumato.errors import DataError
    from sfumato.records import bounded

    def read(data: bytes) -> None:
        [(_, said)] = bounded.headers([data].__getitem__, [0], ["PatientID", "Modality"])
        if isinstance(said, dict) and not said["picture"]:
            return  # is left out
        last = said["frames"] - 1 if isinstance(said, dict) else 0
        [(_, seen)] = bounded.look([data].__getitem__, 1, frame=lambda slot: last)
        if isinstance(seen, str):
            raise DataError(seen)
        [(_, pixels)] = bounded.hand_over([data].__getitem__, [0], frame=lambda slot: last)
        assert pixels.shape[1::-1] == seen.size

    return Target(seeds.scans(), read)


def table(suffix: str):
    def make(place: Path) -> Target:
        from sfumato.records import load_records

        for number, data in enumerate(seeds.pictures("PNG")[:2] * 4):
            (place / f"{number}.png").write_bytes(data)

        def read(data: bytes) -> None:
            (place / f"metadata.{suffix}").write_bytes(data)
            load_records(place, unit="patient", caption_column="caption", max_bad=1)

        return Target(seeds.tables()[suffix], read)

    return make


def records(suffix: str):
    def make(place: Path) -> Target:
        from sfumato.records import load_records

        found = seeds.parquet(place) if suffix == "parquet" else seeds.arrays()[suffix]
        for old in place.glob("*.parquet"):
            old.unlink()
        name = "train-images-idx3-ubyte" if suffix == "idx" else f"x.{suffix}"
        (place / "train-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01\0\0\0\x08" + bytes([0, 1] * 4)
        )

        def read(data: bytes) -> None:
            # A new file each time: what is mapped must not change under our feet.
            (place / name).unlink(missing_ok=True)
            (place / name).write_bytes(data)
            found = load_records(
                place / name, max_bad=1, unit="patient" if suffix == "parquet" else None
            )
            found.load(range(min(found.n, 50)), 16)

        return Target(found, read)

    return make


def packed(kind: str):
    def make(place: Path) -> Target:
        from sfumato.records import load_records

        found = seeds.packed(kind)
        for number, data in enumerate(seeds.pictures("PNG")[:2] * 4):
            (place / f"{number}.png").write_bytes(data)
        file = place / f"x.{'json' if kind == 'coco' else kind}"
        by = {"unit": "folder" if kind == "zip" else "patient"}
        by |= {"objects": "crops"} if kind == "coco" else {}

        def read(data: bytes) -> None:
            file.unlink(missing_ok=True)
            file.write_bytes(data)
            found = load_records(file, max_bad=1, yes_public=True, **by)
            found.load(range(min(found.n, 50)), 16)

        return Target(found, read, seeds.spoilt_json if kind == "coco" else seeds.spoilt)

    return make


def weights(place: Path) -> Target:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    from sfumato.bases import LORA_FILE, load_base
    from sfumato.bases.adapters import add_lora, load_lora, save_lora
    from sfumato.bases.weights import check_weights
    from sfumato.errors import ModelError
    from sfumato.releases.formats import check_safetensors
    from tests.conftest import make_tiny_base

    folder = make_tiny_base(place / "base")
    base = load_base(folder)
    add_lora(base, ["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"], 2, 2.0)
    save_lora(base, place / "lora")
    original = load_base(folder)

    def read(data: bytes) -> None:
        path = place / "x" / LORA_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        check_weights(path)
        try:
            load(data), load_file(path)
        except SafetensorError as error:  # its own readers catch it everywhere
            raise ModelError("safetensors refuses it") from error
        check_safetensors(path, path.name)
        kept = {name: value.clone() for name, value in original.unet.state_dict().items()}
        try:
            load_lora(original, path.parent)
        finally:
            if hasattr(original.unet, "peft_config"):
                original.unet.unload_lora()
            original.unet.load_state_dict(kept)

    files = [
        (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes(),
        (place / "lora" / LORA_FILE).read_bytes(),
    ]
    return Target([files[0], files[1], files[1]], read, seeds.spoilt_weights)


def configs(place: Path) -> Target:
    from sfumato.bases import load_base
    from tests.conftest import make_tiny_base

    folder = make_tiny_base(place / "base")
    names = (
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    )
    whole = {name: (folder / name).read_bytes() for name in names}

    def spoil(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
        name = rng.choice(names)
        return name.encode() + b"\0" + seeds.spoilt_json(rng, whole[name], list(whole.values()))

    def read(data: bytes) -> None:
        name, _, text = data.partition(b"\0")
        place = folder / name.decode()
        place.write_bytes(text)
        try:
            load_base(folder)
        finally:
            place.write_bytes(whole[name.decode()])

    return Target(list(whole.values()), read, spoil)


def _plan():
    from sfumato.privacy import accounting
    from tests.plans import of_training

    accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
    return of_training(method="lora", rank=2, histogram_noise_multiplier=20.0)


def plans(place: Path) -> Target:
    from sfumato.runs import budget
    from sfumato.runs.folder import Run

    options = {
        "performance": {"precision": "float32", "engine": "one-pass", "checkpoint_steps": 2},
        "seed": 0,
    }
    run = Run.create(
        place / "run", _plan(), options, budget.open_ledger(place / "book" / "ledger.sqlite")
    )
    names = ("plan.json", "plan.json", "options.json", "run.json")
    whole = {name: (run.folder / name).read_bytes() for name in names}

    def spoil(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
        name = rng.choice(names)
        return name.encode() + b"\0" + seeds.spoilt_json(rng, whole[name], list(whole.values()))

    def read(data: bytes) -> None:
        name, _, text = data.partition(b"\0")
        (run.folder / name.decode()).write_bytes(text)
        try:
            Run.open(run.folder)
        finally:
            (run.folder / name.decode()).write_bytes(whole[name.decode()])

    return Target(list(whole.values()), read, spoil)


def certificates(place: Path) -> Target:
    from sfumato.errors import SfumatoError
    from sfumato.releases import CertificateFacts, LedgerFacts, build_privacy_json, verify
    from sfumato.runs import budget, certified

    plan = _plan()
    known = LedgerFacts(head="ab" * 32, entries=1, attempts=1, replays=0)
    said = CertificateFacts(plan=plan.to_json(), ledger=known, run_key_id="0", code_version="0")
    facts = build_privacy_json(said)
    text = json.dumps(facts | {"artefacts": {}}).encode()
    book = budget.open_ledger(place / "book" / "ledger.sqlite")
    release = place / "release"
    release.mkdir()
    (release / "PRIVACY.md").write_text(
        f"| epsilon | {facts['epsilon']} |\n| delta | {facts['delta']} |\n" + "ab" * 32
    )

    def read(data: bytes) -> None:
        (release / "privacy.json").write_bytes(data)
        sums = "".join(
            f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
            for p in release.glob("*.*")
            if p.suffix != ".txt"
        )
        (release / "SHA256SUMS").write_text(sums)
        report = verify(release)
        try:
            certified.check_certificate(book, release / "privacy.json")
        except SfumatoError:
            assert len(report.checks) >= 4
            raise

    return Target([text], read, seeds.spoilt_json)


def ledgers(place: Path) -> Target:
    from sfumato.privacy.ledger.runs import RunLedger
    from sfumato.runs import budget

    path = place / "book" / "ledger.sqlite"
    book = budget.open_ledger(path)
    prints = [bytes([i]) * 32 for i in range(30)]
    terms = {"unit": "record", "relation": "zero-out", "delta": 1e-3, "epsilon": 0.9}
    budget.set_cap(book, prints, 5.0)
    for run in ("a", "b"):
        RunLedger(book, run).append("PLAN", {})
        body = {"events": [{"type": "gaussian", "noise_multiplier": 6.0, "count": 1}], **terms}
        book.charge(run, book.identify(prints), body, lambda *_: 1.5)
    book.close()
    whole = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    fresh = place / "x"

    def read(data: bytes) -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name, content in whole.items():
            handle = os.open(fresh / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(handle, data if name == path.name else content)
            os.close(handle)
        opened = budget.existing_ledger(fresh / path.name)
        try:
            budget.standing(opened, prints)
            opened.groups()
        finally:
            opened.close()

    return Target([whole[path.name]], read)


KINDS: dict[str, Callable[[Path], Target]] = {
    "png": picture("PNG"),
    "jpeg": picture("JPEG"),
    "webp": picture("WEBP"),
    "bmp": picture("BMP"),
    "gif": picture("GIF"),
    "tiff": picture("TIFF"),
    "avif": picture("AVIF"),
    "heic": picture("HEIC"),
    "scan": scan,
    "csv": table("csv"),
    "jsonl": table("jsonl"),
    "parquet": records("parquet"),
    "zip": packed("zip"),
    "tar": packed("tar"),
    "arrow": packed("arrow"),
    "coco": packed("coco"),
    "npz": records("npz"),
    "idx": records("idx"),
    "safetensors": weights,
    "base": configs,
    "plan": plans,
    "privacy": certificates,
    "ledger": ledgers,
}
