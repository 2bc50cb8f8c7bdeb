"""Runs, their ledger and a release that commit 95a3589 made: they open with this code, and what is
said of them is the same to the byte, but for totals, which count more outputs of earlier runs.

The folder `made_by_95a3589` holds four runs on a tiny base (a probe with a replay and a paid second
attempt, an inversion with exact controls, an adapter that public images start, one on overlapping
images), the ledger of all with a cap, a look, an audit and a selection, and one release. Beside
them, in that commit's words: `bodies.json`, all rows; `facts.json`, what certificates were built
from; `certificates.json`, the certificates.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from sfumato.errors import LedgerFault, SfumatoError
from sfumato.privacy.ledger import entries, notes
from sfumato.privacy.ledger.entries import Entry
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.rows import canonical
from sfumato.releases import DRAFT, build_privacy_json
from sfumato.runs import budget, certified
from sfumato.runs.facts import certificate_facts
from sfumato.runs.folder import Run
from sfumato.runs.looks import looks_since

FINE_PRICES = True

MADE = Path(__file__).with_name("made_by_95a3589")
RUNS = ("saliency", "inversion", "lora", "overlap")
SETTINGS = {"scheduler": "x", "steps": 3, "n": 6, "resolution": 16, "class_shares": "uniform"}
SORTS = [
    sort
    for module in (entries, notes)
    for sort in vars(module).values()
    if isinstance(sort, type)
    and issubclass(sort, Entry)
    and hasattr(sort, "KIND")
    and sort is not notes.Note
]
# Rows that no such run has, as that commit wrote them.
MORE = [
    ["RESET", {"rows": 3, "missing": 2, "noted": ["ab"]}],
    ["RESET", {"rows": 3, "missing": None, "noted": [], "unwitnessed": True}],
    ["RESET", {"rows": 3, "missing": 0, "noted": [], "run": "ab", "older": "folder"}],
    ["DISK", {"file_system": "nfs"}],
    ["NOTE", {"format": 2, "before": 1, "rows": 7}],
    ["NOTE", {"made": "checkpoint", "tensors": ["ab"]}],
    ["NOTE", {"checkpoint": 3, "attempt": 0, "sha256": "ee"}],
    ["NOTE", {"model": "aa", "attempt": 0}],
    ["CERTIFY", {"draft": "aa", "key_kept": False}],
    ["CAP", {"datasets": ["a"], "before": 2.0, "epsilon": 3.0}],
]

# Facts that came later, which an older run has not.
LATER = ("base_licence", "base_data", "not_covered", "held_out", "stopped", "timed")
LATER += ("base_vote", "afterwards")


def bodies() -> list:
    return json.loads((MADE / "bodies.json").read_text()) + MORE


def sort_of(kind: str, body: dict) -> type[Entry]:
    """The most particular sort of a row: of charges the one that stands in the ledger."""
    found = [sort for sort in SORTS if sort.is_in(kind, body)]
    return max(found, key=lambda sort: len(sort.__mro__))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.runs.facts.code_version", lambda: "0+test")
    made = shutil.copytree(MADE, tmp_path / "made")
    (made / "book" / "ledger.sqlite.key").chmod(0o600)  # a checkout does not keep it
    return made


def opened(world: Path, name: str) -> Run:
    return Run.open(world / name, world / "book" / "ledger.sqlite")


def test_every_row_is_an_entry_and_the_same_bytes_again():
    seen = set()
    for kind, body in bodies():
        sort = sort_of(kind, body)
        assert canonical(sort.of_body(body).to_body()) == canonical(body), (kind, body)
        seen.add(sort)
    later = {notes.Shown, notes.Stopped, notes.Matched, notes.MomentsMade}
    assert set(SORTS) - seen - later == {entries.Charge}  # is asked for; `Charged` is the row


def test_every_note_is_of_one_sort():
    for kind, body in bodies():
        found = [sort for sort in SORTS if sort.is_in(kind, body)]
        alone = [s for s in found if not any(t is not s and issubclass(t, s) for t in found)]
        assert len(alone) == 1, (kind, body)


def test_a_row_that_lacks_a_word_is_refused_and_a_later_word_is_passed_over():
    body = {"attempt": 0, "from_step": 3}
    assert entries.Replayed.of_body(body | {"later": 1}).from_step == 3
    with pytest.raises(LedgerError, match="a REPLAY row lacks what it must say"):
        entries.Replayed.of_body({"attempt": 0})


def test_the_ledger_reads_as_it_was_written(world):
    book = budget.open_ledger(world / "book" / "ledger.sqlite")
    rows = json.loads((world / "bodies.json").read_text())
    assert [[row.kind, row.body] for row in book.rows] == rows
    book.verify_records()


def replace_total(run: Run, said: dict) -> None:
    """Puts the total of that commit's rule in place of today's, which is no lower."""
    group = run.ledger.ledger.datasets.group(run.group().datasets, former=True)
    was = budget.cost(group) if len(group.charges) > 1 else run.plan.epsilon
    assert said["total_epsilon"] >= was
    said["total_epsilon"] = was
    assert said.pop("adaptive") == run.group().adaptive  # what format 1 did not say


@pytest.mark.parametrize("name", RUNS)
def test_the_facts_of_a_certificate_are_the_same_bytes(world, name):
    known = json.loads((world / "facts.json").read_text())[name]
    known |= known.pop("conditions")
    assert known.pop("place") == "-"
    run = opened(world, name)
    found = asdict(certificate_facts(run))
    replace_total(run, found["ledger"])
    found["public_inputs"] = [dict(row) for row in found["public_inputs"]]
    assert not any(found.pop(later) for later in LATER)
    assert bool(found.pop("token_starts")) == (name == "inversion")  # said since format 2
    as_text = {name: json.dumps(value, sort_keys=True) for name, value in found.items()}
    assert as_text == {name: json.dumps(value, sort_keys=True) for name, value in known.items()}


@pytest.mark.parametrize("name", RUNS)
def test_the_certificate_is_the_same_bytes(world, name):
    known = json.loads((world / "certificates.json").read_text())[name]
    run = opened(world, name)
    found = build_privacy_json(certificate_facts(run), SETTINGS)
    replace_total(run, found["ledger"])
    assert found["format"] == "sfumato-privacy/2"
    found["format"] = known["format"]
    assert bool(found["public_facts"].pop("token_starts", None)) == (name == "inversion")
    found["figures_on"].remove("PRIVACY.html")  # a page that came later
    assert json.dumps(found, indent=1) == json.dumps(known, indent=1)


def test_the_release_verifies_with_the_ledger(world):
    report = certified.verify(world / "pictures", world / "book" / "ledger.sqlite")
    assert report.ok, report.failed


def test_a_release_whose_total_counted_fewer_outputs_verifies_and_is_told_so(world):
    """Its CERTIFY row says no `outputs`; one of today with that total would be an altered one."""
    book = budget.open_ledger(world / "book" / "ledger.sqlite")
    place = world / "pictures" / "privacy.json"
    assert certified.FEWER in str(certified.check_certificate(book, place))
    with pytest.raises(LedgerFault, match="states another total epsilon"):
        certified._compare(book, json.loads(place.read_text()), False)


def test_a_draft_of_an_earlier_version_with_too_low_a_total_is_not_released(world):
    """Its certificate would be the first that somebody else sees."""
    claim = json.loads((world / "pictures" / "privacy.json").read_text())
    draft = {"certificate": claim, "ledger": str(world / "book" / "ledger.sqlite")}
    (world / DRAFT).write_text(json.dumps(draft))
    with pytest.raises(SfumatoError, match="counted fewer outputs .*: synthesize or export again"):
        looks_since(world)
    claim["ledger"]["total_epsilon"] = 1e6
    (world / DRAFT).write_text(json.dumps(draft))
    assert set(looks_since(world)) == {"looks", "selections"}
