"""The fit of a base, tried on a public stand-in: its word, what it does to the forecast, and that
neither a private picture nor a charged one comes in by that door.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.bases.tiny import make_tiny_images
from sfumato.errors import DataError, SfumatoError
from sfumato.methods.prompts import choose_prompts
from sfumato.planning import fit, forecast
from sfumato.planning.fit import GOOD, NONE, POOR, judged
from sfumato.planning.prepare import OVERLAP_SAID
from sfumato.privacy.ledger.entries import TakenAsPublic
from sfumato.records import RecordSet, bundled_digits, load_records, near_copies
from sfumato.runs import budget
from sfumato.verbs.demo import demo_prompts


@pytest.fixture
def said(whole_tiny_base):
    schedule = {"steps": 3, "expected_batch_size": 8, "micro_batch": 8, "precision": "float32"}
    return {
        "base": str(whole_tiny_base),
        "epsilon": 2.0,
        "delta": 1e-3,
        "yes_public": True,
        **schedule,
    }


@pytest.fixture
def stand_in(tmp_path):
    """Pictures like the private ones, and none of them."""
    return make_tiny_images(tmp_path / "stand-in", seed=9)


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        ((0.02, 1.3, 0.15), GOOD),
        ((0.02, 1.3, None), GOOD),
        ((0.10, 1.5, 0.05), GOOD),
        ((0.02, 1.3, 0.0), POOR),
        ((0.2, 1.3, 0.15), POOR),
        ((0.02, 1.6, 0.15), POOR),
        ((0.5, 1.0, 0.15), NONE),
        ((0.02, 2.0, 0.15), NONE),
    ],
)
def test_the_word_follows_from_three_figures(figures, word):
    found = judged(*figures, 128)
    assert found.word == word and found.sentence.startswith(f"fit of the base: {word}, because ")
    assert fit.Fit.of(json.loads(json.dumps(found.to_json()))) == found


def tried(base: str, prompts: dict, monkeypatch) -> fit.Fit:
    monkeypatch.setattr(fit, "IMAGES", 32)
    digits = bundled_digits("test")
    chosen = choose_prompts(load_base(base), digits.classes, **prompts)
    return fit.fit_of(base, digits.classes, chosen, digits)


@pytest.mark.slow  # the verdict's rule and its way into plans: the tests around this one
def test_a_base_of_letters_suits_digits_and_one_of_icons_does_not(monkeypatch):
    letters = tried("letters", demo_prompts("letters"), monkeypatch)
    icons = tried("icons", {}, monkeypatch)
    assert letters.word == GOOD and letters.error < 0.05 and letters.words > 0.05
    assert icons.word == NONE and icons.error > 0.5 and letters.images == icons.images == 32
    # tokens that mean nothing yet are no verdict on the base; words of other things are one
    assert tried("letters", {}, monkeypatch).words is None
    wrong = tried("letters", {"prompt": "{class}", "embedder": False}, monkeypatch)
    assert wrong.word == POOR and wrong.words < 0.05
    assert tried("letters", demo_prompts("letters"), monkeypatch) == letters


def test_a_stand_in_of_other_classes_is_tried_without_words(monkeypatch):
    monkeypatch.setattr(fit, "IMAGES", 16)
    digits = replace(bundled_digits("test"), classes=tuple("abcdefghij"))
    chosen = choose_prompts(load_base("glyphs"), tuple("0123456789"), **demo_prompts("glyphs"))
    found = fit.fit_of("glyphs", tuple("0123456789"), chosen, digits)
    assert found.words is None and found.loss < 1.5
    one = choose_prompts(load_base("glyphs"), ("0",))
    assert fit.fit_of("glyphs", ("0",), one, digits).words is None


def test_a_base_that_does_not_fit_lowers_the_word(said, tiny_images, monkeypatch, stand_in):
    monkeypatch.setattr(forecast, "FEWEST", 1)  # what the fit alone does to the word
    by_word = {}
    for word in (GOOD, POOR, NONE):
        found = replace(judged(0, 1, None, 1), word=word)
        monkeypatch.setattr("sfumato.planning.inputs.fit_of", lambda *_, found=found: found)
        made = verbs.plan(tiny_images, **said | {"stand_in": stand_in, "epsilon": 40.0})
        by_word[word] = made.outlook
        assert f"fit of the base: {word}, because" in made.outlook.sentence
    assert len({found.noise for found in by_word.values()}) == 1
    needed = [by_word[word].needed or 0 for word in (GOOD, POOR, NONE)]
    assert needed[2] > needed[1] > needed[0]
    order = [forecast.SOMETHING, forecast.LITTLE, forecast.NOTHING]
    words = [order.index(by_word[word].word) for word in (GOOD, POOR, NONE)]
    assert words == sorted(words) and words[0] < words[2]


def test_no_private_picture_is_looked_at(said, tiny_images, stand_in, monkeypatch):
    seen = []
    load = RecordSet.load

    def watched(self, indices, resolution):
        seen.append(str(self.source))
        return load(self, indices, resolution)

    monkeypatch.setattr(RecordSet, "load", watched)
    found = []
    for private in (tiny_images, make_tiny_images(stand_in.parent / "others", seed=5)):
        report = verbs.plan(private, **said, stand_in=stand_in)
        found.append(report.outlook.fit)
    private = {str(tiny_images), str(stand_in.parent / "others")}
    assert str(stand_in) in seen and not private & set(seen)  # and dummies, to time a step
    assert found[0] == found[1] and "unknown" not in found[0]


def test_it_is_public_for_ever_and_stands_in_plan_and_certificate(
    said, tiny_images, stand_in, tmp_path, ledger_of_the_test
):
    with pytest.raises(SfumatoError, match="nothing can be learned.*fit of the base: "):
        verbs.adapt(tiny_images, output=tmp_path / "no", stand_in=stand_in, **said)
    assert not budget.open_ledger(ledger_of_the_test).chain.of("CHARGE")
    public = dict(verbs.plan(tiny_images, stand_in=stand_in, **said).public)
    assert public.get("public images", "") == "24 that decided the forecast before the charge"
    said |= {"anyway": True}
    run = verbs.adapt(tiny_images, output=tmp_path / "run", stand_in=stand_in, **said)
    (entry,) = run.ledger.entries(TakenAsPublic)
    assert entry.decided == "the forecast before the charge" and entry.count == 24
    assert run.options["fit"]["images"] == 24
    folder = verbs.synthesize(run, 4, tmp_path / "out")
    verbs.release(folder)
    body = json.loads((folder / "privacy.json").read_text())
    (told,) = body["public_facts"]["public_inputs"]
    assert told["digest"] == entry.digest and verbs.verify(folder).ok
    # what was public once is never charged as private
    with pytest.raises(SfumatoError, match="public"):
        verbs.adapt(stand_in, output=tmp_path / "later", **said)


def test_private_and_charged_pictures_are_no_stand_in(said, tiny_images, stand_in, tmp_path):
    said |= {"anyway": True}
    with pytest.raises(SfumatoError, match="24 images of --stand-in are also among the private"):
        verbs.plan(tiny_images, stand_in=tiny_images, **said)
    run = verbs.adapt(tiny_images, output=tmp_path / "run", **said)
    others = make_tiny_images(tmp_path / "others", seed=5)
    with pytest.raises(DataError, match="24 images of --stand-in were charged as private"):
        verbs.plan(others, stand_in=tiny_images, **said)
    with pytest.raises(DataError, match="--stand-in .* is inside a folder marked PRIVATE"):
        verbs.plan(others, stand_in=run.folder, **said)
    with pytest.raises(SfumatoError):
        verbs.plan(others, stand_in=tmp_path / "not there", **said)


def test_near_copies_of_private_pictures_change_nothing(said, tiny_images, tmp_path):
    """Public pictures are used as they are given: what they share is for `inspect`, not a plan."""
    near = tmp_path / "near"
    for file in sorted(tiny_images.rglob("*.png")):
        to = near / file.relative_to(tiny_images)
        to.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
        Image.fromarray(np.clip(pixels + 2, 0, 255).astype(np.uint8)).save(to)
    assert near_copies(load_records(tiny_images), load_records(near)).public.pictures == 24
    report = verbs.plan(tiny_images, **said, stand_in=near, public_may_overlap=True)
    public = dict(report.public)
    assert public["public images"] == "24 that decided the forecast before the charge"
    assert OVERLAP_SAID in public["opted in to"] and report.refused is None
    silent = dict(verbs.plan(tiny_images, **said, stand_in=near).public)
    assert OVERLAP_SAID not in silent["opted in to"]
