"""`privacy.json`: everything needed to price a release again; nothing is computed from a record."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.privacy import accounting
from sfumato.releases.audited import audit_facts
from sfumato.releases.facts import CertificateFacts, LedgerFacts
from sfumato.releases.figures import PAGES, RELATIONS
from sfumato.releases.mechanism import mechanism
from sfumato.releases.origins import (
    NO_MODEL,
    OF_NOTHING,
    base_in_words,
    public_in_words,
    public_inputs,
)
from sfumato.releases.prices import DELTA_FLOOR, GRID, prices_of
from sfumato.releases.statements import (
    KEY_KEPT,
    LATER,
    NOT_COMPARED,
    captions_facts,
    check_prompts,
    held_out_facts,
    looks_facts,
)

FORMAT = "sfumato-privacy/2"  # 1: without ledger.adaptive
SINCE = ("looks", "selections", "later_choices")  # as of the release, which asks the ledger again
LARGE_DELTA = "delta is not below 1/n"

OF_THE_BASE = (
    "The pictures the public base model was trained on: the guarantee is conditional on that base."
)
NOT_COVERED = (
    (
        "The raw images where they are kept, and side channels of the machine during training"
        " (timing, memory, power)."
    ),
    OF_THE_BASE,
    "A unit that also appears in another unit's images.",
    "Facts that hold for the population as a whole and would be learned without any single unit.",
    "The facts listed under public_facts, which the operator declared public.",
    (
        "Runs on the same images that are not listed under ledger: another ledger's, or on pictures"
        " that were cropped, resized or stored again with loss, which the ledger does not"
        " recognise."
    ),
)
# Of plans from before sums were made of integers.
FLOATING = "Floating-point attacks on the training noise: a real-arithmetic guarantee."

OTHER_IMAGES = (
    "Runs on other images of the same units that did not name the units by a column, or gave them"
    " other values: the ledger recognises a unit by its value (whatever its spelling) and by its"
    " images."
)
BY_PIXELS = (
    "Of {} of the runs under ledger.charges, recorded by an earlier version, the ledger knows the"
    " images by their pixels alone, neither by their files nor by their units."
)

NOT_PUBLIC = (
    "class counts",
    "the number of unreadable or left-out images",
    "which units were drawn, and how many in a step",
    "captions and file names",
    "losses and gradient norms",
    "figures of internal evaluations",
)

_LOCAL_PATH = re.compile(r"(?:^|[\s'\"=:])(?:/[^/\s]+){2,}|(?:^|\s)[A-Za-z]:\\|(?:^|\s)~/")


def build_privacy_json(
    facts: CertificateFacts, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The certificate without its list of files (`artefacts`, added when the release is written).

    Args:
        facts: What it is built from.
        settings: The public settings of synthesis; none for a model.

    Raises:
        SfumatoError: The plan's epsilon is not the price of its events, or a text names a path of
            this machine.
    """
    plan, ledger, settings = facts.plan, facts.ledger, dict(settings or {})
    events = [dict(event) for event in ledger.events or plan["events"]]
    relation, delta, unit = plan["relation"], float(plan["delta"]), plan["unit"]
    asked = {
        "events": events,
        "delta": delta,
        "relation": relation,
        "grid": float(plan.get("grid") or GRID),
    }
    prices = facts.prices
    if not prices or any(prices[name] != value for name, value in (asked | {"unit": unit}).items()):
        try:
            prices = prices_of(**asked, unit=unit)
        except ValueError as error:
            raise SfumatoError(f"the plan's events cannot be priced: {error}") from None
    epsilon = prices["epsilon"]
    if events == list(plan["events"]) and abs(epsilon - float(plan["epsilon"])) > 1e-3 + 1e-9:
        raise SfumatoError(
            f"the plan states epsilon {plan['epsilon']} but its events cost {epsilon}; make the"
            " plan again"
        )
    if epsilon < float(plan["epsilon"]) - 1e-3 - 1e-9:
        raise SfumatoError(
            "the ledger bills less than the plan; a release needs the ledger of its own run"
        )
    if plan.get("probe") and not facts.selection:
        raise SfumatoError(
            "the plan paid for a probe whose scores are not in the ledger; finish the run first"
        )
    if (
        settings.get("class_shares") == "noisy-histogram"
        and plan.get("histogram_noise_multiplier") is None
    ):
        raise SfumatoError(
            "class shares come from a histogram the plan did not pay for; declare them or plan"
            " with one"
        )
    nothing = str(plan.get("base")).startswith(OF_NOTHING)
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "statement": (
            f"({epsilon:g}, {delta:g})-differential privacy, unit of privacy: {unit}, relation:"
            f" {relation}."
        ),
        "relation": relation,
        "adjacency": {
            "dp_accounting": accounting.RELATIONS[relation].name,
            "means": RELATIONS[relation],
        },
        "unit": unit,
        "delta": delta,
        "epsilon": epsilon,
        "accountant": {
            "name": "dp_accounting PLD",
            "version": version("dp-accounting"),
            "grid": asked["grid"],
            "discretisation": "connect-the-dots, pessimistic (errs upward)",
            "second": prices["second"],
        },
        "events": events,
        "event_tree": event_tree(events),
        "mu": {"value": prices["mu"], "delta_floor": DELTA_FLOOR},
        "attack_success": prices["attack_success"],
        "max_per_unit": plan.get("max_per_unit", 1),
        "public_facts": {
            **_public_facts(plan, settings, facts.selection),
            **({"token_starts": dict(facts.token_starts)} if facts.token_starts else {}),
            "public_inputs": public_inputs(facts.public_inputs),
            **held_out_facts(facts.held_out),
        },
        "mechanism": mechanism(plan, events),
        "synthesis": settings,
        "not_public": list(NOT_PUBLIC),
        "ledger": (
            _ledger(ledger, facts.run_key_id, events, epsilon) | {"key_kept": facts.key_kept}
        ),
        "looks": facts.looks or looks_facts(0),
        "selections": list(facts.selections),
        "figures_on": list(PAGES),
        "tuning": (
            facts.tuning
            or (
                "No search over settings on the private data is recorded in this run's ledger; "
                "runs outside it are not covered."
            )
        )
        + (f" {facts.timed}" if facts.timed else ""),
        "not_private": {
            "internal_evaluations": list(facts.not_private),
            "opt_ins": _opt_ins(facts),
        },
        "audit": audit_facts(
            facts.audit,
            (facts.code_version, *(ledger.trained_by or ())),
            facts.audits_failed,
        ),
        "conditions": {
            "trust_model": (
                "central: one operator holds the data and runs the mechanism; whoever reads the"
                " release may know every other unit and have unlimited computing power"
            ),
            "base": _base_name(facts.base or plan.get("base")),
            "base_digest": facts.base_digest or plan.get("base_digest"),
            "base_licence": facts.base_licence,
            "base_data": facts.base_data or (NO_MODEL if nothing else base_in_words(facts.lineage)),
            "lineage": [dict(ancestor) for ancestor in facts.lineage],
            "not_covered": [
                *(s for s in not_covered(unit) if not (nothing and s == OF_THE_BASE)),
                *(
                    []
                    if any(plan.get(name) for name in ("rounding", "aggregation", "voting"))
                    else [FLOATING]
                ),
                *_unknown(ledger),
                *public_in_words(facts.public_inputs),
                *facts.not_covered,
            ],
        },
        "code_version": facts.code_version,
        "verify": "python verify_privacy.py",
        "curve": prices["curve"],
    }
    if settings.get("prompts_file") and not check_prompts(certificate):
        raise SfumatoError(
            "the settings state another time of the prompts than the plan: synthesize again"
        )
    if facts.selection:
        certificate["selection"] = facts.selection
    if facts.base_vote:
        certificate["base_vote"] = dict(facts.base_vote)
    if facts.afterwards:
        certificate["post_processing"] = {"statement": facts.afterwards}
    if facts.stopped:
        certificate["stopped"] = dict(facts.stopped)
    for name in ("k_table", "left_out"):
        if prices[name]:
            certificate[name] = prices[name]
    _refuse_paths(
        {
            k: certificate[k]
            for k in (
                *("conditions", "code_version", "synthesis", "not_private", "tuning"),
                *(["base_vote"] if facts.base_vote else []),
                "mechanism",
            )
        }
    )
    return certificate


