"""The list of checks on dummy models, by name, and how they are run one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..options.progress import Counted
from . import (
    canaries,
    conduct,
    doors,
    embeddings,
    large,
    methods,
    moments,
    noise,
    oneshot,
    parity,
    people,
    replay,
    sampling,
    taint,
    voting,
)
from .finding import Finding
from .models import FAMILIES
from .subject import dummy_subject, key_of

CLIPPINGS = ("flat", "normalised", "per-group", "per-group-normalised")
# Every family and every clipping at least once: for a first answer within seconds.
FEW = (
    ("linear", "flat"),
    ("attention", "per-group"),
    ("reused", "normalised"),
    ("broadcast", "flat"),
    ("convolution", "per-group"),
    ("low-rank", "per-group-normalised"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of an audit.

    Attributes:
        seed: Of all dummy data and keys.
        alpha: How often correct code fails a check.
        quick: Fewer models.
        more: Further random neighbours for each model of M1.
    """

    seed: int = 0
    alpha: float = 1e-6
    quick: bool = False
    more: int = 0


Check = Callable[[Settings], Iterator[Finding]]


def _models(now: Settings) -> Iterable[tuple[str, str]]:
    return FEW if now.quick else [(family, kind) for kind in CLIPPINGS for family in FAMILIES]


def m1(now: Settings) -> Iterator[Finding]:
    """No unit moves the sum by more than its bound, and only by its own clipped gradient.

    Paired replay on neighbours.
    """
    for family, kind in _models(now):
        yield replay.sensitivity(dummy_subject(family, kind), now.seed, more=now.more)
    for mechanism in _queries():
        yield oneshot.neighbours(mechanism, now.seed)


def _queries() -> list[oneshot.OneShot]:
    """Every query beside training, on dummy data."""
    rooms = (oneshot, embeddings, voting, moments)
    return [query for room in rooms for query in room.mechanisms()]


def m2(now: Settings) -> Iterator[Finding]:
    """The engine's norms and sums are those of one-at-a-time autograd, however it computes them."""
    yield parity.cancelling(now.seed)
    for family, kind in (
        FEW if now.quick else [(f, k) for k in ("flat", "per-group") for f in FAMILIES]
    ):
        yield parity.norms(dummy_subject(family, kind), now.seed)


def m3(now: Settings) -> Iterator[Finding]:
    """What a step changes is what was noised, and all of it."""
    for family, kind in (
        FEW
        if now.quick
        else [(f, "flat") for f in FAMILIES] + [("linear", k) for k in CLIPPINGS[1:]]
    ):
        yield conduct.changed_set(dummy_subject(family, kind), now.seed)


def m4(now: Settings) -> Iterator[Finding]:
    """Empty, single and broken batches are noised once, counted and leave no other trace."""
    for kind in CLIPPINGS[:2] if now.quick else CLIPPINGS:
        yield conduct.course(dummy_subject("linear", kind), now.seed, now.alpha)


def m6(now: Settings) -> Iterator[Finding]:
    """Microbatches change time and memory only."""
    for family, kind in _models(now):
        yield replay.micro_batches(dummy_subject(family, kind), now.seed)


def m8(now: Settings) -> Iterator[Finding]:
    """One unit among 65,536 moves the sum of integers by its bound at most, for every strategy."""
    for family, kind, gone in (
        ("attention", "per-group", large.GONE[1:]),
        ("convolution", "flat", large.GONE),
    ):
        for way in parity.STRATEGIES[1:] if now.quick else parity.STRATEGIES:
            yield large.integer_sums(dummy_subject(family, kind), now.seed, way, gone)


def a(now: Settings) -> Iterator[Finding]:
    """Noise has the declared size and shape in every tensor."""
    for kind in CLIPPINGS:
        yield noise.size_and_shape(dummy_subject("wide", kind), now.seed, now.alpha)


def a2(now: Settings) -> Iterator[Finding]:
    """Noise and draws depend on the run key alone, and are independent of each other.

    Over steps, tensors, attempts and keys.
    """
    yield noise.independence(dummy_subject("wide"), now.seed, now.alpha)
    yield noise.independence(dummy_subject("attention", "per-group"), now.seed, now.alpha)
    yield sampling.keyed(now.seed)


def b(now: Settings) -> Iterator[Finding]:
    """Units are drawn at the plan's rate."""
    for what, declared, found in _draws(now.seed, now.quick):
        yield sampling.rate(found, declared, what, now.alpha)


def b2(now: Settings) -> Iterator[Finding]:
    """Batch sizes vary as Poisson draws do: not fixed, not capped, not redrawn."""
    for what, declared, found in _draws(now.seed, now.quick):
        yield sampling.sizes(found, declared, what, now.alpha)


