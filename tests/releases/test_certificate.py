"""privacy.json says what a stranger needs, and nothing that is false or private."""

from __future__ import annotations

import json

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy import events
from sfumato.privacy.ledger.datasets import APART
from sfumato.privacy.plan import make_plan as make_real_plan
from sfumato.privacy.request import Request
from sfumato.releases import certificate, prices, verify, write_release

FINE_PRICES = True


def test_certificate_carries_what_a_stranger_needs(kit, finished):
    claim = json.loads((finished / "privacy.json").read_text())
    assert claim["events"] == kit.plan()["events"]
    assert claim["epsilon"] == kit.plan()["epsilon"] and claim["delta"] == kit.delta
    assert len(claim["curve"]) == 64 and set(claim["attack_success"]) == {"0.001", "0.01", "0.1"}
    assert (
        claim["mu"]["delta_floor"] == 1e-9
        and claim["accountant"]["second"]["epsilon"] > claim["epsilon"]
    )
    assert (
        claim["mechanism"]["noise_stddev"] == kit.sigma * 0.5
        and claim["mechanism"]["billed_steps"] == kit.steps
    )
    assert claim["audit"]["statement"].endswith(
        "A passed audit does not prove differential privacy."
    )
    assert claim["event_tree"]["of"][0] == {
        "event": "SelfComposed",
        "count": kit.steps,
        "of": {
            "event": "PoissonSampled",
            "sampling_probability": 0.05,
            "of": {"event": "Gaussian", "noise_multiplier": kit.sigma},
        },
    }
    assert (
        claim["adjacency"]["dp_accounting"] == "REPLACE_SPECIAL"
        and "replaced by nothing" in claim["adjacency"]["means"]
    )
    assert claim["ledger"]["charges"] == [
        {"run": None, "epsilon": claim["epsilon"], "events": claim["events"]}
    ]
    assert claim["ledger"]["total_epsilon"] == claim["epsilon"] and claim["ledger"]["cap"] is None
    assert "class counts" in claim["not_public"] and "overlap" in claim["public_facts"]
    table = claim["k_table"]
    assert (
        table["1"] == claim["epsilon"]
        and 2 * table["1"] < table["2"] < table["3"] < table["5"] < table["10"]
    )
    assert set(claim["artefacts"]) == {
        p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()
    } - {"privacy.json", "SHA256SUMS"}


def test_all_runs_on_the_images_are_stated(kit, tmp_path):
    events = kit.plan()["events"]
    charges = [
        {"run": run, "epsilon": kit.plan()["epsilon"], "events": events} for run in ("aa", "bb")
    ]
    ledger = {
        **kit.ledger,
        "run": "bb",
        "charges": charges,
        "total_epsilon": 3.5,
        "cap": 4.0,
        "data_sets": 2,
    }
    out = write_release(
        kit.images(tmp_path / "s"), tmp_path / "release", **kit.facts(ledger=ledger)
    )
    assert "2 runs on images or units of this set" in (out / "PRIVACY.md").read_text()
    page = (out / "PRIVACY.md").read_text()
    assert page.index("Together they cost epsilon 3.5 at delta") < page.index("-differential")
    assert page.index("| All runs on these images |") < page.index("| epsilon |")
    report = (out / "report.html").read_text()
    assert report.index("all 2 runs on these images: epsilon") < report.index("this release alone")
    with pytest.raises(SfumatoError, match="all runs"):
        low = {**ledger, "total_epsilon": kit.plan()["epsilon"]}
        write_release(kit.images(tmp_path / "t"), tmp_path / "again", **kit.facts(ledger=low))
    assert "Restored ledger" not in (out / "PRIVACY.md").read_text()
    resets = [{"row": 4, "utc": "2026-01-01T00:00:00+00:00", "missing_rows": 3}]
    unbounded = {**ledger, "total_epsilon": None, "resets": resets}
    out = write_release(
        kit.images(tmp_path / "u"), tmp_path / "third", **kit.facts(ledger=unbounded)
    )
    assert "not bounded by any finite epsilon" in (out / "PRIVACY.md").read_text()
    assert "**Restored ledger.** 1 times an older copy" in (out / "PRIVACY.md").read_text()
    assert json.loads((out / "privacy.json").read_text())["ledger"]["resets"] == resets


