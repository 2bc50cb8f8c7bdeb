"""The mechanism, for `privacy.json`: sampler, clip, sensitivity, noise, divisor and queries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.privacy.clipping import equal_shares
from sfumato.privacy.mechanisms import histogram as votes
from sfumato.privacy.mechanisms.base_vote import LIKELIEST, NEAREST
from sfumato.privacy.mechanisms.mean import GRID
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.releases.moments import take_moments

CLIPPING = {
    "flat": (
        "each unit's gradient over all trainable tensors together is scaled down to norm clip_norm"
    ),
    "normalised": (
        "each unit's gradient over all trainable tensors together is divided by its norm plus a"
        " constant"
    ),
    "per-group": (
        "each unit's gradient is scaled down to norm clip_norm_per_group in each of clip_groups"
        " groups of tensors"
    ),
    "per-group-normalised": (
        "each unit's gradient is divided by its norm plus a constant in each of clip_groups groups"
        " of tensors and multiplied by clip_norm_per_group"
    ),
}

ROUNDING = (
    "each unit's clipped gradient, or each micro-batch's product, is rounded to whole numbers of"
    " step; sums and noise are integers; one unit moves them by at most bound = ceil(clip_bound (1"
    " + slack) / step), and the noise is noise_multiplier times that"
)
RANDOM_SOURCE = (
    "ChaCha20 keyed by HMAC-SHA256 from a 256-bit secret of the operating system; no public seed"
    " reaches it"
)
PROBE_SCORES = {
    "votes": (
        "each unit names the candidates with its largest gradient norms; bounded by the root of"
        " their number"
    ),
    "squares": (
        "each unit's squared gradient norms over all candidates, scaled or clipped to the bound"
        " together"
    ),
}


def mechanism(plan: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    """The mechanism, in the terms of the loop contract.

    Rate and noise must equal those of the events.
    """
    if plan.get("base_vote"):
        query, events = _take_vote(plan, events)
        rest = {name: value for name, value in plan.items() if name != "base_vote"}
        found = mechanism(rest, events)
        grid = found["arithmetic"] | {"one_shot": "grid"}
        return found | {"arithmetic": grid, "one_shot": [*found["one_shot"], query]}
    if plan.get("aggregation"):
        return aggregated(plan, events)
    if plan.get("voting"):
        return voted(plan, events)
    histogram, (probe, events) = plan.get("histogram_noise_multiplier"), _take_probe(plan, events)
    moments, events = take_moments(plan, events)
    once = [query for query in (probe, moments) if query is not None]
    for event in events:
        if event["type"] != "poisson_gaussian":
            noise = event.get("noise_multiplier", event.get("epsilon"))
            name = "label histogram" if noise == histogram else "one-shot query"
            once += [{"name": name, "type": event["type"], "noise": noise}] * int(
                event.get("count", 1)
            )
    sensitivity = 1.0 if plan["clipping"].endswith("normalised") else plan["clip_norm"]
    groups, share = plan.get("clip_groups"), None
    if groups:
        share, *rest = equal_shares(sensitivity, groups)
        sensitivity = math.hypot(share, *rest)
    steps, sigma, clip_bound = plan.get("steps"), plan.get("noise_multiplier"), sensitivity
    rounding = plan.get("rounding")  # None: a plan from before sums were integers
    if rounding:
        sensitivity = rounding["bound"] * rounding["step"]
    return {
        "method": plan["method"],
        "sampler": (
            "Poisson: every unit is drawn independently in every step, by the secret run key"
        ),
        "sampling_rate": plan.get("sampling_rate"),
        "expected_batch_size": plan.get("expected_batch_size"),
        "steps": steps,
        "billed_steps": sum(e["steps"] for e in events if e["type"] == "poisson_gaussian"),
        "draws_per_record": plan.get("noise_draws"),
        "draws": (
            "the K draws of a unit are averaged into one gradient before it is clipped"
            + (" once" if not groups else ", group by group")
        ),
        "clip_norm": plan.get("clip_norm"),
        "clipping": plan["clipping"],
        "clipping_rule": CLIPPING.get(plan["clipping"], plan["clipping"]),
        "gamma": plan.get("gamma"),
        "clip_groups": groups,
        "clip_norm_per_group": share,
        "clip_bound": clip_bound,
        "sensitivity": sensitivity,
        **({"rounding": {**rounding, "in_words": ROUNDING}} if rounding else {}),
        "noise_multiplier": sigma,
        "noise_stddev": None if sigma is None else sigma * sensitivity,
        "noise_placement": "once per step on the sum of clipped gradients, before it is divided",
        "divisor": "the expected batch size, a public constant; never the number drawn",
        "micro_batching": "cut by drawn slots alone; another size is another attempt",
        "dtype": {
            "norms": "float32 in short runs, added in float64",
            "noise": "integers" if rounding else "float32",
        },
        "random_source": RANDOM_SOURCE,
        "arithmetic": {
            "training": "integers" if rounding else "real-arithmetic guarantee",
            "one_shot": "grid" if once else None,
        },
        "one_shot": once,
    }


# of training, which an aggregation and votes do not have
UNUSED = (
    "sampling_rate",
    "expected_batch_size",
    "steps",
    "gamma",
    "clip_groups",
    "clip_norm_per_group",
    "noise_stddev",
)
VOTES = (
    "each image names the candidates of its class that are nearest in a public feature space; a"
    " unit's counts over all candidates are scaled to norm 1 together"
)
BASE_VOTE_RULES = {
    NEAREST: (
        "each image names the base whose public picture is nearest in a public feature space; a"
        " unit's counts over all bases are scaled to norm 1 together"
    ),
    LIKELIEST: (
        "each image names the base whose public pictures, as a Gaussian in a public feature space,"
        " make it likeliest; a unit's counts over all bases are scaled to norm 1 together"
    ),
}
AGGREGATION_RULES = {
    "clip": (
        "each unit adds its residual from a public anchor, in public axes, scaled down to norm"
        " clip_norm"
    ),
    "unit": "each unit adds its embedding scaled to norm 1",
}


def aggregated(plan: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    """The same for one noisy sum of embeddings: nothing trains, and the whole cost is one-shot."""
    own, sigma, rate = plan["aggregation"], plan["noise_multiplier"], plan["sampling_rate"]
    kind = "gaussian" if rate == 1 else "poisson_gaussian"
    main = {"type": kind, "noise_multiplier": sigma}
    main |= {"count": 1} if rate == 1 else {"sampling_rate": rate, "steps": 1}
    if main not in events:
        raise SfumatoError(
            "the plan has an aggregation that its events do not pay for; make the plan again"
        )
    rest = [event for i, event in enumerate(events) if i != events.index(main)]
    query = {
        "name": "embedding aggregation",
        "type": kind,
        "noise": sigma,
        "sampling_rate": rate,
        "sampler": "all units" if rate == 1 else "Poisson, one sample",
        "rule": own["rule"],
        "rule_in_words": AGGREGATION_RULES[own["rule"]],
        "sensitivity": plan["clip_norm"],
        "noise_stddev": math.ceil(sigma * GRID) / GRID * plan["clip_norm"],
        "grid": (
            f"clip_norm / {GRID}: a unit's vector is rounded towards zero and its norm checked in"
            " integers; the noise is discrete Gaussian, its variance 4 squared grid units above"
            " the billed one: the cost of integers, as priced"
        ),
        "divisors": own["divisors"],
        "blocks": own["blocks"],
        "dimensions": own["dimensions"],
        "subspace": own["subspace"],
        "shrink": own["shrink"],
    }
    return {
        "method": plan["method"],
        "sampler": query["sampler"],
        **dict.fromkeys(UNUSED),
        "billed_steps": 0,
        "draws_per_record": plan["noise_draws"],
        "draws": (
            "each image is inverted alone, with randomness of its own; a unit's images are averaged"
            " before the bound"
        ),
        "clip_norm": plan["clip_norm"],
        "clipping": plan["clipping"],
        "clipping_rule": query["rule_in_words"],
        "sensitivity": plan["clip_norm"],
        "noise_multiplier": sigma,
        "noise_placement": "once on the sum of the units' vectors, before it is divided",
        "divisor": "public constants; never a number of images found",
        "micro_batching": "changes time and memory only",
        "dtype": {"vectors": "float64, then integers", "noise": "integers"},
        "random_source": RANDOM_SOURCE,
        "arithmetic": {"training": None, "one_shot": "grid"},
        "one_shot": [query, *_histograms(rest)],
    }


def voted(plan: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    """The same for rounds of votes: nothing trains, and every round is a query of all units."""
    own, sigma, rounds = plan["voting"], plan["noise_multiplier"], plan["steps"]
    billed = rounds + plan["retry_steps"]
    main = {"type": "gaussian", "noise_multiplier": sigma, "count": billed}
    if main not in events:
        raise SfumatoError("the plan has votes that its events do not pay for; make the plan again")
    rest = [event for i, event in enumerate(events) if i != events.index(main)]
    query = {
        "name": "vote histogram",
        "type": "gaussian",
        "noise": sigma,
        "count": billed,
        "rounds": rounds,
        "sampling_rate": 1.0,
        "sampler": "all units, in every round",
        "rule_in_words": VOTES,
        "sensitivity": 1.0,
        "noise_stddev": math.ceil(Fraction(sigma) * votes.GRID) / votes.GRID,
        "grid": (
            f"1 / {votes.GRID}: a unit's shares are divided in integers and their roots rounded"
            " towards zero; the noise is discrete Gaussian, its variance 4 squared grid units above"
            " the billed one: the cost of integers, as priced"
        ),
        **own,
    }
    return {
        "method": plan["method"],
        "sampler": query["sampler"],
        **dict.fromkeys(UNUSED),
        "billed_steps": 0,
        "draws_per_record": None,
        "draws": "none: an image votes by its features alone",
        "clip_norm": plan["clip_norm"],
        "clipping": plan["clipping"],
        "clipping_rule": VOTES,
        "sensitivity": 1.0,
        "noise_multiplier": sigma,
        "noise_placement": "once a round on the sum of the units' votes",
        "divisor": "none: candidates are compared with each other",
        "micro_batching": "changes time and memory only",
        "dtype": {"votes": "integers", "noise": "integers"},
        "random_source": RANDOM_SOURCE,
        "arithmetic": {"training": None, "one_shot": "grid"},
        "one_shot": [query, *_histograms(rest)],
    }


def _take_vote(
    plan: Mapping[str, Any], events: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The vote for a base as a query of the certificate, and the events without its own."""
    own = plan["base_vote"]
    sigma = own["noise_multiplier"]
    event = {"type": "gaussian", "noise_multiplier": sigma, "count": 1}
    if event not in events:
        raise SfumatoError(
            "the plan has a vote for a base that its events do not pay for; make the plan again"
        )
    place = events.index(event)
    query = {
        "name": "base vote",
        "type": "gaussian",
        "noise": sigma,
        "count": 1,
        "sampling_rate": 1.0,
        "sampler": "all units, once",
        "rule_in_words": BASE_VOTE_RULES[own.get("rule", NEAREST)],
        "sensitivity": 1.0,
        "noise_stddev": math.ceil(Fraction(sigma) * votes.GRID) / votes.GRID,
        "grid": (
            f"1 / {votes.GRID}: a unit's shares are divided in integers and their roots rounded"
            " towards zero; the noise is discrete Gaussian, its variance 4 squared grid units above"
            " the billed one: the cost of integers, as priced"
        ),
        "features": own["features"],
        **({"rule": own["rule"]} if "rule" in own else {}),
        "bases": len(own["bases"]),
        "pictures": own["pictures"],
        "training_noise_multiplier_without": own["noise_before"],
    }
    return query, events[:place] + events[place + 1 :]