def b3(now: Settings) -> Iterator[Finding]:
    """Draws are independent over steps and units, duplicates included: nothing is shuffled."""
    for what, declared, found in _draws(now.seed, now.quick):
        yield sampling.dependence(found[:, :1000], declared, what, now.alpha, now.seed)
    yield sampling.duplicates(key_of(now.seed, "duplicates"), 200, 0.5, 60, now.alpha)


def h(now: Settings) -> Iterator[Finding]:
    """One-shot queries: noise of the declared size at sensitivities other than 1, on the grid."""
    for mechanism in _queries():
        yield oneshot.noise(mechanism, now.seed, now.alpha)


def e(now: Settings) -> Iterator[Finding]:
    """Canaries from image to optimiser show no more than planned.

    With a lower bound on epsilon as a reading.
    """
    for kind in CLIPPINGS[:1] if now.quick else CLIPPINGS[:3:2]:
        yield canaries.end_to_end(kind, now.seed, now.alpha)


def m_methods(now: Settings) -> Iterator[Finding]:
    """M1, M3 and M6 of every real method, on a dummy pipeline (needs diffusers)."""
    yield from methods.every_method(now.seed, now.quick)


def u(now: Settings) -> Iterator[Finding]:
    """Class lists and units: what one unit decides, and what several runs mean by a unit."""
    yield people.class_lists(now.seed)
    yield people.partitions(now.seed)


def m5(now: Settings) -> Iterator[Finding]:
    """Nothing that is published, constant or counted depends on one record.

    Whole runs on neighbours (needs diffusers).
    """
    yield taint.untouched(now.seed)


def m7(now: Settings) -> Iterator[Finding]:
    """Nothing private is accepted as public, and nothing public is ever charged.

    Private: what was charged, or made by a run (needs diffusers).
    """
    yield doors.closed(now.seed)


CHECKS: dict[str, Check] = {
    "M1": m1,
    "M2": m2,
    "M3": m3,
    "M4": m4,
    "M6": m6,
    "M8": m8,
    "A": a,
    "A2": a2,
    "B": b,
    "B2": b2,
    "B3": b3,
    "H": h,
    "E": e,
    "U": u,
    "METHODS": m_methods,
    "M5": m5,
    "M7": m7,
}


@lru_cache(maxsize=2)
def _draws(seed: int, quick: bool) -> list[tuple[str, float, np.ndarray]]:
    """(what, rate, who was drawn) of the sampler alone and of the loop, at two rates."""
    many, high = (2000, 150) if not quick else (1500, 60)
    return [
        (
            "sampler, q = 0.05",
            0.05,
            sampling.drawn_by_sampler(key_of(seed, "sampler"), 10_000, 0.05, many),
        ),
        # Three units a step on average: steps that a redraw of empty or large batches would change
        # are frequent here.
        (
            "sampler, few units",
            0.05,
            sampling.drawn_by_sampler(key_of(seed, "few"), 60, 0.05, 8000),
        ),
        ("loop, few units", 0.05, sampling.drawn_by_loop(key_of(seed, "few"), 30, 0.05, 600)),
        ("loop, q = 0.1", 0.1, sampling.drawn_by_loop(key_of(seed, "loop low"), 400, 0.1, 120)),
        (
            "loop, q = 0.9",
            0.9,
            sampling.drawn_by_loop(key_of(seed, "loop high"), 500 if not quick else 300, 0.9, high),
        ),
    ]


def run_checks(
    names: Iterable[str] | None = None,
    settings: Settings | None = None,
    *,
    checks: Mapping[str, Check] = CHECKS,
    stop: bool = False,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    on_stage: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """The findings of the named checks, in order.

    A check that raises has failed: the finding names the error. KeyError for an unknown name.

    Args:
        names: Default: all of `checks`.
        settings: Default: the usual ones.
        checks: Name -> check.
        stop: Stop after the first check that failed.
        on_finding: Called with each finding.
        on_stage: Called with how many checks are done.
    """
    now, found = settings or Settings(), []
    chosen = list(checks) if names is None else list(names)
    for done, name in enumerate(chosen):
        on_stage(Counted("checks", done, len(chosen)))
        for finding in _timed(name, checks[name], now):
            found.append(finding)
            on_finding(finding)
            if stop and not finding.passed:
                return found
    return found


def _timed(name: str, check: Check, now: Settings) -> Iterator[Finding]:
    started, findings = time.perf_counter(), None
    while True:
        try:
            findings = check(now) if findings is None else findings
            finding = next(findings, None)
        except Exception as error:
            # All data are dummy data, so the message may be shown; the check did not pass.
            detail = f"stopped with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            finding, findings = (
                Finding(name, "the code itself", False, 0, 0.0, "", detail),
                iter(()),
            )
        if finding is None:
            return
        yield replace(finding, seconds=time.perf_counter() - started)
        started = time.perf_counter()
