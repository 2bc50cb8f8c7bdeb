"""How a run's pictures are drawn: moved to the class moments that it paid for, and told of."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.methods import Full
from sfumato.methods.warm_up import transport
from sfumato.methods.warm_up.fit import FILE
from sfumato.options import Sampling
from sfumato.privacy import accounting
from sfumato.releases import DRAFT
from sfumato.releases.moments import check_moved, moved_facts
from sfumato.synthesis import sampler
from sfumato.verbs import drawing, row_images
from sfumato.verbs.drawing import draw_as_released, drawn_alike, drawn_how
from sfumato.verbs.facts import adapted_base
from sfumato.verbs.row_images import Drawing

WARM = {"warm_up": "means", "warm_up_steps": 2, "warm_up_size": 2}
FEW = 20  # pictures a class, of 16 numbers


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
    monkeypatch.setattr(accounting, "PLANNING_GRID", 1e-2)
    monkeypatch.setattr(drawing, "MOVED", FEW)
    # so few units' noise hides everything: as if it did not
    monkeypatch.setattr(transport, "deviation", lambda *given: 0.0)


def adapt(images, base, output, **warm):
    return verbs.adapt(
        images, output=output, epsilon=8.0, delta=1e-3, method=Full(**warm), base=str(base),
        steps=1, expected_batch_size=8, noise_draws=1, samples_every=0, anyway=True,
        yes_public=True, ledger=output.parent / "ledger.sqlite",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_base, tiny_images, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
        patch.setattr(accounting, "PLANNING_GRID", 1e-2)
        folder = tmp_path_factory.mktemp("moved")
        return adapt(tiny_images, tiny_base, folder / "run", **WARM)


def pixels(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "train").rglob("*.png"))}


def test_a_release_says_that_its_pictures_were_moved_and_verifies(run, tmp_path):
    out = verbs.synthesize(run, 6, tmp_path / "moved", keep_key=True, controls=False)
    verbs.release(out)
    assert verbs.verify(out).ok
    facts = json.loads((out / "privacy.json").read_text())
    body = facts.get("certificate", facts)
    said = body["synthesis"]["class_moments"]
    # more than small pictures have numbers
    assert said["drawn_per_class"] == 32 and said["sha256"] == run.moments
    page = (out / "PRIVACY.md").read_text()
    assert said["statement"] in page and "and moved to the noisy class moments;" in page
    plain = verbs.synthesize(
        run, 6, tmp_path / "plain", keep_key=True, controls=False, class_moments=0
    )
    assert said["statement"] not in (plain / DRAFT).read_text()
    assert pixels(plain) != pixels(out)


def test_shards_are_moved_alike(run, tmp_path):
    how = {"keep_key": True, "controls": False}
    whole = verbs.synthesize(run, 6, tmp_path / "whole", **how)
    part = verbs.synthesize(run, 6, tmp_path / "part", shard=(1, 3), **how)
    whole, part = pixels(whole), pixels(part)
    assert len(part) == 2 and all(whole[name] == png for name, png in part.items())


def test_others_see_the_pictures_that_a_release_would_have(run):
    images, labels = draw_as_released(run, 6, Sampling())
    plain, same = draw_as_released(run, 6, Sampling(class_moments=0))
    assert images.shape == plain.shape and np.array_equal(labels, same)
    assert not np.array_equal(images, plain)
    assert np.array_equal(images, draw_as_released(run, 6, Sampling())[0])


def test_many_classes_are_told_apart_by_their_own_prompts(run, monkeypatch):
    moved = drawn_how(run, Sampling()).draw
    own = sampler.Sampler(adapted_base(run), run.plan.prompts, Sampling())
    few = moved.fitted(own)
    monkeypatch.setattr(sampler, "PROMPTS", 2)  # of more the embeddings are not all kept
    many = sampler.Sampler(adapted_base(run), run.plan.prompts, Sampling())
    assert own.whole and not many.whole
    assert np.allclose(few.middle, moved.fitted(many).middle, atol=1e-3)
    assert not np.allclose(few.middle[0], few.middle[1], atol=1e-3)


@pytest.mark.parametrize("number", [None, 0])
def test_rows_beside_a_release_are_drawn_as_that_was(run, tmp_path, number, monkeypatch):
    monkeypatch.setattr(row_images, "base_of", lambda run, row: adapted_base(run))
    how = {"keep_key": True, "controls": False, "class_moments": number}
    out = verbs.synthesize(run, 6, tmp_path / "drawn", **how)
    rows = Drawing(run, out, {"other": run}, None, None)
    mine, other, exact, public = (
        sorted(map(bytes, rows.images_of(row)[0]))
        for row in ("synthetic", "other", "non_private", "public_only")
    )
    assert mine == other == exact and (mine == public) is (number == 0)


def test_a_run_that_has_no_counts_is_not_moved_beside_one_that_has(run):
    moved = Sampling(class_moments=500)
    assert drawn_alike(run, moved).class_moments == 500
    assert drawn_alike(run, Sampling(class_moments=20)).class_moments == 32
    uncounted = replace(run.plan.moments, counting=0.0)
    before = replace(run, plan=replace(run.plan, moments=uncounted))
    assert drawn_alike(before, moved).class_moments == 0


def test_who_is_moved_unless_asked(run, monkeypatch):
    assert drawn_how(run, Sampling()).sampling.class_moments == 32
    assert drawn_how(run, Sampling(), prompted=True).sampling.class_moments == 0
    gone = replace(run, plan=replace(run.plan, base="gone"))
    assert drawn_how(gone, Sampling()).sampling.class_moments == 32
    monkeypatch.setattr(drawing, "SMALL", 8)
    assert drawn_how(run, Sampling()).sampling.class_moments == 0
    monkeypatch.setattr(drawing, "SMALL", 64)
    monkeypatch.setattr(drawing, "MOST", 95)  # three classes would draw 96
    assert drawn_how(run, Sampling()).sampling.class_moments == 0
    monkeypatch.setattr(drawing, "MOST", 96)
    uncounted = replace(run.plan, moments=replace(run.plan.moments, counting=0.0))
    before = replace(run, plan=uncounted)
    assert drawn_how(before, Sampling()).sampling.class_moments == 0
    assert drawn_how(before, Sampling(class_moments=32)).sampling.class_moments == 32


def test_refusals_name_the_cure(run, tiny_base, tiny_images, tmp_path):
    with pytest.raises(SfumatoError, match="at least 17, or 0"):
        drawn_how(run, Sampling(class_moments=3))
    with pytest.raises(SfumatoError, match="leave it or --prompts out"):
        drawn_how(run, Sampling(class_moments=32), prompted=True)
    for warm in ({}, WARM | {"warm_up_rounds": 1}):
        other = adapt(tiny_images, tiny_base, tmp_path / f"run-{len(warm)}", **warm)
        assert drawn_how(other, Sampling()).facts == {}
        with pytest.raises(SfumatoError, match="no class means and covariances"):
            drawn_how(other, Sampling(class_moments=32))


def test_moments_that_the_ledger_does_not_know_move_nothing(run):
    place = run.folder / FILE
    kept = place.read_bytes()
    try:
        place.write_bytes(kept[:-8] + bytes(8))
        with pytest.raises(SfumatoError, match=f"put {FILE} of its folder back"):
            drawn_how(run, Sampling())
        place.unlink()
        with pytest.raises(SfumatoError, match="--class-moments 0"):
            drawn_how(run, Sampling())
    finally:
        place.write_bytes(kept)


def test_a_certificate_tells_of_moved_pictures_as_they_were():
    paid = {"class_moments": {"rounds": 2}}
    right = {"synthesis": moved_facts(500, "00"), "mechanism": {"one_shot": [paid]}}
    assert check_moved(right)
    for place, value in (("statement", "moved"), ("drawn_per_class", 0), ("sha256", None)):
        forged = copy.deepcopy(right)
        forged["synthesis"]["class_moments"][place] = value
        assert not check_moved(forged)
    for asked in ([], [{"class_moments": {"rounds": 1}}]):
        assert not check_moved(right | {"mechanism": {"one_shot": asked}})