def _histograms(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The queries beside an aggregation or votes, one for each time."""
    once: list[dict[str, Any]] = []
    for event in events:
        noise = event.get("noise_multiplier", event.get("epsilon"))
        once += [{"name": "label histogram", "type": event["type"], "noise": noise}] * int(
            event.get("count", 1)
        )
    return once


def _take_probe(
    plan: Mapping[str, Any], events: list[dict[str, Any]]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The plan's probe as a query of the certificate, and the events without its own.

    Removed once; a second one stays.
    """
    if not plan.get("probe"):
        return None, events
    probe = Probe.from_json(plan["probe"])
    rate, noise = probe.expected_batch_size / plan["n_units"], probe.noise_multiplier
    kind = "gaussian" if rate == 1 else "poisson_gaussian"
    own = {"type": kind, "noise_multiplier": noise}
    own |= {"count": 1} if rate == 1 else {"sampling_rate": rate, "steps": 1}
    if own not in events:
        raise SfumatoError(
            "the plan has a probe that its events do not pay for; make the plan again"
        )
    place = events.index(own)
    query = {
        "name": "saliency probe",
        "type": kind,
        "noise": noise,
        "sampling_rate": rate,
        "sampler": "all units" if rate == 1 else "Poisson, with a sample of its own",
        "scores": PROBE_SCORES[probe.score],
        "draws_per_record": probe.noise_draws,
        "clip_norm": probe.clip_norm,
        "per_size": probe.per_size,
        "sensitivity": probe.sensitivity,
        "noise_stddev": probe.noise_stddev * probe.grid,
        "candidates": len(probe.groups),
        "kept": probe.keep,
        "training_noise_multiplier_without": probe.noise_before,
    }
    return query, events[:place] + events[place + 1 :]
