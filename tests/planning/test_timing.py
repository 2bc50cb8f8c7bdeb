"""`--time`: what is solved for follows from options, public facts and a clock on dummy data."""

from __future__ import annotations

import importlib
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato import verbs
from sfumato.bases.tiny import make_tiny_images
from sfumato.compute import clocks as device_clocks
from sfumato.errors import SfumatoError
from sfumato.methods import pace as pacing
from sfumato.methods.inversion import cost
from sfumato.methods.pace import Pace
from sfumato.methods.timed import FEWEST_STEPS, MOST_STEPS, Wanted, rungs, solve
from sfumato.options import Performance, Schedule, parse
from sfumato.planning import inputs, timing
from sfumato.planning.prepare import default_schedule
from sfumato.records import load_records

PACE = Pace(unit=1e-3, draw=2e-3, step=0.05, checkpoint=0.2, sheet=0.5)


def wanted(seconds, n=3000, epsilon=1.0, fixed=30.0, classes=10, **asked):
    usual = Schedule(**default_schedule(n, epsilon))
    return Wanted(seconds, fixed, "attention", Schedule(**asked), usual, n, epsilon, classes)


def taken(want, found):
    batch, steps, draws = found.expected_batch_size, found.steps, found.noise_draws
    every = pacing.default_samples_every(Performance(), found, want.classes)
    return want.fixed + PACE.seconds(batch, draws, steps, 25, every)


@pytest.mark.parametrize("n", [200, 3000, 60_000])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_a_schedule_fills_its_time_and_more_time_buys_more(n, epsilon):
    work = 0.0
    for seconds in (300, 1200, 3600, 4 * 3600):
        want = wanted(seconds, n, epsilon)
        found = solve(PACE, want, Performance())
        assert FEWEST_STEPS <= found.steps <= MOST_STEPS
        assert taken(want, found) <= seconds
        assert 1 <= found.expected_batch_size <= n
        now = found.expected_batch_size * found.steps * found.noise_draws
        assert now >= work
        work = now
        longest = found.steps == MOST_STEPS
        assert longest or taken(want, found) > 0.9 * seconds


def test_where_noise_rules_more_time_buys_draws_and_elsewhere_units():
    noisy = [rung for rung in rungs(wanted(1, 60_000, 1.0))]
    quiet = [rung for rung in rungs(wanted(1, 60_000, 8.0))]
    assert noisy == [(512, 1), (1024, 1), (2048, 1), (2048, 2), (2048, 4), (4096, 4)]
    assert quiet == [(512, 1), (1024, 1), (2048, 1), (4096, 1), (4096, 2), (4096, 4)]


def test_what_the_user_fixed_stays():
    found = solve(PACE, wanted(900, expected_batch_size=100, noise_draws=2), Performance())
    assert (found.expected_batch_size, found.noise_draws) == (100, 2) and found.steps > 100


def test_samples_that_were_asked_for_count():
    often = Performance(samples_every=1)
    slow = Pace(1e-3, 2e-3, 0.05, 0.2, 10.0)
    a, b = (solve(slow, wanted(900), how).steps for how in (often, Performance(samples_every=0)))
    assert a < b


def test_a_time_that_nothing_meets_says_what_would():
    for slower in (1, 1.7, 10, 100):  # seconds, minutes, hours: none is rounded down
        pace = Pace(1e-3 * slower, 2e-3 * slower, 0.05 * slower, 0.2, 10.0)
        with pytest.raises(SfumatoError, match=r"--time 10 s: the shortest run .* about") as e:
            solve(pace, wanted(10), Performance())
        enough = parse.duration(re.search(r"here: give (\w+(?:\.\w+)?),", str(e.value))[1])
        assert solve(pace, wanted(enough), Performance()).steps >= FEWEST_STEPS


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1s"), (40, "44s"), (80, "88s"), (100, "2min"), (119, "3min"), (5000, "1.6h")],
)
def test_a_time_that_is_enough_is_never_below_the_estimate(seconds, said):
    assert parse.enough(seconds) == said and parse.duration(said) > seconds


def test_ranks_share_the_units(monkeypatch):
    monkeypatch.setattr(pacing.ranks, "world_size", lambda: 4)
    assert PACE.of_step(100, 1) == pytest.approx(100 * 3e-3 / 4 + 0.05)


@pytest.fixture
def clocks(monkeypatch):
    """Every clock of the measurements ticks by itself, a tenth of a second a look."""
    looks = itertools.count()
    clock = SimpleNamespace(late=0.0, tick=0.1)
    clock.perf_counter = lambda: next(looks) * clock.tick + clock.late
    for room in (device_clocks, cost, inputs, timing):
        monkeypatch.setattr(room, "time", clock)
    return clock


SETTINGS = {"epsilon": 2.0, "delta": 1e-2, "method": "lora", "yes_public": True}


def test_plan_and_adapt_charge_the_same_schedule_at_the_same_pace(
    tiny_base, tiny_images, tmp_path, clocks
):
    clocks.tick = 0.8  # a machine so slow that few steps fill the time
    said, asked = [], SETTINGS | {"base": str(tiny_base), "time": "2min", "anyway": True}
    asked |= {"expected_batch_size": 8, "noise_draws": 1}
    report = verbs.plan(tiny_images, **asked)
    run = verbs.adapt(tiny_images, output=tmp_path / "run", on_stage=said.append, **asked)
    assert report.plan.digest == run.plan.digest
    assert report.asked_seconds == 120 and f"--steps {run.plan.steps} " in report.fixes
    assert any("chosen for 2 min" in line and report.fixes in line for line in said)
    # and the flags that fix it make the same plan without a clock
    flags = {"steps": run.plan.steps, "time": None}
    assert verbs.plan(tiny_images, **asked | flags).plan.digest == run.plan.digest
    release = verbs.release(verbs.synthesize(run, 3, tmp_path / "out"))
    assert "takes about 2 min on the owner's machine" in (release / "PRIVACY.md").read_text()
    assert verbs.verify(release).ok


