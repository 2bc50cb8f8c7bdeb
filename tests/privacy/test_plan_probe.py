"""The probe in the plan: composed before training is calibrated, priced as an outsider would, and
within its share.
"""

from __future__ import annotations

from dataclasses import replace

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant

from sfumato.privacy import accounting
from sfumato.privacy.events import Gaussian, PoissonGaussian
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

GROUPS = tuple(f"m{i}" for i in range(128))


def probe(**changes) -> Probe:
    fields = {
        "groups": GROUPS,
        "keep": 38,
        "score": "votes",
        "votes": 38,
        "clip_norm": None,
        "per_size": False,
        "expected_batch_size": 4096.0,
        "noise_draws": 4,
    }
    return Probe(**fields | changes)


def plan(**changes) -> Plan:
    fields = {
        "method": "saliency",
        "unit": "record",
        "n_units": 45_000,
        "max_per_unit": 1,
        "classes": ("a",),
        "prompts": ("a",),
        "epsilon": 1.0,
        "delta": 2.074e-6,
        "expected_batch_size": 4096,
        "steps": 1000,
        "noise_draws": 1,
        "clip_norm": 1.0,
        "base": "b",
        "base_digest": "",
        "trainable": 10,
        "learning_rate": 1e-3,
        "grid": 1e-3,
        "probe": probe(),
    }
    return make_plan(Request(**fields | changes))


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan()


def test_the_default_share_is_two_percent(made):
    assert made.probe.noise_before < made.noise_multiplier <= made.probe.noise_before * 1.02 + 1e-4
    # and the share is used, not left
    assert made.noise_multiplier >= made.probe.noise_before * 1.01
    more = plan(probe_share=0.1)
    assert more.probe.noise_multiplier < made.probe.noise_multiplier


def test_an_outsider_gets_the_same_price(made):
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL, 1e-3)
    q = 4096 / 45_000
    accountant.compose(dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(made.probe.noise_multiplier)))
    accountant.compose(dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(made.noise_multiplier)), 1000)
    assert made.epsilon - 1e-3 <= accountant.get_epsilon(2.074e-6) <= made.epsilon <= 1.0
    assert made.events == (
        PoissonGaussian(q, made.probe.noise_multiplier, 1),
        PoissonGaussian(q, made.noise_multiplier, 1000),
    )
    assert made.probe_event == made.events[0]


@pytest.mark.parametrize(("epsilon", "noise", "sigma"), [(1.0, 25.0, 11.956), (10.0, 5.0, 1.7081)])
def test_golden_full_pass(epsilon, noise, sigma):
    """privacy.md G2: a full pass over all units with sigma_s 25 or 5 in front of the same
    training.
    """
    made = plan(epsilon=epsilon, probe=probe(expected_batch_size=45_000.0, noise_multiplier=noise))
    assert made.events[0] == Gaussian(noise)
    assert made.noise_multiplier == pytest.approx(sigma, rel=5e-3)


def test_a_probe_beyond_the_target_is_refused():
    with pytest.raises(ValueError, match="one-shot events alone"):
        plan(epsilon=0.5, probe=probe(expected_batch_size=45_000.0, noise_multiplier=5.0))
    with pytest.raises(ValueError, match="probe_share"):
        plan(probe_share=0.0)
    with pytest.raises(ValueError, match="sampling_rate must lie"):
        plan(probe=probe(expected_batch_size=45_001.0))


def test_the_probe_joins_the_histogram():
    made = plan(histogram_noise_multiplier=50.0)
    assert [type(event) for event in made.events] == [Gaussian, PoissonGaussian, PoissonGaussian]
    assert made.noise_multiplier <= made.probe.noise_before * 1.02 + 1e-4


def test_json_there_and_back_and_plans_without_a_probe_are_as_before(made):
    assert (
        Plan.from_json(made.to_json()) == made
        and Plan.from_json(made.to_json()).digest == made.digest
    )
    plain = replace(made, probe=None, events=made.events[1:])
    assert "probe" not in plain.to_json() and Plan.from_json(plain.to_json()) == plain
    with pytest.raises(ValueError, match="events do not follow"):
        replace(made, probe=replace(made.probe, noise_multiplier=made.probe.noise_multiplier / 2))
    with pytest.raises(ValueError, match="events do not follow"):
        replace(made, probe=None)


def test_replace_one_is_doubled_by_the_accountant_alone():
    made = plan(relation="replace-one", epsilon=10.0)
    assert made.probe.sensitivity == 38**0.5
    cost = accounting.exact_epsilon(made.events, made.delta, "replace-one", 1e-3)
    assert cost <= 10.0 and made.noise_multiplier <= made.probe.noise_before * 1.02 + 1e-4


def test_live_epsilon_counts_the_probe_from_the_first_step(made):
    alone = accounting.exact_epsilon(made.events[:1], made.delta, grid=1e-3)
    assert alone <= made.epsilon_after(0) <= made.epsilon_after(1) <= made.epsilon
