"""Free words and figures of the owner on their way into a release."""

from __future__ import annotations

import json

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.releases import DRAFT
from sfumato.runs import release

BODY = {
    "events": [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}],
    "epsilon": 1.0,
    "unit": "record",
    "relation": "zero-out",
    "delta": 1e-5,
}


@pytest.fixture
def finish(tmp_path, monkeypatch):
    """`finishing.finish` on a draft of a run whose captions were charged and that was evaluated;
    pages are not written.
    """
    book = Ledger(tmp_path / "ledger.sqlite")
    RunLedger(book, "run").append("PLAN", {})
    captions = book.public.caption_keys(["Jane Doe, melanoma", "cat"])
    book.charge(
        "run", book.identify([b"A" * 32]), BODY, lambda charges, released: 1.0, captions=captions
    )
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    figures = {
        "utility": {"synthetic": [{"mean": 0.834567, "n_test": 120}]},
        "distances": {"FD": 12.3456},
    }
    (tmp_path / "run" / "evaluation" / "utility.json").write_text(json.dumps(figures))
    draft = {
        "ledger": str(book.path),
        "run_folder": str(tmp_path / "run"),
        "certificate": {"ledger": {"run": "run"}},
    }
    (tmp_path / DRAFT).write_text(json.dumps(draft))
    monkeypatch.setattr(release, "check_draft", lambda folder, ledger: None)
    monkeypatch.setattr(release, "looks_since", lambda folder, ledger: {})
    monkeypatch.setattr(release, "finalise", lambda folder, out, **said: said)
    return lambda **said: release.finish(tmp_path, **said)


METRIC = {"name": "accuracy", "value": 0.5, "public_data": "MNIST"}


@pytest.mark.parametrize(
    "said",
    [
        {"title": "jane doe: MELANOMA"},
        {"title": "Scans like JaneDoe melanoma and more"},
        {"title": "Cat"},
        {"licence": "for Jane Doe, melanoma, only"},
        {"public_metrics": [METRIC, METRIC | {"name": "of Jane Doe melanoma"}]},
        {"public_metrics": [METRIC | {"public_data": "Jane Doe; melanoma"}]},
    ],
)
def test_no_word_of_the_owner_holds_a_charged_caption(finish, said):
    with pytest.raises(SfumatoError, match="hold, a caption of images that were charged"):
        finish(**said)


@pytest.mark.parametrize("value", [0.834567, 83.4567, "83.46 %", 0.835, 12.35])
def test_no_private_figure_passes_for_a_public_one(finish, value):
    with pytest.raises(SfumatoError, match="is in the run's private evaluations"):
        finish(public_metrics=[METRIC, METRIC | {"value": value}])


def test_other_words_and_figures_are_the_owners(finish):
    rows = [METRIC | {"value": value} for value in (0.8, 83, 120, 0.8344, "n/a", 12, None)]
    said = finish(title="Cats and scans", licence="cc-by-4.0", public_metrics=rows)
    assert said["public_metrics"] == rows and said["compared"]


@pytest.mark.parametrize("place", [".", "train"])
def test_in_place_it_is_told_to_leave_the_folder_first(finish, tmp_path, monkeypatch, place):
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path / place)
    with pytest.raises(SfumatoError, match=f"you are in {tmp_path.name}, .*: leave it .cd "):
        finish()
    assert finish(out=tmp_path.parent / "new") is not None
