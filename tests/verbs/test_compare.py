"""Runs beside each other: a page of public plans and of pictures, and a look only when asked."""

from __future__ import annotations

import json
import stat
from types import SimpleNamespace

import pytest

import sfumato
from sfumato.bases.tiny import make_tiny_images
from sfumato.errors import DataError, SfumatoError
from sfumato.privacy.ledger.entries import Charged, Looked
from sfumato.privacy.ledger.notes import Shown
from sfumato.runs.folder import Run

TRUSTED_GRADIENTS = True


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_base, tiny_images):
    top = tmp_path_factory.mktemp("made")
    how = {"delta": 1e-3, "base": tiny_base, "steps": 2, "expected_batch_size": 8}
    for number, epsilon in enumerate((8, 4), 1):
        place = top / f"run-{number}"
        sfumato.adapt(
            tiny_images, output=place, epsilon=epsilon, yes_public=True, anyway=True, **how
        )
    return top / "run-1", top / "run-2"


def looks(run) -> int:
    return len(Run.open(run).ledger.entries(Looked))


def test_the_page_has_both_plans_and_pictures_of_each_class(runs, tmp_path):
    before = looks(runs[0])
    found = sfumato.compare(runs, tmp_path / "page.html", number=60)
    text = (tmp_path / "page.html").read_text()
    assert "run-1" in text and "run-2" in text and text.count("<img") == 2 * 3 * 3
    assert all(0 <= one.score <= 1 for one in found)
    assert found[0].score >= found[1].score
    assert "PRIVATE" in text and "on real images" not in text and "<script" not in text
    assert looks(runs[0]) == before


def test_what_was_seen_is_noted_before_it_is_drawn(runs, tmp_path, monkeypatch):
    """A run that is charged after it may have been planned after it."""
    from sfumato.verbs import compare

    def shown(place):
        return [note.shown for note in Run.open(place).ledger.entries(Shown)]

    def refuse(*_):
        raise SfumatoError("no machine")

    before = shown(runs[0])
    monkeypatch.setattr(compare, "draw_as_released", refuse)
    with pytest.raises(SfumatoError, match="no machine"):
        sfumato.compare(runs, tmp_path / "page.html", number=60)
    assert shown(runs[0]) == [*before, 2]
    book = Run.open(runs[0]).ledger.ledger
    data = {charge.dataset for charge in book.chain.entries(Charged)}
    assert book.datasets.group(frozenset(data)).released


def test_private_figures_are_a_look_at_each_run(runs, tmp_path):
    with pytest.raises(SfumatoError, match="no accuracy on real images"):
        sfumato.compare(runs, tmp_path / "none.html", number=60, score=False, private=True)
    for place in runs:
        (place / "evaluation").mkdir(exist_ok=True)
        body = {"in_ledger": True, "utility": {"synthetic": [{"mean": 0.625}]}}
        (place / "evaluation" / "utility.json").write_text(json.dumps(body))
    before = [looks(place) for place in runs]
    sfumato.compare(runs, tmp_path / "page.html", number=60, score=False, private=True)
    assert [looks(place) for place in runs] == [count + 1 for count in before]
    assert (tmp_path / "page.html").read_text().count("62.5 %") == 2


def test_public_images_give_the_order_and_are_no_look(runs, tmp_path, monkeypatch):
    from sfumato.verbs import compare

    public = make_tiny_images(tmp_path / "public", seed=7)
    before = [looks(place) for place in runs]
    told = {"run-1": 0.25, "run-2": 0.75}
    own = iter([0.9, 0.1])  # by their own pictures they would come the other way round
    order = iter(sorted(told))

    class Judge:
        def __init__(self, images):
            self.share = told[next(order)] if len(images) == 60 else next(own)

        def accuracy(self, images, labels):
            assert len(images) == len(labels)
            return self.share

    monkeypatch.setattr(compare, "train_classifier", lambda _, images, *__, **___: Judge(images))
    found = sfumato.compare(runs, tmp_path / "page.html", number=60, public_test=public)
    assert [(one.name, one.on_public) for one in found] == [("run-2", 0.75), ("run-1", 0.25)]
    assert [one.score for one in found] == [0.1, 0.9]
    assert [looks(place) for place in runs] == before
    text = (tmp_path / "page.html").read_text()
    assert "on public images" in text and "75.0 %" in text


def test_private_images_are_no_public_test(runs, tmp_path, tiny_images, monkeypatch):
    from sfumato.verbs import compare

    monkeypatch.setattr(compare, "draw_as_released", lambda *_: pytest.fail("drawn first"))
    with pytest.raises(DataError, match="known to the ledger as private"):
        sfumato.compare(runs, tmp_path / "page.html", number=60, public_test=tiny_images)
    assert not (tmp_path / "page.html").exists()


def test_two_folders_of_one_name_are_told_apart(tmp_path):
    from sfumato.verbs.compare import _names

    def named(*places: str) -> list[str]:
        return _names([SimpleNamespace(folder=tmp_path / place) for place in places])

    assert named("a/run", "b/run-2") == ["run", "run-2"]
    assert named("project-1/run", "project-2/run") == ["project-1/run", "project-2/run"]


@pytest.mark.parametrize(
    ("given", "how", "said"),
    [
        ((0,), {}, "two different runs"),
        ((0, 0), {}, "two different runs"),
        ((0, 1), {"number": 10}, "at least 50"),
    ],
)
def test_refused(runs, tmp_path, given, how, said):
    with pytest.raises(SfumatoError, match=said):
        sfumato.compare([runs[i] for i in given], tmp_path / "page.html", **how)
    assert not (tmp_path / "page.html").exists()


def test_the_page_is_for_its_owner_and_in_no_release(runs, tmp_path, monkeypatch):
    from sfumato.verbs import compare

    sfumato.compare(runs, tmp_path / "page.html", number=60, score=False)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600
    monkeypatch.setattr(compare, "draw_as_released", lambda *_: pytest.fail("drawn first"))
    (tmp_path / "privacy.json").write_text("{}")
    for place, said in (("other.html", "in a release"), ("none/page.html", "there is no folder")):
        with pytest.raises(SfumatoError, match=said):
            sfumato.compare(runs, tmp_path / place, number=60)


def test_nothing_is_overwritten(runs, tmp_path):
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(SfumatoError, match="exists"):
        sfumato.compare(runs, tmp_path / "page.html", number=60)
    assert (tmp_path / "page.html").read_text() == "mine"
