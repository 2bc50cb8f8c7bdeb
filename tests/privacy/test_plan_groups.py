"""The plan under per-group clipping: the total is the clip norm, and the number of groups belongs
to the plan.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sfumato.privacy.events import PoissonGaussian
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

FIELDS = {
    "method": "lora",
    "unit": "record",
    "relation": "zero-out",
    "n_units": 100,
    "max_per_unit": 1,
    "classes": ("a",),
    "prompts": ("a",),
    "epsilon_target": 1.0,
    "delta": 1e-4,
    "sampling_rate": 0.1,
    "expected_batch_size": 10,
    "steps": 5,
    "noise_draws": 1,
    "clip_norm": 0.5,
    "clipping": "flat",
    "gamma": None,
    "noise_multiplier": 3.0,
    "histogram_noise_multiplier": None,
    "retry_steps": 0,
    "events": (PoissonGaussian(0.1, 3.0, 5),),
    "epsilon": 0.5,
    "base": "glyphs",
    "base_digest": "ab" * 32,
    "trainable": 9,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "ema_decay": 0.9,
    "target_modules": (),
    "rank": 4,
    "grid": 1e-3,
}
FLAT = Plan(**FIELDS)
CLIPPED = {"clipping": "per-group", "clip_groups": 7}
NORMALISED = {"clipping": "per-group-normalised", "clip_groups": 7, "clip_norm": 1.0, "gamma": 1e-4}


@pytest.mark.parametrize("rule", [CLIPPED, NORMALISED], ids=["clipped", "normalised"])
def test_the_noise_is_for_the_total(rule):
    plan = replace(FLAT, **rule)
    clip = plan.clip()
    assert clip.kind == plan.clipping and len(clip.bounds) == 7 and len(set(clip.bounds)) == 1
    assert math.hypot(*clip.bounds) == clip.sensitivity == pytest.approx(plan.clip_norm, rel=1e-12)
    assert plan.signal_bound == plan.clip_norm and plan.noise_stddev == pytest.approx(
        3.0 * clip.sensitivity
    )


@pytest.mark.parametrize("rule", [CLIPPED, NORMALISED], ids=["clipped", "normalised"])
def test_json_round_trip(rule):
    plan = replace(FLAT, **rule)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan and again.digest == plan.digest != replace(plan, clip_groups=8).digest


def test_a_plan_without_groups_reads_and_hashes_as_before():
    body = FLAT.to_json()
    assert "clip_groups" not in body and "probe" not in body and Plan.from_json(body) == FLAT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clipping": "per-group"}, "clip_groups"),
        (CLIPPED | {"clip_groups": 0}, "clip_groups"),
        (CLIPPED | {"clip_groups": True}, "clip_groups"),
        (CLIPPED | {"clip_groups": 2.0}, "clip_groups"),
        ({"clip_groups": 7}, "per-group clipping"),
        (CLIPPED | {"gamma": 0.1}, "gamma"),
        (NORMALISED | {"gamma": None}, "gamma"),
        (NORMALISED | {"gamma": -1.0}, "gamma"),
        (NORMALISED | {"clip_norm": 0.5}, "sensitivity 1"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(FLAT, **change)


def test_made_plans():
    given = {
        k: v
        for k, v in FIELDS.items()
        if k not in ("sampling_rate", "noise_multiplier", "retry_steps", "events", "epsilon_target")
    }
    given |= {"epsilon": 1.0, "grid": 1e-2}
    plan = make_plan(Request(**given | CLIPPED))
    normalised = make_plan(Request(**given | NORMALISED | {"clip_norm": None, "gamma": None}))
    assert (
        plan.noise_multiplier == normalised.noise_multiplier
        and plan.clip().sensitivity == pytest.approx(0.5)
    )
    assert (normalised.clip_norm, normalised.gamma, normalised.clip_groups) == (1.0, 1e-4, 7)
    with pytest.raises(ValueError, match="needs a clip_norm"):
        make_plan(Request(**given | CLIPPED | {"clip_norm": None}))