def test_a_total_that_cannot_be_stated_is_not_stated_anywhere(kit, tmp_path):
    events = kit.plan()["events"]
    charges = [
        {"run": run, "epsilon": kit.plan()["epsilon"], "events": events} for run in ("aa", "bb")
    ]
    facts = {
        "run": "bb",
        "charges": charges,
        "total_epsilon": None,
        "no_total": APART,
        "known_by_pixels": 1,
    }
    out = write_release(
        kit.images(tmp_path / "s"),
        tmp_path / "release",
        **kit.facts(ledger={**kit.ledger, **facts}),
    )
    page, claim = (out / "PRIVACY.md").read_text(), json.loads((out / "privacy.json").read_text())
    assert (claim["ledger"]["total_epsilon"], claim["ledger"]["no_total"]) == (None, APART)
    for text in (
        page,
        (out / "report.html").read_text(),
        " ".join(claim["conditions"]["not_covered"]),
    ):
        assert (
            APART in text
            and "Of 1 of the runs under ledger.charges, recorded by an earlier version" in text
        )
    assert (
        f"No total can be stated of them, for {APART}" in page and "not bounded by any" not in page
    )


def test_group_table_matches_the_golden_one():
    one = (events.PoissonGaussian(4096 / 60000, 9.8140, 1465),)
    table = prices.record_groups(one, 1e-5, "zero-out", 1.0)
    for k, golden in {"2": 2.155, "3": 3.408, "5": 6.170, "10": 14.44}.items():
        assert table[k] == pytest.approx(golden, rel=0.01)
    assert prices.record_groups(one, 1e-5, "replace-one", 1.0) is None


def test_group_table_of_a_long_run_at_a_large_epsilon():
    long = (events.PoissonGaussian(1024 / 60000, 0.606, 700),)
    table = prices.record_groups(long, 1e-5, "zero-out", 10.0)
    assert (
        list(table) == ["1", "2", "3", "5", "10"]
        and 20 < table["2"] < table["3"] < table["5"] < table["10"]
    )


def test_group_sizes_that_would_fill_the_memory_are_left_out():
    for heavy in (
        events.PoissonGaussian(0.5, 0.25, 20_000),  # points of the whole loss
        events.PoissonGaussian(1e-3, 0.01, 1),  # of a single draw's
        events.PoissonGaussian(0.5, 1e6, 10**9),  # steps
    ):
        assert prices.record_groups((heavy,), 1e-5, "zero-out", 1e6) is None
    some = prices.record_groups(
        (events.PoissonGaussian(1024 / 60000, 0.4, 2_000),), 1e-5, "zero-out", 60.0
    )
    assert 1 < len(some) < 5 and list(some) == ["1", "2", "3", "5", "10"][: len(some)]


def test_a_release_whose_group_sizes_were_not_priced_verifies_and_says_so(
    kit, tmp_path, monkeypatch
):
    # plans of their own: prices are kept for a session
    for steps, most in ((kit.steps + 1, 3), (kit.steps + 2, 0)):
        monkeypatch.setattr(
            prices, "_cells", lambda events, k, most=most: 0 if k <= most else float("inf")
        )
        plan = kit.plan(steps=steps)
        out = write_release(
            kit.images(tmp_path / f"s{most}"), tmp_path / f"r{most}", **kit.facts(plan=plan)
        )
        table = json.loads((out / "privacy.json").read_text()).get("k_table", {})
        assert list(table) == (["1", "2", "3"] if most else []) and verify(out).ok
        for page in ("PRIVACY.md", "report.html"):
            said = "More than 3 records together were not priced" in (out / page).read_text()
            assert said == bool(most)
        require_paragraphs_apart(out)


def require_paragraphs_apart(release):
    """What begins with a bold word, or follows a table, is a paragraph of its own in Markdown."""
    lines = (release / "PRIVACY.md").read_text().splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith(("**", "More than"))]
    assert len(begins) > 8 and not [lines[i] for i in begins if lines[i - 1]]


