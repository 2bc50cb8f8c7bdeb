"""A private run folder: plan, key, cache, checkpoints and the adapted model; and its rows in the
owner's ledger.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import safetensors.torch

from ..compute import device, ranks
from ..compute import fingerprint as machine
from ..errors import LedgerFault, MachineError, SfumatoError
from ..privacy import events as dp_events
from ..privacy.ledger.datasets import inherited_charges
from ..privacy.ledger.faults import LedgerError
from ..privacy.ledger.ledger import Group, Ledger, RunLedger
from ..privacy.ledger.public import PublicInput
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..releases import certificate_digest, drafted_files, files_digest
from ..training import write_file
from . import budget

START = "start.safetensors"
AUDIT = "audit.json"
PRICES = "prices.json"
PRIVATE_NOTE = """PRIVATE

This folder was computed from private images. It holds the secret run key, checkpoints, cached
latents and
internal evaluations. Nothing in it may leave, except through `sfumato synthesize` and `sfumato
release`.
"""


def code_version() -> str:
    """Package version and a hash over its source files."""
    root = Path(__file__).parents[1]
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
    return {
        name: version(name)
        for name in (
            "torch",
            "diffusers",
            "transformers",
            "peft",
            "numpy",
            "cryptography",
            "Pillow",
        )
    }


def lineage_in_words(ancestors: Sequence[dict], group: Group) -> list[dict]:
    """Ancestors as the certificate names them; `counted`: whether the total of `group` holds their
    cost.
    """
    counted = {charge["run"] for charge in group.charges}
    said = (
        "run",
        "owner",
        "through",
        "epsilon",
        "delta",
        "unit",
        "relation",
        "head",
        "draft",
        "certificate",
    )
    return [
        {name: a[name] for name in said if a.get(name) is not None}
        | {"counted": a["run"] in counted}
        for a in ancestors
    ]


@dataclass(frozen=True)
class Run:
    """An adaptation on disk. `options` is what `adapt` was called with, as far as resuming and
    synthesis need it.

    `id` names the run in the ledger at `ledger_path`; `key_id` names its key, which may be erased
    already.
    """

    folder: Path
    plan: Plan
    options: dict
    id: str
    key_id: str
    ledger_path: Path

    @classmethod
    def create(
        cls, folder: Path, plan: Plan, options: dict, ledger: Ledger, start: dict | None = None
    ) -> Run:
        """Make the folder with its key and public start, if any, and the PLAN row; SfumatoError if
        it exists. All or nothing.
        """
        if folder.exists():
            raise SfumatoError(
                f"{folder} exists: name a new run folder, or continue it with --resume"
            )
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            temporary.mkdir(parents=True, mode=0o700)
            write_file(temporary / "PRIVATE", PRIVATE_NOTE.encode())
            write_file(temporary / "plan.json", json.dumps(plan.to_json(), indent=1).encode())
            write_file(temporary / "options.json", json.dumps(options, indent=1).encode())
            if start:
                write_file(temporary / START, safetensors.torch.save(start))
            key = RunKey.generate()
            key.save(temporary / "run.key")
            known = {"id": os.urandom(8).hex(), "key_id": key.id, "ledger": str(ledger.path)}
            write_file(temporary / "run.json", json.dumps(known, indent=1).encode())
            facts = {
                "digest": plan.digest,
                "epsilon": plan.epsilon,
                "delta": plan.delta,
                "key_id": key.id,
            }
            RunLedger(ledger, known["id"], temporary).append(
                "PLAN", facts | {"options": options_digest(options)}
            )
            temporary.rename(folder)
            ledger.chain.watch(known["id"], folder)
        except OSError as error:
            raise MachineError(f"cannot make the run folder {folder}: {error.strerror}") from error
        except ValueError as error:
            raise budget.in_words(error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder, plan, options, known["id"], known["key_id"], ledger.path)

    @classmethod
    def open(cls, folder: str | Path, ledger: str | Path | None = None) -> Run:
        """An existing run; SfumatoError if the folder is none, its plan does not parse, or its
        ledger does not know it.

        `ledger`: where the owner's ledger is now, if it was moved since.
        """
        folder = Path(folder)
        if not (folder / "plan.json").is_file():
            raise SfumatoError(
                f"{folder} is not a run folder: make one with `sfumato adapt ... -o {folder}`"
            )
        try:
            plan = Plan.from_json(json.loads((folder / "plan.json").read_text("utf-8")))
            options = json.loads((folder / "options.json").read_text("utf-8"))
            known = json.loads((folder / "run.json").read_text("utf-8"))
            if not isinstance(options, dict) or not all(
                isinstance(known[k], str) for k in ("id", "key_id", "ledger")
            ):
                raise ValueError
            run = cls(
                folder,
                plan,
                options,
                known["id"],
                known["key_id"],
                Path(ledger or known["ledger"]).absolute(),
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SfumatoError(
                f"{folder} holds a plan that does not read: the run folder was altered"
            ) from error
        run._require_plan()
        return run

    def __getstate__(self) -> dict:
        """The fields alone: another rank gets neither the key nor the open ledger from this one."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _require_plan(self) -> None:
        if not self.ledger_path.exists():
            raise LedgerFault(
                f"the ledger {self.ledger_path} of this run is gone: put it back, or say --ledger"
                " PATH"
            )
        planned = self.ledger.bodies("PLAN")
        if not planned:
            raise LedgerFault(
                f"the ledger does not know the run {self.folder}: it is another one, or an older"
                " copy"
            )
        known = (planned[-1]["digest"], planned[-1]["options"], planned[-1]["key_id"])
        if known != (self.plan.digest, options_digest(self.options), self.key_id):
            raise LedgerFault(
                f"{self.folder}: plan.json and options.json are not those that the ledger knows:"
                " put them back"
            )

    @cached_property
    def key(self) -> RunKey:
        """The secret run key."""
        try:
            return RunKey.load(self.folder / "run.key")
        except ValueError as error:
            raise SfumatoError(str(error)) from error

    @cached_property
    def ledger(self) -> RunLedger:
        """The run's rows in the owner's ledger, whose chain was verified when it was opened, and
        compared with the folder's note.
        """
        try:
            return RunLedger(budget.open_ledger(self.ledger_path), self.id, self.folder)
        except LedgerError as error:
            raise budget.in_words(error) from error

    @property
    def selection(self) -> dict | None:
        """The choice of matrices with its (noisy) scores, in the words of privacy.json; None before
        or without one.
        """
        noted = self.ledger.bodies("PROBE")
        if noted and self.plan.probe is not None:
            facts = {
                name: noted[-1][name] for name in ("selected", "scores", "targets", "trainable")
            }
            return {"how": "private", "groups": list(self.plan.probe.groups), **facts}
        return self.options.get("selection")

    @property
    def selected(self) -> tuple[str, ...] | None:
        """What the plan's own probe has chosen; None before it has, or without a probe."""
        return (
            tuple(self.selection["selected"])
            if self.plan.probe is not None and self.selection
            else None
        )

    @property
    def start(self) -> dict:
        """Public rows that the adapters began with, by module (`start.safetensors`); SfumatoError
        if they were altered.
        """
        if not self.options.get("start"):
            return {}
        try:
            blob = (self.folder / START).read_bytes()
        except OSError as error:
            raise SfumatoError(
                f"{START} of the run cannot be read ({error.strerror}): put it back"
            ) from error
        if hashlib.sha256(blob).hexdigest() != self.options["start"]:
            raise SfumatoError(f"{START} of the run was altered: put the original back")
        return safetensors.torch.load(blob)

    @property
    def audit(self) -> dict | None:
        """The record of `sfumato audit` on this run, as the ledger knows it; None without one;
        SfumatoError if it was altered.
        """
        noted = [note["audit"] for note in self.ledger.bodies("NOTE") if "audit" in note]
        if not noted:
            return None
        try:
            blob = (self.folder / AUDIT).read_bytes()
        except OSError as error:
            raise SfumatoError(
                f"{AUDIT} of the run cannot be read ({error.strerror}): audit the run again"
            ) from error
        if hashlib.sha256(blob).hexdigest() != noted[-1]:
            raise SfumatoError(
                f"{AUDIT} of the run is not the one that the ledger knows: audit the run again"
            )
        return json.loads(blob)

    @property
    def model(self) -> Path:
        """Folder of the adapted model; SfumatoError if training has not ended."""
        if not (self.folder / "model").is_dir():
            raise SfumatoError(
                f"{self.folder} is not finished: continue it with `sfumato adapt ... -o"
                f" {self.folder} --resume`"
            )
        return self.folder / "model"

    def ledger_facts(self, records=None, ancestors: Sequence[dict] = ()) -> dict:
        """What the certificate says of the ledger, in the words of privacy.json; before the charge,
        with `records`, what it will say.
        """
        ledger, group = (
            self.ledger,
            (self.group() if records is None else self.group_with(records, ancestors)),
        )
        total = budget.cost(group) if len(group.charges) > 1 else self.plan.epsilon
        return {
            "head": ledger.ledger.head,
            "entries": len(ledger.ledger.rows),
            "attempts": ledger.attempts,
            "replays": len(ledger.bodies("REPLAY")),
            "trained_by": sorted(
                {body["fingerprint"]["code"] for body in ledger.bodies("ATTEMPT")}
            ),
            "events": ledger.charged_events() or dp_events.to_json(self.plan.events),
            "run": self.id,
            "charges": [
                {name: charge[name] for name in ("run", "epsilon", "events")}
                for charge in group.charges
            ],
            "total_epsilon": total if math.isfinite(total) else None,
            "no_total": group.unclear,
            # Charged before the ledger kept files and units: of those runs it knows pictures by
            # their pixels alone.
            "known_by_pixels": sum(
                "listing" not in charge and "ancestor" not in charge for charge in group.charges
            ),
            "cap": group.cap,
            "data_sets": len(group.datasets),
            "resets": ledger.ledger.resets,
            "file_systems": ledger.ledger.file_systems,
        }

    @property
    def lineage(self) -> list[dict]:
        """The runs that base and public images come from, as the certificate names them; none
        before the charge.
        """
        charges = self.ledger.bodies("CHARGE")
        return lineage_in_words(charges[0].get("lineage", []), self.group()) if charges else []

    def group(self) -> Group:
        """The data sets that share images with this run's, and what was spent on them."""
        try:
            return self.ledger.group()
        except ValueError as error:
            raise budget.in_words(error) from error

    def group_with(self, records, ancestors: Sequence[dict] = ()) -> Group:
        """The group that a charge on these records, with these ancestors, would make, with that
        charge in it.
        """
        book = self.ledger.ledger
        try:
            manifest = book.identify(records.fingerprints, **records.marks)
            known = book.group(manifest)
        except ValueError as error:
            raise budget.in_words(error) from error
        own = {"run": self.id, "listing": manifest.listing, **self._cost()} | (
            {"lineage": list(ancestors)} if ancestors else {}
        )
        charges = (*known.charges, own, *inherited_charges([own]))
        return replace(
            known,
            datasets=known.datasets | {manifest.id},
            charges=charges,
            adaptive=known.adaptive or known.released or bool(ancestors),
            unclear=book.datasets.unclear(charges, manifest),
        )

    def _cost(self) -> dict:
        plan = self.plan
        terms = {
            name: getattr(plan, name)
            for name in ("unit", "relation", "delta", "epsilon", "max_per_unit")
        }
        return {"events": dp_events.to_json(plan.events), **terms}

    def data_digest(self, records) -> str:
        """Keyed identity of the private records."""
        return records.digest(self.key.stream("select", 0, 0, "manifest").words(4).tobytes())

    @cached_property
    def fingerprint(self) -> dict:
        """Code, versions, ways and machine under which a replay gives the same bytes. A difference
        would be a second output under the noise of the first, so it is a new attempt, which is
        paid.
        """
        how = self.options["performance"]
        return {
            "code": code_version(),
            "versions": dependency_versions(),
            "precision": how["precision"],
            "engine": how["engine"],
            "micro_batch": how.get("micro_batch"),
            "strategies": self.options.get("strategies"),
            "threads": device.threads(how.get("threads")),
            "world_size": ranks.world_size(),
            "machines": ranks.machines(),
            **machine.numerics(),
        }

    def record(self, kind: str, body: dict) -> None:
        """One more ledger row, durable on return; SfumatoError if the disk does not take it."""
        try:
            self.ledger.append(kind, body)
        except ValueError as error:
            raise budget.in_words(error) from error

    def charge(
        self, records, public: Sequence[PublicInput] = (), ancestors: Sequence[dict] = ()
    ) -> None:
        """Write the whole planned cost, durably, before private pixels are read for training; with
        what was taken as public.

        `ancestors`: runs that base and public images come from (`provenance.trace_base`).
        SfumatoError, and nothing is charged, where it would break the cap on these images, or where
        some of them were public before.
        """
        ledger = self.ledger.ledger
        body = {
            **self._cost(),
            "plan": self.plan.digest,
            "data": self.data_digest(records),
            **self._priced(),
        }
        body |= {"lineage": list(ancestors)} if ancestors else {}
        captions = ledger.public.caption_keys(
            getattr(records, "captions", None) or (), self.plan.classes
        )
        try:
            images = ledger.identify(records.fingerprints, **records.marks)
            ledger.charge(self.id, images, body, budget.price, public=public, captions=captions)
        except ValueError as error:
            raise budget.in_words(error) from error

    def _priced(self) -> dict:
        """The hash of the certificate's prices, where they were kept (`preflight`)."""
        place = self.folder / PRICES
        return {"prices": hashlib.sha256(place.read_bytes()).hexdigest()} if place.exists() else {}

    def certify(self, draft: Path, keep_key: bool) -> None:
        """Note the certificate that was just written, and erase the run key: whoever has it can
        take the noise off again.

        A finished run needs no key any more. Erasing is best effort on disks that keep old blocks.
        """
        blob = draft.read_bytes()
        body = {"draft": hashlib.sha256(blob).hexdigest(), "key_kept": keep_key}
        # A release holds the certificate and the files, and no draft: what is compared with it
        # later.
        body |= {"certificate": certificate_digest(json.loads(blob)["certificate"])}
        self.record("CERTIFY", body | {"files": files_digest(drafted_files(draft.parent))})
        if not keep_key:
            try:
                RunKey.erase(self.folder / "run.key")
            except OSError as error:
                raise MachineError(
                    f"the run key could not be erased ({error.strerror}): remove"
                    f" {self.folder / 'run.key'} yourself"
                ) from error

    def require_charge(self) -> None:
        """SfumatoError unless the ledger was charged with exactly what the plan is about to
        spend.
        """
        if self.ledger.charged_events() != dp_events.to_json(self.plan.events):
            raise LedgerFault(
                f"{self.folder}: the ledger was not charged with this plan: adapt into a new folder"
            )

    def begin(
        self, records, attempt: int, *, from_step: int = 0, billed: int = 0, seen: int | None = None
    ) -> str:
        """The ATTEMPT row of a fresh start; returns the salt of its draws (see
        `RunKey.for_attempt`).

        `seen`: how many rows of the run `billed` follows from; LedgerFault where there are more by
        now.
        """
        body = {
            "from_step": from_step,
            "billed": billed,
            "salt": RunKey.fresh_salt(),
            "data": self.data_digest(records),
            "fingerprint": self.fingerprint,
        }
        try:
            self.ledger.begin(body, expected=attempt, reserve=self.plan.retry_steps, seen=seen)
        except ValueError as error:
            raise budget.in_words(error) from error
        return body["salt"]
