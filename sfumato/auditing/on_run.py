"""The audit of one run: its plan, its model, its sampler and its queries, on dummy latents.

Nothing private is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from ..compute.device import device_name
from ..errors import SfumatoError
from ..methods import METHODS
from ..privacy.ledger.notes import Audited
from ..privacy.plan import Plan
from ..runs.folder import AUDIT, Run, code_version, dependency_versions
from ..runs.matching import comparison_of
from ..runs.prepared import rebuild
from ..training import write_file
from . import (
    canaries,
    conduct,
    embeddings,
    methods,
    moments,
    noise,
    oneshot,
    parity,
    replay,
    report,
    sampling,
    voting,
)
from .checks import CHECKS, Check, Settings, run_checks
from .finding import Finding
from .subject import Subject, changed, dummy_subject, key_of

SKIPPED = (
    (
        "M5, M7, M8 and METHODS (other methods than the run's) are checked by `sfumato audit`"
        " without a run."
    ),
    (
        "The released weights alone were not attacked: canaries are watched at every step, which is"
        " more than a release shows."
    ),
)
MOST_BITS = 60_000_000  # inclusion bits drawn from the sampler


def audit_run(
    run: Run,
    settings: Settings | None = None,
    *,
    names: Iterable[str] | None = None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    on_stage: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Checks the run's mechanisms on dummy data.

    Writes `audit.json` into its folder and its hash into the ledger. Opens the plan, the options,
    the public base and the ledger: neither images, latents, checkpoints and weights nor the key.
    Raises SfumatoError if the folder is no run, or the base has changed.

    Args:
        run: The run.
        settings: Default: the usual ones.
        names: Which checks; default: all.
        on_finding: Called with each finding.
        on_stage: Called with how far the checks are.

    Returns:
        The record.
    """
    settings, checks = settings or Settings(), checks_of(run)
    chosen = list(checks) if names is None else list(names)
    absent = [name for name in chosen if name not in checks]
    if absent:
        raise SfumatoError(f"--only {absent[0]}: this run has the checks {', '.join(checks)}")
    findings = run_checks(chosen, settings, checks=checks, on_finding=on_finding, on_stage=on_stage)
    body = report.record(
        findings,
        settings,
        complete=set(chosen) == set(checks),
        plan=run.plan.digest,
        code_version=code_version(),
        versions=dependency_versions(),
        skipped=[*SKIPPED, f"Everything ran on {device_name()}; another device was not looked at."],
    )
    blob = json.dumps(body, indent=1, allow_nan=False).encode()
    write_file(run.folder / AUDIT, blob)
    run.record(Audited(audit=hashlib.sha256(blob).hexdigest(), passed=body["passed"]))
    return body


def checks_of(run: Run) -> dict[str, Check]:
    """The checks of this run's mechanisms, by name."""
    if run.plan.voting is not None:
        return of_votes(run)
    return of_steps(run) if METHODS[run.plan.method].takes_steps else of_aggregation(run)


