"""Plans of every kind: what could be charged can be certified, printed and verified; a thousand
more in the slow tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sfumato.privacy import accounting, calibration, curves
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.releases import certificate, consistency, prices, verify_privacy

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def plan_sweep(monkeypatch):
    """The module of the folder, with what it shares between plans; all is as it was afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "plan_sweep", raising=False)
    import plan_sweep

    for module, names in {
        accounting: ("epsilon_of", "rdp_epsilon"),
        calibration: ("calibrate",),
        curves: ("curve", "attack_success"),
        prices: ("record_groups",),
        consistency: ("record_groups",),
        certificate: ("prices_of",),
        verify_privacy: ("price",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    plan_sweep.share_prices()
    yield plan_sweep
    sys.modules.pop("plan_sweep", None)


SUM = Aggregation("clip", 2, 16, 1, "vocabulary", True, (20.0, 20.0))
COMMON = {
    "max_per_unit": 1,
    "classes": ("a", "b"),
    "prompts": ("a", "b"),
    "base": "b",
    "base_digest": "0",
    "trainable": 1000,
    "learning_rate": 1e-3,
    "method": "attention",
    "unit": "record",
    "clip_norm": 0.05,
    "noise_draws": 1,
    "grid": 1e-2,
    "allow_large_delta": True,
    "n_units": 40,
    "expected_batch_size": 40,
    "steps": 50,
    "epsilon": 2.0,
    "delta": 1e-5,
}
# Every unit in every step, few units, small noise, one step, a rare draw, other relations, all that
# is composed.
PLANS = {
    "full batch": {},
    "full batch, large epsilon": {"epsilon": 20.0, "steps": 80},
    "full batch, one step": {"steps": 1},
    "full batch, little noise": {"epsilon": 200.0, "steps": 1},
    "hardly a bound on attacks": {"epsilon": 60.0, "steps": 2},
    "full batch, person": {"unit": "person"},
    "full batch, replace-one": {"relation": "replace-one"},
    "nearly all": {"n_units": 65, "expected_batch_size": 64},
    "two units": {"n_units": 2, "expected_batch_size": 1, "delta": 0.1},
    "rare draws": {"n_units": 100_000, "expected_batch_size": 1, "steps": 5},
    "half": {"expected_batch_size": 20, "retry_fraction": 1.0},
    "tiny epsilon": {"epsilon": 0.05, "grid": 1e-3, "steps": 2},
    "tiny delta": {"delta": 1e-12, "steps": 5},
    "large delta": {"delta": 0.2},
    "normalised": {"clipping": "normalised", "clip_norm": None},
    "per group": {"clipping": "per-group", "clip_groups": 6},
    "per group, normalised": {
        "clipping": "per-group-normalised",
        "clip_groups": 6,
        "clip_norm": None,
    },
    "histogram": {"histogram_noise_multiplier": 25.0},
    "replace-one, histogram": {
        "relation": "replace-one",
        "histogram_noise_multiplier": 50.0,
        "unit": "person",
    },
    "aggregation": {"method": "inversion", "steps": 1, "trainable": 32, "aggregation": SUM},
}


@pytest.mark.parametrize("name", PLANS)
def test_what_could_be_charged_can_be_released(plan_sweep, name):
    outcome, why = plan_sweep.try_plan({**COMMON, **PLANS[name]})
    assert outcome == "released", why


def test_a_plan_that_could_not_be_released_is_seen(plan_sweep, monkeypatch):
    """The sweep is not blind: a figure that the verifier does not confirm is a failure."""
    right = certificate.prices_of
    monkeypatch.setattr(certificate, "prices_of", lambda **given: {**right(**given), "mu": 0.01})
    assert plan_sweep.try_plan(COMMON)[0] == "failed"


def test_settings_reach_every_corner(plan_sweep):
    rng = np.random.default_rng(0)
    drawn = [plan_sweep.settings(rng) for _ in range(500)]
    assert min(s["n_units"] for s in drawn) <= 3 and max(s["n_units"] for s in drawn) > 50_000
    assert min(s["epsilon"] for s in drawn) < 0.02 and max(s["epsilon"] for s in drawn) > 400
    assert sum(s["expected_batch_size"] == s["n_units"] for s in drawn) > 50
    methods = {(v["method"], v.get("clipping")) for v in plan_sweep.variants(drawn[0], rng)}
    assert len(methods) == 6 * 4 + 1


@pytest.mark.slow
def test_a_thousand_plans(plan_sweep):
    found = plan_sweep.sweep(1000, seed=2)
    assert found["plans"] == 1000 and found["released"] > 500 and "failed" not in found, found[
        "reasons"
    ]
