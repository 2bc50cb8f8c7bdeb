"""Sweep over plans: whatever the charge pays for has to be certifiable, so every field of the
certificate is priced for each of them.

    python benchmarks/plan_sweep.py --plans 10000 --seed 1 --out benchmarks/results/plan-sweep.jsonl

A setting is drawn at random (units, epsilon, delta, batch, steps, relation, reserve, histogram,
probe, aggregation); every method and clipping that can run with it makes a plan. `sfumato plan`
would refuse some settings, for a reason that it says: these are counted. Of the others the whole
certificate is built and checked as `sfumato release` does. A plan that could be charged and not
released is a failure. Plans with the same events share prices.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from sfumato.errors import SfumatoError
from sfumato.planning.prepare import default_schedule
from sfumato.privacy import accounting, calibration, curves
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.plan import CLIPPINGS, Plan, make_plan
from sfumato.privacy.request import Request
from sfumato.releases import (
    CertificateFacts,
    LedgerFacts,
    certificate,
    consistency,
    prices,
    verify_privacy,
)
from sfumato.releases.trial import try_certificate

LOOP = ("attention", "full", "lora", "loda", "embedding")
UNITS = ("record", "person")


def settings(rng: np.random.Generator) -> dict:
    """What a user may ask of one data set, drawn log-uniformly; the default schedule and delta in
    one of three.
    """
    n = int(round(2 * (50_000) ** rng.random()))
    epsilon = float(f"{0.01 * 50_000 ** rng.random():.3g}")
    usual = default_schedule(n, epsilon)
    if rng.random() < 2 / 3:
        batch = n if rng.random() < 0.2 else max(1, round(n ** rng.random()))
        usual = {
            "expected_batch_size": batch,
            "steps": int(round(5_000 ** rng.random())),
            "noise_draws": 4,
        }
    delta = min(1e-5, n**-1.5) if rng.random() < 0.5 else float(10 ** -rng.uniform(2, 12))
    return {
        "n_units": n,
        "epsilon": epsilon,
        "delta": delta,
        **usual,
        "relation": "zero-out" if rng.random() < 0.7 else "replace-one",
        "retry_fraction": float(rng.choice([0.0, 0.0, 0.05, 0.3, 1.0])),
        "histogram_noise_multiplier": (
            None if rng.random() < 0.7 else float(f"{3 * 100 ** rng.random():.3g}")
        ),
        "allow_large_delta": True,
    }


def variants(setting: dict, rng: np.random.Generator) -> Iterator[dict]:
    """The arguments of `make_plan` for every unit, method and clipping that can run with a
    setting.
    """
    common = {
        "max_per_unit": 1,
        "classes": ("a", "b"),
        "prompts": ("a", "b"),
        "base": "b",
        "base_digest": "0",
        "trainable": 1000,
        "learning_rate": 1e-3,
    }
    groups, keep = tuple(f"m{i}" for i in range(16)), int(rng.integers(1, 15))
    votes = rng.random() < 0.5
    probe = Probe(
        groups, keep, "votes" if votes else "squares", keep if votes else None, None, False,
        float(min(4096, setting["n_units"])), 4, float(f"{3 * 100 ** rng.random():.3g}"),
    )  # fmt: skip
    for unit in UNITS:
        for clipping in CLIPPINGS:
            groups_of_clip = 6 if clipping.startswith("per-group") else None
            clip = {
                "clip_norm": None if clipping.endswith("normalised") else 0.05,
                "clipping": clipping,
            }
            for method in LOOP:
                yield {
                    **common,
                    **setting,
                    **clip,
                    "clip_groups": groups_of_clip,
                    "method": method,
                    "unit": unit,
                }
            probed = {
                "method": "saliency",
                "probe": probe,
                "unit": unit,
                "clip_groups": groups_of_clip,
            }
            yield {**common, **setting, **clip, **probed}
        batch = float(setting["n_units"] if rng.random() < 0.5 else setting["expected_batch_size"])
        for rule, clip_norm in (("clip", 0.2), ("unit", 1.0)):
            subspace = "none" if rule == "unit" else "vocabulary"
            yield {
                **common,
                **setting,
                "expected_batch_size": batch,
                "steps": 1,
                "retry_fraction": 0.0,
                "method": "inversion",
                "unit": unit,
                "clip_norm": clip_norm,
                "trainable": 32,
                "aggregation": Aggregation(
                    rule, 2, 16, 1, subspace, rule == "clip", (batch / 2, batch / 2)
                ),
            }


def share_prices() -> None:
    """Calibration, prices and the verifier's accountant are kept by what they are a function of:
    plans that share events share them.
    """
    calibration.calibrate = lru_cache(64)(calibration.calibrate)
    for module, names in (
        (accounting, ("epsilon_of", "rdp_epsilon")),
        (curves, ("curve", "attack_success")),
    ):
        for name in names:
            setattr(module, name, lru_cache(64)(getattr(module, name)))
    prices.record_groups = consistency.record_groups = lru_cache(64)(
        timed(prices.record_groups, "k_table")
    )
    certificate.prices_of = kept(timed(prices.prices_of, "all prices"))
    priced = timed(verify_privacy.price, "verifier")
    verify_privacy.price = kept(
        lambda facts, events: Priced(priced(facts, events)),
        lambda facts, events: (facts["relation"], facts["accountant"]["grid"], events),
    )


class Priced:
    """An accountant whose answers are kept."""

    def __init__(self, accountant):
        self.get_epsilon = lru_cache(None)(accountant.get_epsilon)
        several = lru_cache(None)(
            lambda given: accountant.get_delta(list(given) if isinstance(given, tuple) else given)
        )
        self.get_delta = lambda epsilon: several(
            tuple(epsilon) if isinstance(epsilon, list) else epsilon
        )


SECONDS: dict[str, float] = {}  # the most that one call took, by name


def timed(function: Callable, name: str) -> Callable:
    def call(*arguments, **named):
        started = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            SECONDS[name] = max(SECONDS.get(name, 0.0), time.process_time() - started)

    return call


def kept(
    function: Callable, key: Callable = lambda *arguments, **named: [arguments, named]
) -> Callable:
    """`function` with its last results kept, for arguments that are lists and dictionaries."""
    found: dict[str, object] = {}

    def call(*arguments, **named):
        name = json.dumps(key(*arguments, **named), sort_keys=True)
        if name not in found:
            if len(found) >= 8:
                del found[next(iter(found))]
            found[name] = function(*arguments, **named)
        return found[name]

    return call


def facts_of(plan: Plan) -> CertificateFacts:
    """What a run of this plan would have its certificate built from."""
    said = {
        "head": "0" * 64,
        "entries": 3,
        "attempts": 1,
        "replays": 0,
        "run": "00",
        "trained_by": ["0"],
    }
    selection = None
    if plan.probe is not None:
        scores = [0.0] * len(plan.probe.groups)
        selection = {
            "how": "private",
            "groups": list(plan.probe.groups),
            "scores": scores,
            "selected": list(plan.probe.best(scores)),
            "targets": [],
            "trainable": plan.trainable,
        }
    return CertificateFacts(
        plan=plan.to_json(),
        ledger=LedgerFacts(**said),
        run_key_id="0",
        code_version="0",
        selection=selection,
    )


def try_plan(arguments: dict) -> tuple[str, str]:
    """("released", left out), ("refused" before the charge, why) or ("failed" after it, why)."""
    try:
        plan = make_plan(Request(**arguments))
    except ValueError as error:
        return "refused", str(error)
    facts = facts_of(plan)
    try:
        try_certificate(facts)
    except SfumatoError as error:
        return "failed", str(error)
    return "released", "; ".join(certificate.build_privacy_json(facts).get("left_out", []))


def sweep(plans: int, seed: int, until: Callable[[], bool] = lambda: False) -> dict:
    """Settings of one generator until `plans` plans were made or refused; counts and reasons."""
    rng, outcomes, why, made, drawn = np.random.default_rng(seed), Counter(), Counter(), 0, 0
    while made < plans and not until():
        setting, drawn = settings(rng), drawn + 1
        for arguments in variants(setting, rng):
            outcome, reason = try_plan(arguments)
            made += 1
            outcomes[outcome] += 1
            why[f"{outcome}: {re.sub(r'[-+]?[0-9][0-9.,e+-]*', '#', reason)}"] += 1
            if outcome == "failed" and outcomes[outcome] <= 3:
                print(
                    json.dumps({"failed": reason, "arguments": arguments}, default=str),
                    file=sys.stderr,
                    flush=True,
                )
            if made == plans:
                break
    return {
        "plans": made,
        "settings": drawn,
        "seed": seed,
        **outcomes,
        "reasons": dict(why.most_common()),
        "slowest": SECONDS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop drawing settings then")
    parser.add_argument("--out", type=Path, help="a file of JSON lines, added to")
    given = parser.parse_args()
    share_prices()
    started, processor = time.monotonic(), time.process_time()
    found = sweep(given.plans, given.seed, lambda: time.monotonic() - started > 60 * given.minutes)
    found |= {
        "seconds": round(time.monotonic() - started),
        "cpu_seconds": round(time.process_time() - processor),
    }
    line = json.dumps(found)
    print(line)
    if given.out:
        with given.out.open("a", encoding="utf-8") as table:
            table.write(line + "\n")


if __name__ == "__main__":
    main()
