"""A private run folder: plan, key, cache, checkpoints and the adapted model.

And its rows in the owner's ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch

from ..compute import fingerprint as machine
from ..compute import ranks, threads
from ..errors import LedgerFault, MachineError, SfumatoError
from ..privacy import events as dp_events
from ..privacy.ledger.datasets import Group
from ..privacy.ledger.entries import (
    Attempt,
    Certified,
    Charge,
    Entry,
    Planned,
    Probed,
)
from ..privacy.ledger.faults import LedgerError
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.notes import Audited, Matched, MomentsMade
from ..privacy.ledger.public import PublicInput
from ..privacy.ledger.runs import RunLedger
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..releases import certificate_digest, drafted_files, files_digest
from ..training import write_file
from . import budget

START = "start.safetensors"
CANDIDATE = "candidate-{}"  # what a run that chooses its base would go on with, by number
AUDIT = "audit.json"
PRICES = "prices.json"
PRIVATE_NOTE = """PRIVATE

This folder was computed from private images. It holds the secret run key, checkpoints, cached
latents and
internal evaluations. Nothing in it may leave, except through `sfumato synthesize` and `sfumato
release`.
"""


@cache
def code_version() -> str:
    """Package version and a hash over its source files, as they were when it was first asked."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    try:
        number = version("sfumato")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{digest.hexdigest()[:12]}"


def options_digest(options: dict[str, Any]) -> str:
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


