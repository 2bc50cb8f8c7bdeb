"""What a certificate is built from: the plan, what the ledger knows, and further statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.privacy.ledger.entries import TakenAsPublic


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """What the owner's ledger knows of a run and of all that was charged on its images.

    Attributes:
        head: Hash of the newest row, hex.
        entries: Number of rows.
        attempts: Starts of training.
        replays: Free continuations.
        run: Name of the run; None for a run without a shared ledger.
        trained_by: Code versions of the attempts.
        events: All events charged for the run, as `events.to_json`; empty: those of the plan.
        charges: (run, epsilon, events) of all runs on overlapping images; empty: this run alone.
        total_epsilon: What the charges cost together; None: not bounded, or cannot be stated.
        adaptive: Whether a later run was charged after an earlier one had an output, so that the
            total is not below the Renyi accountant's.
        no_total: Why no total can be stated, in words.
        known_by_pixels: How many of the charges an earlier version recorded by pixels alone.
        cap: The owner's cap on these images.
        data_sets: How many data sets share images with the run's.
        resets: Older copies that were accepted.
        file_systems: Where the ledger lay that is not known to be a local disk.
    """

    head: str
    entries: int
    attempts: int
    replays: int
    run: str | None = None
    trained_by: Sequence[str] | None = None
    events: Sequence[Mapping[str, Any]] = ()
    charges: Sequence[Mapping[str, Any]] = ()
    total_epsilon: float | None = None
    adaptive: bool = False
    no_total: str | None = None
    known_by_pixels: int = 0
    cap: float | None = None
    data_sets: int = 1
    resets: Sequence[Mapping[str, Any]] = ()
    file_systems: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """Everything in a certificate but the settings of synthesis and the list of files.

    Built in one place (`runs.facts.certificate_facts`), before the charge and after the run alike.

    Attributes:
        plan: `Plan.to_json()`.
        ledger: What the ledger knows.
        run_key_id: Names the run key without telling it.
        code_version: Version and hash of the code that writes the certificate.
        prices: Those of `prices_of` made before the charge; used where they are of these events.
        base: Name or path of the public base; None: the plan's. Likewise `base_digest`.
        base_licence: Licence of the base.
        base_data: What the base was trained on, in words; None: follows from `lineage`.
        lineage: Runs that base and public images come from.
        public_inputs: What the run took as public.
        selection: Which matrices were chosen to train, and how.
        token_starts: Token -> the public words that it started from, of those that have some.
        looks: `statements.looks_facts`; None: no look.
        selections: Choices among runs by noisy accuracies.
        not_private: Names of exact evaluations that stay with the owner.
        opt_ins: What the operator allowed by name.
        tuning: How settings were chosen, in words.
        timed: How the schedule was, if it was solved for a time.
        not_covered: More sentences on what the guarantee does not cover.
        held_out: The share of units that a split had set apart before the run; None without one.
        key_kept: Whether the run key outlives the certificate.
        audit: The record of an audit of the run.
        audits_failed: How many audits did not pass.
        afterwards: What was made of the answer at no cost, in words.
        base_vote: `statements.base_vote_facts` of a run whose base private images chose.
        stopped: `statements.stopped_facts` of a run that its owner ended early.
    """

    plan: Mapping[str, Any]
    ledger: LedgerFacts
    run_key_id: str
    code_version: str
    prices: Mapping[str, Any] | None = None
    base: str | None = None
    base_digest: str | None = None
    base_licence: str | None = None
    base_data: str | None = None
    lineage: Sequence[Mapping[str, Any]] = ()
    public_inputs: Sequence[TakenAsPublic] = ()
    selection: Mapping[str, Any] | None = None
    token_starts: Mapping[str, str] = field(default_factory=dict[str, str])
    looks: Mapping[str, Any] | None = None
    selections: Sequence[Mapping[str, Any]] = ()
    not_private: Sequence[str] = ()
    opt_ins: Sequence[str] = ()
    tuning: str | None = None
    timed: str | None = None
    not_covered: Sequence[str] = ()
    held_out: float | None = None
    key_kept: bool = False
    audit: Mapping[str, Any] | None = None
    audits_failed: int = 0
    stopped: Mapping[str, Any] | None = None
    base_vote: Mapping[str, Any] | None = None
    afterwards: str | None = None