def test_no_private_file_is_timed(tiny_base, tiny_images, clocks, monkeypatch):
    """Records that take a second each to read make the same schedule, and are read by nobody."""
    asked = SETTINGS | {"base": str(tiny_base), "time": "2min"}
    quick = verbs.plan(tiny_images, **asked).plan
    records = load_records(tiny_images, yes_public=True)

    def looked(*_):
        raise AssertionError("a private image was opened")

    monkeypatch.setattr(type(records), "_bytes", lambda self, slot: looked())
    monkeypatch.setattr(timing, "reading_seconds", lambda base: 0.01)
    one = verbs.plan(records, **asked).plan
    other = load_records(tiny_images, yes_public=True)
    assert verbs.plan(other, **asked).plan.digest == one.digest
    assert quick.n_units == one.n_units


def test_how_long_the_private_images_took_to_read_decides_nothing(
    tiny_base, tiny_images, clocks, monkeypatch
):
    asked = SETTINGS | {"base": str(tiny_base), "time": "2min", "expected_batch_size": 8}
    quick = verbs.plan(tiny_images, **asked).plan

    def reads_late(*args):
        clocks.late += 40.0
        return records_of(*args)

    planning = importlib.import_module("sfumato.verbs.plan")
    records_of = planning.records_of
    monkeypatch.setattr(planning, "records_of", reads_late)
    assert verbs.plan(tiny_images, **asked).plan.digest == quick.digest and clocks.late


def test_composing_and_measuring_count_and_a_plan_takes_what_it_was_solved_for(
    tiny_base, tiny_images, clocks, monkeypatch
):
    asked = SETTINGS | {"base": str(tiny_base), "time": "2min", "expected_batch_size": 8}
    quick = verbs.plan(tiny_images, **asked)
    assert 0.9 * 120 < quick.estimate.seconds <= 120
    prepare = inputs.prepare

    def composes_late(*args):
        clocks.late += 20.0
        return prepare(*args)

    monkeypatch.setattr(inputs, "prepare", composes_late)
    slow = verbs.plan(tiny_images, **asked)
    # 20 seconds less for steps
    assert slow.plan.steps < quick.plan.steps and 0.9 * 120 < slow.estimate.seconds <= 120


def test_trying_the_base_on_public_images_counts(
    tiny_base, tiny_images, clocks, monkeypatch, tmp_path
):
    public = make_tiny_images(tmp_path / "public", seed=5)
    asked = SETTINGS | {"base": str(tiny_base), "time": "2min", "expected_batch_size": 8}
    asked |= {"stand_in": public}
    quick = verbs.plan(tiny_images, **asked)
    fit_of = inputs.fit_of

    def tries_late(*args):
        clocks.late += 20.0
        return fit_of(*args)

    monkeypatch.setattr(inputs, "fit_of", tries_late)
    slow = verbs.plan(tiny_images, **asked)
    assert slow.plan.steps < quick.plan.steps and 0.9 * 120 < slow.estimate.seconds <= 120


def test_the_time_of_reading_is_that_of_dummy_files(tiny_base):
    from sfumato.bases import load_base

    assert 0 < timing.reading_seconds(load_base(tiny_base)) < 1


def test_an_inversion_takes_the_time_it_is_given(tiny_base, tiny_images, clocks):
    asked = SETTINGS | {"base": str(tiny_base), "method": "inversion"}
    with pytest.raises(SfumatoError, match="--time decides --inversion-steps"):
        verbs.plan(tiny_images, time="5min", inversion_steps=3, **asked)
    with pytest.raises(SfumatoError, match="--time 1 s: inverting 24 images takes at least"):
        verbs.plan(tiny_images, time="1s", **asked)
    report = verbs.plan(tiny_images, time="5min", **asked)
    assert report.plan.steps == 1 and report.asked_seconds == 300 and report.fixes is None


def test_the_pace_leaves_the_model_as_it_was(tiny_base, clocks):
    import torch

    from sfumato.planning.estimate import fit_to_machine
    from sfumato.planning.facts import PublicFacts
    from sfumato.planning.prepare import prepare
    from sfumato.planning.task import task_of

    facts = PublicFacts(n_units=50, classes=("circle", "cross"))
    more = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 8, "method": "lora"}
    made = fit_to_machine(prepare(facts, task_of(base=str(tiny_base), **more)[2]))
    before = {n: p.clone() for n, p in made.adaptation.model.named_parameters()}
    torch.manual_seed(0)
    pacing.measure(made, (1, 4))
    drawn = torch.rand(2)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(2))
    for name, now in made.adaptation.model.named_parameters():
        assert torch.equal(before[name], now) and now.grad is None
    assert np.isfinite(list(vars(pacing.measure(made, (1,))).values())).all()


def test_a_short_time_is_compared_with_the_usual_schedule():
    usual = default_schedule(3000, 8.0)
    plan = SimpleNamespace(
        n_units=3000, epsilon=8.0, steps=27, expected_batch_size=198, voting=None
    )
    share = 27 * 198 / usual["steps"] / usual["expected_batch_size"]
    assert timing.short_of_usual(plan) == (
        f"it sees {share:.0%} of the images of the usual schedule"
    )
    plan.steps, plan.expected_batch_size = usual["steps"], usual["expected_batch_size"]
    assert timing.short_of_usual(plan) == ""