@dataclass(frozen=True)
class Run:
    """An adaptation on disk.

    `options` is what `adapt` was called with, as far as resuming and synthesis need it.

    `id` names the run in the ledger at `ledger_path`; `key_id` names its key, which may be erased
    already. `candidate`: of a run that has chosen its base, the number of the plan that it follows,
    and `begun_with` the options that the ledger knows it by.
    """

    folder: Path
    plan: Plan
    options: dict[str, Any]
    id: str
    key_id: str
    ledger_path: Path
    candidate: int | None = None
    begun_with: dict[str, Any] | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        plan: Plan,
        options: dict[str, Any],
        ledger: Ledger,
        start: dict[str, Any] | None = None,
        private: Mapping[str, bytes] | None = None,
    ) -> Run:
        """Makes the folder with its key and public start, if any, and the PLAN row. All or nothing.

        `private`: more files that stay in it (`reading.to_remember`).
        SfumatoError if the folder exists.
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
            for name, content in (private or {}).items():
                write_file(temporary / name, content)
            key = RunKey.generate()
            key.save(temporary / "run.key")
            known = {"id": os.urandom(8).hex(), "key_id": key.id, "ledger": str(ledger.path)}
            write_file(temporary / "run.json", json.dumps(known, indent=1).encode())
            planned = Planned(
                digest=plan.digest,
                epsilon=plan.epsilon,
                delta=plan.delta,
                key_id=key.id,
                options=options_digest(options),
            )
            RunLedger(ledger, known["id"], temporary).enter(planned)
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
        """An existing run.

        SfumatoError if the folder is none, its plan does not parse, or its ledger does not know it.
        `ledger`: the owner's ledger, if it was moved since.
        """
        folder = Path(folder)
        if not (folder / "plan.json").is_file():
            raise SfumatoError(
                f"{folder} is not a run folder: name the one that `sfumato adapt ... -o` made"
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
        noted = run.ledger.entries(Matched) if run.undecided else []
        return run.decided(noted[-1].chosen) if noted else run

    @property
    def undecided(self) -> bool:
        """Whether the private images are still to choose the base."""
        return self.plan.base_vote is not None and self.candidate is None

    def decided(self, number: int | None) -> Run:
        """The same run with the plan and the options of one of its candidates.

        Args:
            number: Of the candidate, as the plan's vote counts them.

        Raises:
            SfumatoError: Its files are not those that were charged for.
        """
        try:
            assert number is not None
            digests = self.options["choice"]["candidates"][number]
            body = json.loads((self.folder / f"{CANDIDATE.format(number)}.json").read_text("utf-8"))
            plan, options = Plan.from_json(body["plan"]), body["options"]
            if [plan.digest, options_digest(options)] != digests or plan.events != self.plan.events:
                raise ValueError
        except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
            raise SfumatoError(
                f"{self.folder} does not hold the plan of the base that was chosen: put its"
                " candidate files back"
            ) from error
        made = replace(self, plan=plan, options=options, candidate=number, begun_with=self.options)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k in ("ledger", "key")})
        return made

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: another rank gets neither the key nor the open ledger from this one."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _require_plan(self) -> None:
        if not self.ledger_path.exists():
            raise LedgerFault(
                f"the ledger {self.ledger_path} of this run is gone: put it back, or say --ledger"
                " PATH"
            )
        planned = self.ledger.entries(Planned)
        if not planned:
            raise LedgerFault(
                f"the ledger does not know the run {self.folder}: it is another one, or an older"
                " copy"
            )
        last = planned[-1]
        own = (self.plan.digest, options_digest(self.options), self.key_id)
        if (last.digest, last.options, last.key_id) != own:
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
        """The run's rows in the owner's ledger.

        Its chain was verified when it was opened, and compared with the folder's note.
        """
        try:
            return RunLedger(budget.open_ledger(self.ledger_path), self.id, self.folder)
        except LedgerError as error:
            raise budget.in_words(error) from error

    @property
    def selection(self) -> dict[str, Any] | None:
        """The choice of matrices with its (noisy) scores, as in privacy.json; None without one."""
        noted = self.ledger.entries(Probed)
        probe = self.plan.probe
        if noted:
            assert probe is not None  # whose scores they are
            return {
                "how": "private",
                "groups": list(probe.groups),
                "selected": noted[-1].selected,
                "scores": noted[-1].scores,
                "targets": noted[-1].targets,
                "trainable": noted[-1].trainable,
            }
        return self.options.get("selection")

    @property
    def selected(self) -> tuple[str, ...] | None:
        """What the plan's own probe has chosen; None before it has, or without a probe."""
        noted = self.ledger.entries(Probed)
        return tuple(noted[-1].selected) if noted else None

    @property
    def moments(self) -> str | None:
        """Hash of the noisy class moments, as the ledger knows it; None before, or without."""
        noted = self.ledger.entries(MomentsMade)
        return noted[-1].moments if noted else None

    @property
    def start(self) -> dict[str, Any]:
        """The adapters' public initial rows, by module (`start.safetensors`).

        SfumatoError if they were altered.
        """
        if not self.options.get("start"):
            return {}
        name = START if self.candidate is None else f"{CANDIDATE.format(self.candidate)}-{START}"
        try:
            blob = (self.folder / name).read_bytes()
        except OSError as error:
            raise SfumatoError(
                f"{name} of the run cannot be read ({error.strerror}): put it back"
            ) from error
        if hashlib.sha256(blob).hexdigest() != self.options["start"]:
            raise SfumatoError(f"{name} of the run was altered: put the original back")
        return safetensors.torch.load(blob)

    @property
    def audit(self) -> dict[str, Any] | None:
        """The record of `sfumato audit` on this run, as the ledger knows it; None without one.

        SfumatoError if it was altered.
        """
        noted = [audited.audit for audited in self.ledger.entries(Audited)]
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

    def group(self) -> Group:
        """The data sets that share images with this run's, and what was spent on them."""
        try:
            return self.ledger.group()
        except ValueError as error:
            raise budget.in_words(error) from error

    def cost(self) -> dict[str, Any]:
        """What the whole planned run costs, and in which terms."""
        plan = self.plan
        terms = {
            name: getattr(plan, name)
            for name in ("unit", "relation", "delta", "epsilon", "max_per_unit")
        }
        return {"events": dp_events.to_json(plan.events), **terms}

    def data_digest(self, records, as_before: bool = False) -> str:
        """Keyed identity of the private records; see `RecordSet.digest`."""
        key = self.key.stream("select", 0, 0, "manifest").words(4).tobytes()
        return records.digest(key, as_before)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Code, versions, ways and machine under which a replay gives the same bytes.

        A difference would be a second output under the noise of the first, so it is a new attempt,
        which is paid.
        """
        kept = self.begun_with or self.options  # those of the candidates are pinned by these
        how = kept["performance"]
        return {
            "code": code_version(),
            "versions": dependency_versions(),
            # runs of before had one for all that they learnt
            "precision": kept.get("formats", how["precision"]),
            "engine": how["engine"],
            "micro_batch": how.get("micro_batch"),
            "strategies": kept.get("strategies"),
            "threads": threads.threads(how.get("threads")),
            "world_size": ranks.world_size(),
            "machines": ranks.machines(),
            **machine.numerics(),
        }

    def record(self, entry: Entry) -> None:
        """One more ledger row, durable on return; SfumatoError if the disk does not take it."""
        try:
            self.ledger.enter(entry)
        except ValueError as error:
            raise budget.in_words(error) from error

    def charge(
        self, records, public: Sequence[PublicInput] = (), ancestors: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Charges the whole planned cost, durably, before private pixels are read for training.

        With what was taken as public. `ancestors`: runs that base and public images come from
        (`provenance.trace_base`). SfumatoError, and nothing is charged, if it would break the cap
        on these images, or if some of them were public before.
        """
        ledger = self.ledger.ledger
        asked = Charge(
            **self.cost(),
            plan=self.plan.digest,
            data=self.data_digest(records),
            prices=self._priced(),
            lineage=list(ancestors) or None,
        )
        captions = ledger.public.caption_keys(
            getattr(records, "captions", None) or (), self.plan.classes
        )
        try:
            images = ledger.identify(records.fingerprints, **records.marks)
            ledger.charge(
                self.id, images, asked.to_body(), budget.price, public=public, captions=captions
            )
        except ValueError as error:
            raise budget.in_words(error) from error

    def _priced(self) -> str | None:
        """The hash of the certificate's prices, where they were kept (`preflight`)."""
        place = self.folder / PRICES
        return hashlib.sha256(place.read_bytes()).hexdigest() if place.exists() else None

    def certify(self, draft: Path, keep_key: bool) -> None:
        """Notes the certificate that was just written, and erases the run key.

        Whoever has the key can remove the noise, and a finished run does not need it any more.
        Erasing is best effort on disks that keep old blocks.
        """
        blob = draft.read_bytes()
        # A release holds the certificate and the files, and no draft: what is compared with it
        # later.
        certified = Certified(
            draft=hashlib.sha256(blob).hexdigest(),
            key_kept=keep_key,
            certificate=certificate_digest(json.loads(blob)["certificate"]),
            files=files_digest(drafted_files(draft.parent)),
            outputs=True,
        )
        self.record(certified)
        if not keep_key:
            try:
                RunKey.erase(self.folder / "run.key")
            except OSError as error:
                raise MachineError(
                    f"the run key could not be erased ({error.strerror}): remove"
                    f" {self.folder / 'run.key'} yourself"
                ) from error

    def require_charge(self) -> None:
        """SfumatoError unless the ledger was charged with exactly what the plan will spend."""
        if self.ledger.charged_events() != dp_events.to_json(self.plan.events):
            raise LedgerFault(
                f"{self.folder}: the ledger was not charged with this plan: adapt into a new folder"
            )

    def begin(
        self, records, attempt: int, *, from_step: int = 0, billed: int = 0, seen: int | None = None
    ) -> str:
        """Appends the ATTEMPT row of a fresh start and returns the salt of its draws.

        LedgerFault if the run has more rows than `seen` by now.

        Args:
            records: The private images.
            attempt: The attempt's number.
            from_step: Where it begins.
            billed: Steps paid from the retry reserve.
            seen: The number of the run's rows from which `billed` follows.
        """
        begun = Attempt(
            from_step=from_step,
            billed=billed,
            salt=RunKey.fresh_salt(),
            data=self.data_digest(records),
            fingerprint=self.fingerprint,
        )
        try:
            self.ledger.begin(
                begun.to_body(), expected=attempt, reserve=self.plan.retry_steps, seen=seen
            )
        except ValueError as error:
            raise budget.in_words(error) from error
        return begun.salt
