"""A private run folder: plan, key, ledger, cache, checkpoints and the adapted model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import safetensors.torch

from .errors import SfumatoError
from .privacy import events as dp_events
from .privacy.keys import RunKey
from .privacy.ledger import RunLedger
from .privacy.plan import Plan
from .training import write_file

START = "start.safetensors"
PRIVATE_NOTE = """PRIVATE

This folder was computed from private images. It holds the secret run key, checkpoints, cached latents and
internal evaluations. Nothing in it may leave, except through `sfumato synthesize` and `sfumato release`.
"""


def code_version() -> str:
    """Package version and a hash over its source files."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    try:
        number = version("sfumato")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{digest.hexdigest()[:12]}"


def options_digest(options: dict) -> str:
    """SHA-256 over the canonical JSON form of a run's options."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def dependency_versions() -> dict[str, str]:
    """Versions that must be equal for a replay to give the same numbers."""
    return {name: version(name) for name in ("torch", "diffusers", "transformers", "peft", "numpy", "cryptography")}


@dataclass(frozen=True)
class Run:
    """An adaptation on disk. `options` is what `adapt` was called with, as far as resuming and synthesis need it."""

    folder: Path
    plan: Plan
    options: dict

    @classmethod
    def create(cls, folder: Path, plan: Plan, options: dict, start: dict | None = None) -> Run:
        """Make the folder with its key, ledger and public start, if any; SfumatoError if it exists. All or nothing."""
        if folder.exists():
            raise SfumatoError(f"{folder} exists: name a new run folder, or continue it with --resume")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            temporary.mkdir(parents=True, mode=0o700)
            write_file(temporary / "PRIVATE", PRIVATE_NOTE.encode())
            write_file(temporary / "plan.json", json.dumps(plan.to_json(), indent=1).encode())
            write_file(temporary / "options.json", json.dumps(options, indent=1).encode())
            if start:
                write_file(temporary / START, safetensors.torch.save(start))
            RunKey.generate().save(temporary / "run.key")
            ledger = RunLedger(temporary / "ledger.jsonl")
            facts = {"digest": plan.digest, "epsilon": plan.epsilon, "delta": plan.delta}
            ledger.append("PLAN", facts | {"options": options_digest(options)})
            temporary.rename(folder)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SfumatoError(f"cannot make the run folder {folder}: {reason}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder, plan, options)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """An existing run; SfumatoError if the folder is none or its plan does not parse."""
        folder = Path(folder)
        if not (folder / "plan.json").is_file():
            raise SfumatoError(f"{folder} is not a run folder: make one with `sfumato adapt ... -o {folder}`")
        try:
            plan = Plan.from_json(json.loads((folder / "plan.json").read_text()))
            options = json.loads((folder / "options.json").read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SfumatoError(f"{folder} holds a plan that does not read: the run folder was altered") from error
        run = cls(folder, plan, options)
        planned = run.ledger.bodies("PLAN")
        if not planned or (planned[-1]["digest"], planned[-1]["options"]) != (plan.digest, options_digest(options)):
            raise SfumatoError(
                f"{folder}: plan.json and options.json are not those that the ledger knows: put them back"
            )
        return run

    @cached_property
    def key(self) -> RunKey:
        """The secret run key."""
        try:
            return RunKey.load(self.folder / "run.key")
        except ValueError as error:
            raise SfumatoError(str(error)) from error

    @property
    def ledger(self) -> RunLedger:
        """The run's ledger, its chain verified anew."""
        try:
            return RunLedger(self.folder / "ledger.jsonl")
        except ValueError as error:
            raise SfumatoError(f"the ledger of {self.folder}: {error}") from error

    @property
    def selection(self) -> dict | None:
        """The choice of matrices with its (noisy) scores, in the words of privacy.json; None before or without one."""
        noted = self.ledger.bodies("PROBE")
        if noted and self.plan.probe is not None:
            facts = {name: noted[-1][name] for name in ("selected", "scores", "targets", "trainable")}
            return {"how": "private", "groups": list(self.plan.probe.groups), **facts}
        return self.options.get("selection")

    @property
    def selected(self) -> tuple[str, ...] | None:
        """What the plan's own probe has chosen; None before it has, or without a probe."""
        return tuple(self.selection["selected"]) if self.plan.probe is not None and self.selection else None

    @property
    def start(self) -> dict:
        """Public rows that the adapters began with, by module (`start.safetensors`); SfumatoError if they were altered."""
        if not self.options.get("start"):
            return {}
        try:
            blob = (self.folder / START).read_bytes()
        except OSError as error:
            raise SfumatoError(f"{START} of the run cannot be read ({error.strerror}): put it back") from error
        if hashlib.sha256(blob).hexdigest() != self.options["start"]:
            raise SfumatoError(f"{START} of the run was altered: put the original back")
        return safetensors.torch.load(blob)

    @property
    def model(self) -> Path:
        """Folder of the adapted model; SfumatoError if training has not ended."""
        if not (self.folder / "model").is_dir():
            raise SfumatoError(
                f"{self.folder} is not finished: continue it with `sfumato adapt ... -o {self.folder} --resume`"
            )
        return self.folder / "model"

    def ledger_facts(self) -> dict:
        """What the certificate says of the ledger, in the words of privacy.json."""
        ledger = self.ledger
        return {
            "head": ledger.head,
            "entries": len(ledger.rows),
            "attempts": ledger.attempts,
            "replays": len(ledger.bodies("REPLAY")),
            "events": ledger.charged_events(),
        }

    def data_digest(self, records) -> str:
        """Keyed identity of the private records."""
        return records.digest(self.key.stream("select", 0, 0, "manifest").words(4).tobytes())

    @cached_property
    def fingerprint(self) -> dict:
        """Code, versions and numerics under which a replay gives the same bytes."""
        return {
            "code": code_version(),
            "versions": dependency_versions(),
            "precision": self.options["performance"]["precision"],
            "engine": self.options["performance"]["engine"],
        }

    def record(self, kind: str, body: dict) -> None:
        """One more ledger row, durable on return; SfumatoError if the disk does not take it."""
        try:
            self.ledger.append(kind, body)
        except ValueError as error:
            raise SfumatoError(f"the ledger of {self.folder}: {error}") from error

    def charge(self) -> None:
        """Write the whole planned cost, durably, before private pixels are read for training."""
        self.record("CHARGE", {"events": dp_events.to_json(self.plan.events), "delta": self.plan.delta})

    def require_charge(self) -> None:
        """SfumatoError unless the ledger was charged with exactly what the plan is about to spend."""
        if self.ledger.charged_events() != dp_events.to_json(self.plan.events):
            raise SfumatoError(f"{self.folder}: the ledger was not charged with this plan: adapt into a new folder")
