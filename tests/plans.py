"""Small plans without images, for tests of what is done with a plan."""

from __future__ import annotations

from typing import Any

from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

CLASSES = ("a", "b")
QUICK = {
    "unit": "record",
    "max_per_unit": 1,
    "classes": CLASSES,
    "prompts": CLASSES,
    "noise_draws": 1,
    "learning_rate": 1e-3,
}


def of_training(**changes: Any) -> Plan:
    """Three steps of 10 of 100 units at epsilon 2."""
    training = {
        "method": "full",
        "n_units": 100,
        "epsilon": 2.0,
        "delta": 1e-3,
        "expected_batch_size": 10,
        "steps": 3,
        "clip_norm": 0.5,
        "base": "base",
        "base_digest": "0" * 64,
        "trainable": 10,
        "warmup_steps": 0,
        "ema_decay": 0.9,
        "target_modules": ("all",),
    }
    return make_plan(Request(**QUICK | training | changes))


def billed(**changes: Any) -> dict[str, Any]:
    """What a certificate says of 150 units at epsilon 1 with a histogram, and their plan."""
    from sfumato.releases.mechanism import mechanism

    asked = {
        "n_units": 150,
        "epsilon": 1.0,
        "delta": 1e-5,
        "steps": 5,
        "clip_norm": 1.0,
        "base_digest": "00",
        "trainable": 20,
        "histogram_noise_multiplier": 20.0,
        "grid": 1e-3,
    }
    plan = make_plan(Request(**QUICK | asked | changes))
    body = plan.to_json()
    return {
        "events": body["events"],
        "mechanism": mechanism(body, body["events"]),
        "public_facts": {"classes": CLASSES, "n_units": 150},
        "plan": plan,
    }


def passed(facts: dict[str, Any]) -> bool:
    """The verdict of the file that travels with a release on what was asked and billed."""
    from sfumato.releases.verify_privacy import check_events

    return all(ok for _, ok, _ in check_events(facts["mechanism"], facts["events"]))
