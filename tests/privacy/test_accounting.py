"""The accountant against golden tables, against RDP, and against its own rounding rules."""

from __future__ import annotations

import math

import dp_accounting
import pytest
from absl import logging as absl_logging
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.privacy import accounting, calibration, curves
from sfumato.privacy.accounting import epsilon_of, exact_epsilon
from sfumato.privacy.calibration import calibrate
from sfumato.privacy.events import Gaussian, Laplace, PoissonGaussian
from sfumato.releases import verify_privacy

Q, DELTA = 4096 / 60000, 1e-5
FAST = {1: PoissonGaussian(0.05, 3.8744, 400), 10: PoissonGaussian(0.05, 0.8256, 400)}
REFERENCE = {1: PoissonGaussian(Q, 9.8140, 1465), 10: PoissonGaussian(Q, 1.4949, 1465)}


def near(value, relative=1e-3):
    return pytest.approx(value, rel=relative)


@pytest.mark.parametrize("epsilon", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_fast_fixture(epsilon):
    noise = calibrate((), 0.05, 400, epsilon, DELTA)
    assert noise == pytest.approx(FAST[epsilon].noise_multiplier, abs=1.5e-4)
    assert epsilon_of([PoissonGaussian(0.05, noise, 400)], DELTA) <= epsilon
    # no noise is wasted
    assert exact_epsilon([PoissonGaussian(0.05, noise - 2e-4, 400)], DELTA) > epsilon


def test_fast_fixture_on_the_planning_grid():
    assert exact_epsilon([PoissonGaussian(0.05, 2, 400)], DELTA, grid=1e-3) == near(2.2464)
    assert exact_epsilon([FAST[10]], DELTA, grid=1e-3) == near(10.0)
    assert calibrate((), 0.05, 400, 10, DELTA, grid=1e-3) == near(0.8256)


G1 = [
    (733, 6.9881, 1.1660, 6.9938),
    (1465, 9.8140, 1.4949, 9.8302),
    (2198, 11.9942, 1.7600, 12.0242),
    (2930, 13.8327, 1.9888, 13.8791),
]


def test_g1_on_the_planning_grid():
    assert calibrate((), Q, 1465, 1, DELTA, grid=1e-3) == near(9.8302, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("steps, one, ten, coarse", G1)
def test_g1(steps, one, ten, coarse):
    assert calibrate((), Q, steps, 1, DELTA) == near(one, 1e-4)
    assert calibrate((), Q, steps, 10, DELTA) == near(ten, 1e-4)
    assert calibrate((), Q, steps, 1, DELTA, grid=1e-3) == near(coarse, 1e-4)


G2 = [
    ((), 0.1, 500, 1e-4, 7.2123, 1.2357),
    ((), 256 / 5000, 977, 1e-5, 6.0622, 1.0589),
    ((), 512 / 60000, 5860, 1e-5, 2.5569, 0.6731),
    ((), 8192 / 1e6, 2442, 1e-7, 2.0613, 0.6307),
    ((), 4096 / 45000, 1000, 2.074e-6, 11.7978, 1.7003),
    ((Gaussian(5),), 4096 / 45000, 1000, 2.074e-6, 20.255, 1.7081),
    ((Gaussian(25),), 4096 / 45000, 1000, 2.074e-6, 11.956, 1.7006),
]


@pytest.mark.slow
@pytest.mark.parametrize("other, rate, steps, delta, one, ten", G2)
def test_g2(other, rate, steps, delta, one, ten):
    assert calibrate(other, rate, steps, 1, delta) == near(one)
    assert calibrate(other, rate, steps, 10, delta) == near(ten)


@pytest.mark.parametrize(
    "epsilon, noise", [(0.5, 7.0318), (1, 3.7306), (2, 1.9938), (5, 0.8919), (10, 0.4999)]
)
def test_g3_calibration(epsilon, noise):
    assert calibrate((), 1.0, 1, epsilon, DELTA, grid=1e-3) == near(noise)


@pytest.mark.parametrize(
    "delta, pairs",
    [
        (1e-5, {5: 0.7255, 10: 0.3407, 20: 0.1600, 50: 0.0586}),
        (2.07e-6, {5: 0.8011, 10: 0.3798, 20: 0.1804, 25: 0.1419}),
    ],
)
def test_g3_single_gaussians(delta, pairs):
    for noise, epsilon in pairs.items():
        assert exact_epsilon([Gaussian(noise)], delta) == near(epsilon)
        assert exact_epsilon([Gaussian(noise * math.sqrt(3), count=3)], delta) == near(epsilon)


G4 = [
    ((Gaussian(5),), 1.2750, 1.4964, 10.0592, 1.0039),
    ((Gaussian(10),), 1.0739, 1.0768, 10.0148, 1.0010),
    ((Gaussian(20), Gaussian(50)), 1.0219, 1.0205, 10.0043, 1.0003),
    ((PoissonGaussian(Q, 2.0, 1),), 1.0134, 1.0124, 10.0020, 1.0001),
    ((Laplace(0.05),), 1.0174, 1.0161, 10.0036, 1.0002),
    ((Gaussian(10), Laplace(0.05)), 1.0905, 1.0971, 10.0184, 1.0012),
]


@pytest.mark.parametrize("extra, total, factor, _total10, _factor10", G4)
def test_g4_at_one(extra, total, factor, _total10, _factor10):
    assert exact_epsilon((*extra, REFERENCE[1]), DELTA) == near(total)
    rescaled = PoissonGaussian(Q, REFERENCE[1].noise_multiplier * factor, 1465)
    assert exact_epsilon((*extra, rescaled), DELTA) == near(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("extra, _total, _factor, total, factor", G4)
def test_g4_at_ten(extra, _total, _factor, total, factor):
    assert exact_epsilon((*extra, REFERENCE[10]), DELTA) == near(total)
    assert calibrate(extra, Q, 1465, 10, DELTA) == near(1.4949 * factor)


def test_fixed_events_alone_reach_the_target():
    with pytest.raises(ValueError, match="alone cost epsilon 1.308 of 1: drop"):
        calibrate((PoissonGaussian(Q, 1.0, 1),), Q, 1465, 1, DELTA, grid=1e-3)


def test_unreachable_targets_say_what_would_help():
    with pytest.raises(ValueError, match="raise epsilon or delta"):
        calibrate((), 1.0, 10000, 0.001, 1e-6, grid=1e-3)
    assert calibrate((), 0.05, 10, 400, DELTA, grid=1e-2) == calibration.MIN_NOISE


@pytest.mark.parametrize("relation", ["zero-out", "add-remove"])
@pytest.mark.parametrize(
    "some", [[FAST[1]], [FAST[10]], [REFERENCE[1], Gaussian(10), Laplace(0.05)], [Gaussian(3)]]
)
def test_rdp_is_never_below_pld(some, relation):
    upper = accounting.rdp_epsilon(some, DELTA, relation)
    assert exact_epsilon(some, DELTA, relation, grid=1e-3) <= upper
    if some == [FAST[1]]:
        assert upper < 1.15


@settings(deadline=None, max_examples=15)
@given(
    st.floats(0.001, 0.3), st.floats(0.7, 20.0), st.integers(1, 2000), st.sampled_from([1e-4, 1e-6])
)
def test_properties(rate, noise, steps, delta):
    cost = exact_epsilon([PoissonGaussian(rate, noise, steps)], delta, grid=1e-2)
    # coarse errs upwards
    assert cost >= exact_epsilon([PoissonGaussian(rate, noise, steps)], delta, grid=1e-3) - 1e-6
    assert (
        exact_epsilon([PoissonGaussian(rate, noise * 1.2, steps)], delta, grid=1e-2) <= cost + 1e-6
    )
    assert exact_epsilon([PoissonGaussian(rate, noise, steps + 5)], delta, grid=1e-2) >= cost - 1e-6
    assert (
        exact_epsilon([PoissonGaussian(rate * 0.8, noise, steps)], delta, grid=1e-2) <= cost + 1e-6
    )


def test_replace_one_is_doubled_once_and_by_dp_accounting():
    assert exact_epsilon([Gaussian(3)], DELTA, "replace-one") == near(2.753)
    assert exact_epsilon([Gaussian(3)], DELTA, "add-remove") == near(1.271)
    assert exact_epsilon([Gaussian(1.5)], DELTA, "zero-out") == near(2.753)
    assert exact_epsilon([REFERENCE[1]], DELTA, "replace-one", 1e-3) == near(2.14, 5e-3)
    with pytest.raises(ValueError, match="RDP"):
        accounting.rdp_epsilon([Gaussian(3)], DELTA, "replace-one")
    with pytest.raises(ValueError, match="Laplace"):
        exact_epsilon([Laplace(1.0)], DELTA, "replace-one")


def test_zero_out_costs_what_add_remove_does():
    for some in ([FAST[1]], [Gaussian(7), Laplace(0.1)]):
        assert exact_epsilon(some, DELTA, "zero-out", 1e-3) == near(
            exact_epsilon(some, DELTA, "add-remove", 1e-3), 1e-4
        )


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_rounding_is_upwards(value):
    assert accounting.round_up(value) >= value
    assert accounting.round_up(value) <= value + 1e-3 + 1e-9
    assert (
        accounting.round_up(accounting.round_up(value, 4), 4)
        <= accounting.round_up(value, 4) + 1e-4
    )


def test_rounding_does_not_pass_the_target():
    noise = calibrate((), 0.05, 400, 0.9999, DELTA, grid=1e-3)
    assert epsilon_of([PoissonGaussian(0.05, noise, 400)], DELTA, grid=1e-3) <= 0.9999


@pytest.mark.parametrize("delta", [0, 1, 2, -1e-5, math.nan, math.inf, True, None, 1e-300])
def test_delta_is_checked(delta):
    with pytest.raises(ValueError, match="delta"):
        epsilon_of([Gaussian(3)], delta)


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf, 1e-4, 1e5, True, "1"])
def test_epsilon_is_checked(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        calibrate((), 0.05, 400, epsilon, DELTA)


def test_other_refusals():
    with pytest.raises(ValueError, match="relation"):
        epsilon_of([Gaussian(3)], DELTA, "swap")
    with pytest.raises(ValueError, match="grid"):
        epsilon_of([Gaussian(3)], DELTA, grid=0)
    with pytest.raises(ValueError, match="events"):
        epsilon_of(["gaussian"], DELTA)
    with pytest.raises(ValueError, match="sampling_rate"):
        calibrate((), 0.0, 400, 1, DELTA)
    with pytest.raises(ValueError, match="events"):
        epsilon_of([{"kind": "gaussian"}], DELTA)
    assert epsilon_of([], DELTA) == 0.0


def test_a_figure_is_computed_once_and_is_that_of_its_own_question(monkeypatch):
    asked = ([Gaussian(3)], DELTA, "zero-out", 1e-2)
    others = (
        ([Gaussian(3), Gaussian(3)], *asked[1:]),
        (asked[0], DELTA / 2, *asked[2:]),
        (*asked[:2], "replace-one", 1e-2),
        (*asked[:3], 5e-3),
    )
    accounting._known_epsilon.cache_clear()
    found = [exact_epsilon(*question) for question in (asked, *others)]
    assert len(set(found)) == len(found)
    monkeypatch.setattr(accounting, "composed", lambda *_: pytest.fail("computed again"))
    assert [exact_epsilon(*question) for question in (asked, *others)] == found


def test_rdp_is_quiet_and_the_log_level_restored(capfd):
    before = absl_logging.get_verbosity()
    accounting.rdp_epsilon([FAST[10]], DELTA)
    assert absl_logging.get_verbosity() == before
    assert "failed to converge" not in capfd.readouterr().err


def test_discreteness_is_in_every_figure():
    """Noise is integers: epsilon is higher by 2^-40 and delta by that share, here, in the curve and
    for a verifier.
    """
    events, delta = [PoissonGaussian(0.05, 3.8744, 400)], 1e-5
    plain = pld.PLDAccountant(accounting.RELATIONS["zero-out"], 1e-3)
    plain.compose(
        dp_accounting.PoissonSampledDpEvent(0.05, dp_accounting.GaussianDpEvent(3.8744)), 400
    )
    extra = accounting.exact_epsilon(events, delta, grid=1e-3) - plain.get_epsilon(delta)
    assert 2.0**-40 <= extra < 2.0**-38
    for epsilon, stated in curves.curve(events, points=5, grid=1e-3):
        assert stated >= plain.get_delta(epsilon - 2.0**-40) * (1 + 2.0**-41)
    facts = {"accountant": {"grid": 1e-3}, "relation": "zero-out"}
    body = [
        {
            "type": "poisson_gaussian",
            "sampling_rate": 0.05,
            "noise_multiplier": 3.8744,
            "steps": 400,
        }
    ]
    verifier = verify_privacy.price(facts, body)
    assert verifier.get_epsilon(delta) == accounting.exact_epsilon(events, delta, grid=1e-3)
    assert verifier.get_delta([0.0, 0.5]) == pytest.approx(
        [verifier.get_delta([e])[0] for e in (0.0, 0.5)], rel=1e-9
    )
    assert accounting.exact_epsilon((), delta) == 0.0  # nothing costs nothing