def of_steps(run: Run) -> dict[str, Check]:
    """The checks of a run that trains in steps: its loop, model, sampler and queries."""
    exact, own = subjects(run)
    plan, queries = run.plan, one_shots(run)

    def m1(now: Settings) -> Iterator[Finding]:
        yield replay.sensitivity(exact, now.seed, units=4, more=now.more, brief=True)
        if not own.exact:
            yield replay.sensitivity(own, now.seed, units=4, brief=True)
        for query in queries:
            yield oneshot.neighbours(query, now.seed)

    @cache
    def sample(seed: int) -> list[tuple]:
        rate, units = plan.sampling_rate, plan.n_units
        steps = min(
            max(100, math.ceil(670_000 * (1 - rate) / rate / units)), max(100, MOST_BITS // units)
        )
        key = key_of(seed, "sampler of the run")
        return [
            (f"sampler, q = {rate:.4g}", rate, sampling.drawn_by_sampler(key, units, rate, steps)),
            ("loop, q = 0.9", 0.9, sampling.drawn_by_loop(key, 300, 0.9, 90)),
        ]

    def drawn(now: Settings) -> list[tuple]:
        # at rate 1 there is nothing random to look at
        return [row for row in sample(now.seed) if row[1] < 1]

    def a(now: Settings) -> Iterator[Finding]:
        first = noise.size_and_shape(
            exact.with_plan(noise_multiplier=plan.noise_multiplier), now.seed, now.alpha, units=3
        )
        yield first
        if not report.enough(first):
            wide = dummy_subject("wide", plan.clipping).with_plan(
                noise_multiplier=plan.noise_multiplier
            )
            yield noise.size_and_shape(wide, now.seed, now.alpha)

    def b(now: Settings) -> Iterator[Finding]:
        for what, rate, found in sample(now.seed):
            yield sampling.rate(found, rate, what, now.alpha)

    def b2(now: Settings) -> Iterator[Finding]:
        for what, rate, found in drawn(now):
            yield sampling.sizes(found, rate, what, now.alpha)

    def b3(now: Settings) -> Iterator[Finding]:
        for what, rate, found in drawn(now):
            yield sampling.dependence(found[:4000, :1000], rate, what, now.alpha, now.seed)
        yield sampling.duplicates(key_of(now.seed, "duplicates"), 200, 0.5, 60, now.alpha)

    def h(now: Settings) -> Iterator[Finding]:
        for query in queries:
            yield oneshot.noise(query, now.seed, now.alpha)

    checks = {
        "M1": m1,
        "M2": lambda now: iter([parity.norms(exact, now.seed, units=2)]),
        "M3": lambda now: iter([conduct.changed_set(own, now.seed, units=3)]),
        "M4": lambda now: iter([conduct.course(own, now.seed, now.alpha, steps=4)]),
        "M6": lambda now: iter([replay.micro_batches(exact, now.seed, units=5)]),
        "A": a,
        "A2": lambda now: iter(
            [noise.independence(own, now.seed, now.alpha), sampling.keyed(now.seed)]
        ),
        "B": b,
        "B2": b2,
        "B3": b3,
        "H": h,
        "E": lambda now: iter(
            [canaries.end_to_end(plan.clipping, now.seed, now.alpha, min(plan.noise_draws, 4))]
        ),
    }
    return {name: checks[name] for name in CHECKS if name in checks and (name != "H" or queries)}


def of_aggregation(run: Run) -> dict[str, Check]:
    """The checks of a run without a loop.

    Its sum of embeddings, with its own inverter, bound, noise and sample.
    """
    plan, queries = run.plan, one_shots(run)
    prepared = rebuild(plan, run.options, None, run.start)

    def m1(now: Settings) -> Iterator[Finding]:
        yield embeddings.isolation(prepared)
        for query in (*queries, embeddings.inversion(prepared)):
            yield oneshot.neighbours(query, now.seed)

    def b(now: Settings) -> Iterator[Finding]:
        rate, units = plan.sampling_rate, plan.n_units
        steps = max(100, math.ceil(100_000 / units))
        found = sampling.drawn_by_sampler(
            key_of(now.seed, "sampler of the run"), units, rate, steps
        )
        yield sampling.rate(found, rate, f"sampler, q = {rate:.4g}", now.alpha)

    def h(now: Settings) -> Iterator[Finding]:
        for query in queries:
            yield oneshot.noise(query, now.seed, now.alpha)

    return {"M1": m1} | ({"B": b} if plan.sampling_rate < 1 else {}) | {"H": h}


def of_votes(run: Run) -> dict[str, Check]:
    """The checks of a run of votes: its feature space, bound and noise."""
    plan, queries = run.plan, one_shots(run)
    prepared = rebuild(plan, run.options, None, run.start)
    base, space = prepared.base, prepared.adaptation.space

    def m1(now: Settings) -> Iterator[Finding]:
        yield voting.isolation(base, space)
        asked = plan.voting
        assert asked is not None
        own = voting.rounds(base, space, asked.votes, plan.noise_multiplier)
        for query in (*queries, own):
            yield oneshot.neighbours(query, now.seed)

    def h(now: Settings) -> Iterator[Finding]:
        for query in queries:
            yield oneshot.noise(query, now.seed, now.alpha)

    return {"M1": m1, "H": h}


def subjects(run: Run) -> tuple[Subject, Subject]:
    """The run's method on its base: in single precision, and in the run's own.

    Nothing of what it has learnt is in them.
    """
    prepared = rebuild(run.plan, run.options, run.selected, run.start)
    adaptation, base = prepared.adaptation, prepared.base
    methods.wake(adaptation)
    groups = {} if run.plan.clip_groups is None else {"clip_groups": len(adaptation.clip_groups)}
    plan = changed(run.plan, steps=1000, noise_multiplier=0.01, **groups)
    shape = base.latent_shape
    performance = replace(prepared.performance, micro_batch=2)
    name = f"{run.plan.method}, {run.plan.clipping}"
    format_of = base.formats.names["train"]
    single = replace(adaptation, row_losses=adaptation.exact_losses)
    own = Subject(
        f"{name}, {format_of}",
        plan,
        adaptation,
        shape,
        prepared.recipe,
        performance,
        False,
    )
    if format_of == "float32":
        own = replace(own, exact=True)
    exact = replace(own, name=f"{name}, float32", adaptation=single, exact=True)
    return exact, own


def one_shots(run: Run) -> list[oneshot.OneShot]:
    """The one-shot queries of the run's plan, with their own noise multipliers and bounds."""
    plan = run.plan
    return [ask(plan) for name, ask in QUERIES.items() if getattr(plan, name) is not None]


def _probe(plan: Plan) -> oneshot.OneShot:
    asked = plan.probe
    assert asked is not None and asked.noise_multiplier is not None
    votes = None if asked.votes is None else min(asked.votes, oneshot.MATRICES - 1)
    return oneshot.probe(
        asked.score, votes=votes, clip_norm=asked.clip_norm, sigma=asked.noise_multiplier
    )


def _aggregation(plan: Plan) -> oneshot.OneShot:
    asked = plan.aggregation
    assert asked is not None
    return embeddings.aggregation(asked.rule, plan.clip_norm, plan.noise_multiplier)


def _votes(plan: Plan) -> oneshot.OneShot:
    asked = plan.voting
    assert asked is not None
    return voting.votes(min(asked.votes, voting.OF_CLASS - 1), plan.noise_multiplier)


def _base_vote(plan: Plan) -> oneshot.OneShot:
    asked = plan.base_vote
    assert asked is not None and asked.noise_multiplier is not None
    by = comparison_of(asked.features, asked.rule)
    return voting.base_votes(asked.noise_multiplier, by)


def _histogram(plan: Plan) -> oneshot.OneShot:
    sigma = plan.histogram_noise_multiplier
    assert sigma is not None
    return oneshot.histogram(plan.max_per_unit, sigma)


def _moments(plan: Plan) -> oneshot.OneShot:
    asked = plan.moments
    assert asked is not None and asked.noise_multiplier is not None
    return moments.sums(asked.rounds - 1, asked.noise_multiplier)


# a plan's field -> the query that is paid for where it is set
QUERIES: dict[str, Callable[[Plan], oneshot.OneShot]] = {
    "aggregation": _aggregation,
    "base_vote": _base_vote,
    "histogram_noise_multiplier": _histogram,
    "moments": _moments,
    "probe": _probe,
    "voting": _votes,
}
