"""`match`: the ranking is right where noise is small, says so where it is not, is charged before an
image is looked at; and one unit moves the votes by one at most.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import sfumato
from sfumato.bases import base_info
from sfumato.bases.tiny import make_tiny_base
from sfumato.cli import main
from sfumato.errors import DataError, SfumatoError
from sfumato.methods.evolution.spaces import pixels
from sfumato.privacy.ledger.entries import Charged
from sfumato.privacy.ledger.notes import Matched
from sfumato.privacy.mechanisms.histogram import GRID, VoteHistogram
from sfumato.privacy.random.keys import RunKey
from sfumato.records import RecordSet
from sfumato.runs import budget, matching
from sfumato.runs.matching import FORMER, TODAY
from sfumato.verbs import match as verb

SIDE = 16
STRIPES = np.where(np.arange(SIDE) % 4 < 2, -16, 16)[None, :, None] + np.zeros((SIDE, 1, 3), int)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return [
        str(make_tiny_base(folder / name, seed=k, sparse=True))
        for k, name in enumerate(("dark", "light"))
    ]


@pytest.fixture
def drawn(monkeypatch):
    """One base draws dark stripes down, the other light ones across; words a and b are dark."""

    def draw(base, prompts, n, sampling):
        labels = np.arange(n) % len(prompts)
        rng = np.random.default_rng(n)
        level = 50 + STRIPES if base == "dark" else 200 + STRIPES.transpose(1, 0, 2)
        if prompts != [""]:
            level = np.array([40, 90, 230])[labels][:, None, None, None]
        noise = rng.integers(0, 8, (n, SIDE, SIDE, 3))
        return (level + noise).astype(np.uint8), labels

    monkeypatch.setattr(verb, "draw", draw)
    monkeypatch.setattr(verb, "load_base", lambda name: name.rsplit("/", 1)[-1])


def private(n: int, dark: float = 0.8, units: int | None = None) -> RecordSet:
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 2
    first = (np.arange(n) < dark * n)[:, None, None, None]
    level = np.where(labels == 0, 42, 92)[:, None, None, None]
    level = np.where(first, level + STRIPES, 210 + STRIPES.transpose(1, 0, 2))
    pictures = np.clip(level + rng.integers(0, 9, (n, SIDE, SIDE, 3)), 0, 255)
    unit = np.arange(n) if units is None else np.arange(n) % units
    return RecordSet(
        "made",
        "array",
        ("p", "q"),
        labels,
        unit,
        None,
        np.ones(n, bool),
        array=pictures.astype(np.uint8),
    )


def test_the_nearest_base_comes_first_with_its_look_alikes(bases, drawn, ledger_of_the_test):
    records = private(600)
    found = sfumato.match(
        records, epsilon=8.0, delta=1e-3, bases=bases[::-1], words=["a", "b", "c"], samples=20
    )
    assert [name.rsplit("/", 1)[-1] for name in found.bases] == ["dark", "light"]
    assert found.clear and abs(found.shares[0] - 0.8) < 0.05
    assert found.look_alikes["p"][0] == "a" and found.look_alikes["q"][0] == "b"
    assert found.low[0] < found.shares[0] < found.high[0]
    book = budget.open_ledger(ledger_of_the_test)
    (charged,) = book.chain.entries(Charged)
    assert charged.sort == "match" and charged.events[0]["count"] == 2
    assert charged.epsilon == found.epsilon <= 8.0 and found.total_epsilon == found.epsilon
    (said,) = book.chain.entries(Matched)
    assert list(said.matched) == ["dark", "light"] and list(said.shares) == list(found.shares)
    # what was answered is an output: later runs are composed adaptively with it
    assert book.datasets.group(frozenset({charged.dataset})).released
    told = json.loads(json.dumps(found.to_json()))
    assert told["n_units"] == 600
    assert (told["features"], told["rule"]) == (TODAY.features, TODAY.rule)


def test_a_small_budget_says_that_it_tells_nothing(bases, drawn, monkeypatch):
    # noise that does not change: of a thousand fresh ones, some five would be clear by chance
    monkeypatch.setattr(RunKey, "generate", lambda: RunKey(bytes(range(32))))
    found = sfumato.match(private(40, 0.5), epsilon=0.1, delta=1e-3, bases=bases, samples=10)
    assert not found.clear and found.look_alikes == {} and found.noise_multiplier > 10
    assert found.high[0] - found.low[0] > 1


def test_it_is_charged_before_an_image_is_looked_at(bases, drawn, monkeypatch, ledger_of_the_test):
    def looked(*given):
        book = budget.open_ledger(ledger_of_the_test)
        assert len(book.chain.entries(Charged)) == 1
        raise RuntimeError("looked")

    monkeypatch.setattr(RecordSet, "load", looked)
    with pytest.raises(RuntimeError, match="looked"):
        sfumato.match(private(40), epsilon=1.0, delta=1e-3, bases=bases, samples=10)


def test_a_unit_moves_the_votes_by_one_at_most(bases, drawn, monkeypatch):
    """Units of several images in both classes, each left out in turn."""
    totals = []
    for place in (verb, matching):
        monkeypatch.setattr(
            place,
            "noisy_votes",
            lambda voting, sigma, named, owned, *rest: (
                totals.append(voting.total(named, owned)) or totals[-1]
            ),
        )
    records = private(30, 0.5, units=6)
    pictures = np.random.default_rng(0).integers(0, 255, (40, SIDE, SIDE, 3), dtype=np.uint8)
    asks = [lambda r: verb._words_asked(r, SIDE, pixels(pictures), 4, 1.0, None)]
    for by in (TODAY, FORMER):
        table = by.table_of([by.of_pictures(pictures[:20]), by.of_pictures(pictures[20:])])
        asks.append(lambda r, t=table, by=by: matching.bases_asked(r, SIDE, t, 1.0, None, 0, by))
    for ask in asks:
        totals.clear()
        ask(records)
        for unit in range(6):
            usable = records.unit != unit
            ask(replace(records, usable=usable, array=records.array * usable[:, None, None, None]))
        whole, *rest = totals
        moved = [np.linalg.norm((whole - one).astype(float)) / GRID for one in rest]
        assert 0.9 < max(moved) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": None}, "--epsilon is required"),
        ({"bases": ["glyphs"]}, "at least two public bases"),
        ({"bases": ["glyphs", "glyphs"]}, "each once"),
        ({"bases": ["glyphs", "nowhere"]}, "no base at"),
        ({"words": ["one"]}, "at least two public words"),
        ({"delta": 2.0}, "delta"),
    ],
)
def test_refused_before_the_charge(bases, drawn, change, says, ledger_of_the_test):
    said = {"epsilon": 1.0, "delta": 1e-3, "bases": bases, "samples": 10}
    with pytest.raises(SfumatoError, match=says):
        sfumato.match(private(40), **said | change)
    if ledger_of_the_test.exists():
        assert not budget.open_ledger(ledger_of_the_test).chain.entries(Charged)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"few": {"rare": 2}}, "fewer than"),
        ({"classes": ("Jane Doe", "John Roe"), "few": {}}, "a release would publish them"),
    ],
)
def test_an_answer_names_no_class_that_nobody_declared(
    bases, drawn, made, says, ledger_of_the_test
):
    records = replace(private(40), classes_found=True, **made)
    asked = {"epsilon": 1.0, "delta": 1e-3, "bases": bases, "samples": 10}
    with pytest.raises(DataError, match=says):
        sfumato.match(records, words=["a", "b"], **asked)
    if ledger_of_the_test.exists():
        assert not budget.open_ledger(ledger_of_the_test).chain.entries(Charged)
    # without words no class is looked at
    assert sfumato.match(records, **asked).look_alikes == {}
    declared = replace(records, confirmed=True, few={})
    assert set(sfumato.match(declared, words=["a", "b"], **asked).look_alikes) == {
        *declared.classes
    }


def test_two_names_of_one_base_are_refused_before_the_charge(bases, drawn, tmp_path, monkeypatch):
    """All votes of both would go to the first, which would seem clearly nearest."""
    twin = str(shutil.copytree(bases[0], tmp_path / "twin"))
    monkeypatch.setattr(verb, "charge", None)
    with pytest.raises(SfumatoError, match="are the same base: name it once"):
        sfumato.match(private(40), epsilon=1.0, delta=1e-3, bases=[*bases, twin], samples=10)


def test_after_the_charge_no_base_is_opened_again(bases, drawn, monkeypatch):
    """A folder that goes away meanwhile would cost the budget and leave no answer."""
    charged = []

    def charge(*given):
        charged.append(given)
        monkeypatch.setattr(verb, "base_info", None)
        monkeypatch.setattr(verb, "load_base", None)
        return real(*given)

    real = verb.charge
    monkeypatch.setattr(verb, "charge", charge)
    found = sfumato.match(private(40), epsilon=1.0, delta=1e-3, bases=bases, samples=10)
    assert len(charged) == 1 and len(found.bases) == 2
    wanted = charged[0][5]
    assert wanted["digests"] == [base_info(name).digest for name in bases]
    assert (wanted["samples"], wanted["seed"]) == (10, 0)


def test_a_base_below_the_grid_is_refused_before_the_charge(bases, drawn, monkeypatch):
    monkeypatch.setattr(verb, "base_info", lambda name: replace(base_info(name), resolution=8))
    monkeypatch.setattr(verb, "charge", None)
    with pytest.raises(SfumatoError, match="grid of 16 x 16: leave it out"):
        sfumato.match(private(40), epsilon=1.0, delta=1e-3, bases=bases, samples=10)


def test_the_command_prints_a_ranking(bases, tiny_images, capsys):
    words = ["match", str(tiny_images), "--epsilon", "5", "--delta", "0.001", "--yes-public"]
    words += ["--bases", ",".join(bases), "--samples", "10", "--sampler-steps", "2"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out and "cost: epsilon" in out and "24 units" in out


def test_the_features_do_not_depend_on_the_size_of_a_base():
    picture = np.full((2, 64, 64, 3), 90, np.uint8)
    assert np.allclose(pixels(picture), pixels(picture[:, :32, :32]))
    assert VoteHistogram(2, 1, 1, verb.PIXELS).of_class == 2