def certificate_digest(certificate: dict[str, Any]) -> str:
    """SHA-256 over a certificate as it was drafted.

    Without its files, the note of `finalise`, and what is asked anew.
    """
    kept = {name: value for name, value in certificate.items() if name not in ("artefacts", *SINCE)}
    private = certificate["not_private"]
    kept["not_private"] = {
        **private,
        "opt_ins": [words for words in private["opt_ins"] if words != NOT_COMPARED],
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, allow_nan=False).encode()).hexdigest()


def release_digest(certificate: dict[str, Any]) -> str:
    """SHA-256 over a finished certificate."""
    return hashlib.sha256(
        json.dumps(certificate, sort_keys=True, allow_nan=False).encode()
    ).hexdigest()


def event_tree(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The events as dp_accounting nests them: composed, self-composed, Poisson-sampled."""
    leaves = []
    for event in events:
        leaf = {k: v for k, v in event.items() if k in ("noise_multiplier", "epsilon")}
        leaf = {"event": "Laplace" if event["type"] == "laplace" else "Gaussian", **leaf}
        if event["type"] == "poisson_gaussian":
            leaf = {
                "event": "PoissonSampled",
                "sampling_probability": event["sampling_rate"],
                "of": leaf,
            }
        leaves.append(
            {
                "event": "SelfComposed",
                "count": event.get("steps", event.get("count", 1)),
                "of": leaf,
            }
        )
    return {"event": "Composed", "of": leaves}


def _ledger(
    ledger: LedgerFacts, run_key_id: str, events: list[dict[str, Any]], epsilon: float
) -> dict[str, Any]:
    """The run's rows and all charges on its images; without a shared ledger, the run's own."""
    alone = {"run": ledger.run, "epsilon": epsilon, "events": events}
    return {
        "head": ledger.head,
        "entries": ledger.entries,
        "attempts": ledger.attempts,
        "replays": ledger.replays,
        "run": ledger.run,
        "trained_by": ledger.trained_by,
        "run_key_id": run_key_id,
        "charges": list(ledger.charges) or [alone],
        "total_epsilon": ledger.total_epsilon if ledger.charges else epsilon,
        "adaptive": ledger.adaptive,
        "no_total": ledger.no_total,
        "cap": ledger.cap,
        "data_sets": ledger.data_sets,
        "resets": list(ledger.resets),
        "file_systems": list(ledger.file_systems),
    }


def _unknown(ledger: LedgerFacts) -> list[str]:
    """What the ledger does not know of the charges on these images."""
    reason, old = ledger.no_total, ledger.known_by_pixels
    said = (
        [f"What all runs under ledger.charges cost together: no total is stated, for {reason}."]
        if reason
        else []
    )
    return said + ([BY_PIXELS.format(old)] if old else [])


def not_covered(unit: str) -> list[str]:
    """What a claim for this unit does not cover."""
    return [*NOT_COVERED, *([] if unit == "record" else [OTHER_IMAGES]), LATER]


def _public_facts(
    plan: Mapping[str, Any], settings: Mapping[str, Any], selection: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The facts of privacy.json that the operator declares public.

    n counts slots or units, not files that decode.
    """
    facts = {
        k: plan.get(k)
        for k in (
            "n_units",
            "classes",
            "prompts",
            "trainable",
            "target_modules",
            "rank",
            "learning_rate",
            "warmup_steps",
            "ema_decay",
        )
    }
    if plan.get("probe"):
        # The plan names the candidates and the most that could train; the release says what did.
        assert selection is not None
        facts |= {"target_modules": selection["targets"], "trainable": selection["trainable"]}
    if settings.get("sizes"):
        facts["sizes"] = settings["sizes"]
    if plan.get("prompts_file"):
        facts["prompts_file"] = plan["prompts_file"]
    return {
        **facts,
        **captions_facts(plan.get("captions")),
        "resolution": settings.get("resolution"),
        "class_shares": settings.get("class_shares", "uniform"),
        "n_units_counts": (
            ("slots of the data set" if plan["unit"] == "record" else "values of the unit column")
            + ", usable or not"
        ),
        "overlap": (
            "which earlier runs of this ledger used some of the same images or units, and whether"
            " they agree on what a unit is (ledger.charges)"
        ),
    }


def _opt_ins(facts: CertificateFacts) -> list[str]:
    plan = facts.plan
    opt_ins = [*(plan.get("opt_ins") or ()), *facts.opt_ins]
    opt_ins += [KEY_KEPT] * facts.key_kept
    if plan.get("n_units") and plan["delta"] >= 1 / plan["n_units"]:
        opt_ins.append(LARGE_DELTA)
    return opt_ins


def _base_name(base: str | None) -> str | None:
    """The last part of a path; hub names and bundled names as they are."""
    if base and (_LOCAL_PATH.search(base) or base.startswith((".", "/", "~")) or "\\" in base):
        return re.split(r"[/\\]", base.rstrip("/\\"))[-1]
    return base


def _refuse_paths(value: Any) -> None:
    if isinstance(value, str) and _LOCAL_PATH.search(value):
        raise SfumatoError(
            "a text for privacy.json names a path of this machine; name the base or condition"
            " without it"
        )
    for inner in (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, (list, tuple))
        else ()
    ):
        _refuse_paths(inner)