@pytest.mark.parametrize("unit", [{}, {"unit": "visit_id", "max_per_unit": 8}])
def test_paragraphs_of_the_privacy_statement_are_apart(kit, tmp_path, unit):
    facts = kit.facts(plan=kit.plan(**unit))
    require_paragraphs_apart(write_release(kit.images(tmp_path / "s"), tmp_path / "r", **facts))


def test_settings_that_would_lie_are_refused(kit, tmp_path):
    source = kit.images(tmp_path / "s")
    settings = kit.facts()["settings"]
    cases = [
        (kit.facts(plan=kit.plan(epsilon=0.1)), "events cost"),
        (kit.facts(settings={**settings, "n": 30}), "20 of the 30 images"),
        (
            kit.facts(
                settings={**settings, "class_shares": "noisy-histogram"},
                plan=kit.plan(histogram_noise_multiplier=None),
            ),
            "did not pay",
        ),
        (kit.facts(conditions={"base_data": "see /home/alice/scans"}), "path of this machine"),
        (
            kit.facts(public_metrics=[{"name": "fd", "value": 3.0, "public_data": ""}]),
            "public data",
        ),
        (
            kit.facts(
                plan=kit.plan(
                    events=[{"type": "gaussian", "noise_multiplier": -1.0, "count": 1}], epsilon=1.0
                )
            ),
            "priced",
        ),
    ]
    for arguments, rule in cases:
        with pytest.raises(SfumatoError, match=rule):
            write_release(source, tmp_path / "release", **arguments)
    (tmp_path / "release").mkdir()
    with pytest.raises(SfumatoError, match="exists"):
        write_release(source, tmp_path / "release", **kit.facts())


def test_a_path_to_the_base_is_cut_to_its_name_and_extra_steps_are_billed(kit):
    plan = kit.plan(base="/home/alice/bases/letters", delta=0.002, unit="visit_id")
    more = [{**plan["events"][0], "steps": kit.steps + 6}, plan["events"][1]]
    claim = kit.certificate(
        kit.facts(plan=plan, ledger={**kit.ledger, "events": more, "attempts": 2})
    )
    assert claim["conditions"]["base"] == "letters" and "alice" not in json.dumps(claim)
    assert (
        claim["mechanism"]["billed_steps"] == kit.steps + 6 and claim["epsilon"] > plan["epsilon"]
    )
    assert "delta is not below 1/n" in claim["not_private"]["opt_ins"]


def test_runs_on_other_images_of_a_unit_are_not_covered():
    """The ledger knows a patient by the column's value: under another, or none, two runs without a
    common picture are in no total.
    """
    said = set(certificate.not_covered("patient")) - set(certificate.not_covered("record"))
    assert len(said) == 1 and "other images of the same units" in said.pop()


def test_a_real_plan_makes_a_release(kit, tmp_path):
    plan = make_real_plan(
        Request(
            method="lora",
            unit="visit_id",
            n_units=1000,
            max_per_unit=4,
            classes=kit.classes,
            prompts=kit.plan()["prompts"],
            epsilon=2.0,
            delta=kit.delta,
            expected_batch_size=50,
            steps=kit.steps,
            noise_draws=2,
            clip_norm=None,
            clipping="normalised",
            gamma=0.01,
            base="letters",
            base_digest="cd" * 32,
            trainable=99,
            learning_rate=1e-3,
            rank=4,
            grid=1e-3,
            histogram_noise_multiplier=20.0,
            retry_fraction=0.1,
        )
    )
    settings = {**kit.facts()["settings"], "class_shares": "noisy-histogram"}
    out = write_release(
        kit.images(tmp_path / "s"),
        tmp_path / "r",
        **kit.facts(
            plan=plan.to_json(),
            settings=settings,
            ledger={**kit.ledger, "events": plan.to_json()["events"]},
        ),
    )
    claim = json.loads((out / "privacy.json").read_text())
    assert verify(out).ok and claim["epsilon"] == plan.epsilon
    assert claim["mechanism"]["billed_steps"] == kit.steps + plan.retry_steps
    with pytest.raises(SfumatoError, match="bills less"):
        less = {**kit.ledger, "events": plan.to_json()["events"][:1]}
        kit.certificate(kit.facts(plan=plan.to_json(), ledger=less))
