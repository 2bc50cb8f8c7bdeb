"""Drafts and certificates beside the owner's ledger: what was edited after the ledger knew it is
refused, whatever hashes say.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import LedgerFault, SfumatoError
from sfumato.methods import Lora
from sfumato.options import Performance
from sfumato.privacy.ledger.datasets import TERMS_APART, DataSets
from sfumato.privacy.ledger.entries import Certified
from sfumato.releases.certificate import NOT_COMPARED
from sfumato.runs import budget, certified

TRUSTED_GRADIENTS = True


@pytest.fixture(scope="module")
def made(tiny_images, tiny_base, tmp_path_factory):
    """Two runs on the same images, each exported; the first released."""
    top = tmp_path_factory.mktemp("made")
    for name in ("one", "two"):
        run = verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=top / name,
            ledger=top / "book" / "ledger.sqlite",
            epsilon=2.0,
            delta=1e-2,
            base=str(tiny_base),
            method=Lora(rank=1),
            expected_batch_size=4,
            steps=2,
            noise_draws=1,
            performance=Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
        )
        verbs.export(run, top / f"{name}-draft")
    verbs.release(top / "two-draft", out=top / "two-release")
    return top


@pytest.fixture
def top(made, tmp_path):
    """A copy, whose ledger is where the draft says no more."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def edit(path, change):
    facts = json.loads(path.read_text("utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), "utf-8")


def flip(path):
    blob = bytearray(path.read_bytes())
    blob[-5] ^= 1
    path.write_bytes(blob)


def test_a_draft_and_a_release_as_they_were_made_are_confirmed(top):
    book = top / "book" / "ledger.sqlite"
    verbs.release(top / "one-draft", ledger=book, out=top / "one-release")
    for name in ("one", "two"):
        said = certified.check_certificate(
            budget.existing_ledger(book), top / f"{name}-release" / "privacy.json"
        )
        assert not said.missing and f"of run {said.run}" in str(said)
        rows = budget.existing_ledger(book).chain.entries(Certified, said.run)
        assert all(row.outputs for row in rows)  # else totals would be compared by an older rule
        report = verbs.verify(top / f"{name}-release", book)
        assert report.ok and report.checks[-1][:2] == ("ledger", True)
        assert main(["verify", str(top / f"{name}-release"), "--ledger", str(book)]) == 0


def test_a_certificate_says_that_a_run_was_charged_after_an_output(top):
    """The second run, after the first had checkpoints and a model; each draft lists both."""
    facts = json.loads((top / "two-release" / "privacy.json").read_text("utf-8"))
    assert len(facts["ledger"]["charges"]) == 2 and facts["ledger"]["adaptive"] is True
    first = json.loads((top / "one-draft" / "synthesis.json").read_text("utf-8"))["certificate"]
    assert len(first["ledger"]["charges"]) == 1 and first["ledger"]["adaptive"] is False


def test_a_sum_over_other_terms_is_named_and_not_called_altered(top, monkeypatch):
    """Earlier versions stated one; no row of theirs was edited."""
    monkeypatch.setattr(DataSets, "unclear", lambda *_: TERMS_APART)
    book = budget.existing_ledger(top / "book" / "ledger.sqlite")
    with pytest.raises(LedgerFault, match="holds for none of them: synthesize or export again"):
        certified.check_certificate(book, top / "two-release" / "privacy.json")


def certificate(change):
    return lambda draft: change(draft["certificate"])


DRAFTS = {
    "unit": certificate(
        lambda c: c.update(unit="patient", statement=c["statement"].replace("record", "patient"))
    ),
    "relation": certificate(lambda c: c.update(relation="add-remove")),
    "delta": certificate(lambda c: c.update(delta=1e-6)),
    "epsilon": certificate(lambda c: c.update(epsilon=0.1)),
    "events": certificate(lambda c: c["events"][0].update(noise_multiplier=50.0)),
    "charges": certificate(lambda c: c["ledger"]["charges"].pop()),
    "total": certificate(lambda c: c["ledger"].update(total_epsilon=0.5)),
    "cap": certificate(lambda c: c["ledger"].update(cap=1.0)),
    "resets": certificate(
        lambda c: c["ledger"].update(resets=[{"row": 1, "utc": "", "missing_rows": 1}])
    ),
    "attempts": certificate(lambda c: c["ledger"].update(attempts=7)),
    "opt-ins": certificate(lambda c: c["not_private"].update(internal_evaluations=["none"])),
    "a file's hash": (
        lambda draft: draft["files"].update({name: "0" * 64 for name in draft["files"]})
    ),
    "another run": certificate(lambda c: c["ledger"].update(run="0011223344556677")),
    "no run": certificate(lambda c: c["ledger"].pop("run")),
    "a list as run": certificate(lambda c: c["ledger"].update(run=[1])),
}


@pytest.mark.parametrize("what", DRAFTS)
def test_an_edited_draft_is_not_finished(top, what):
    draft, book = top / "two-draft", top / "book" / "ledger.sqlite"
    edit(draft / "synthesis.json", DRAFTS[what])
    with pytest.raises(
        SfumatoError,
        match="not a draft that the ledger certified|does not know the run|cannot be read",
    ):
        verbs.release(draft, ledger=book)
    assert not (draft / "privacy.json").exists()


def test_another_runs_draft_does_not_cover_these_files(top):
    draft, book = top / "two-draft", top / "book" / "ledger.sqlite"
    shutil.copy(top / "one-draft" / "synthesis.json", draft / "synthesis.json")
    with pytest.raises(SfumatoError, match="not the file that was synthesized or exported"):
        verbs.release(draft, ledger=book)


RELEASES = {
    "unit": lambda c: c.update(unit="patient"),
    "relation": lambda c: c.update(relation="add-remove"),
    "delta": lambda c: c.update(delta=1e-6),
    "epsilon": lambda c: c.update(epsilon=0.1),
    "events": lambda c: c["events"][0].update(noise_multiplier=50.0),
    "charges": lambda c: c["ledger"]["charges"].pop(),
    "total": lambda c: c["ledger"].update(total_epsilon=0.5),
    "cap": lambda c: c["ledger"].update(cap=1.0),
    "order of plans": lambda c: c["ledger"].update(adaptive=not c["ledger"]["adaptive"]),
    "resets": lambda c: c["ledger"].update(resets=[{"row": 1, "utc": "", "missing_rows": 1}]),
    "replays": lambda c: c["ledger"].update(replays=1),
    "key": lambda c: c["ledger"].update(run_key_id="00"),
    "head": lambda c: c["ledger"].update(head="0" * 64),
    "a sentence": lambda c: c["conditions"].update(base_data="public"),
    "an opt-in taken out": lambda c: c["not_private"].update(internal_evaluations=["x"]),
    "a file": lambda c: c["artefacts"].update({"pytorch_lora_weights.safetensors": "0" * 64}),
    "a file more": lambda c: c["artefacts"].update({"loda_weights.safetensors": "0" * 64}),
}


@pytest.mark.parametrize("what", RELEASES)
def test_an_edited_certificate_is_not_the_ledgers(top, what):
    path = top / "two-release" / "privacy.json"
    edit(path, RELEASES[what])
    book = budget.existing_ledger(top / "book" / "ledger.sqlite")
    with pytest.raises(LedgerFault):
        certified.check_certificate(book, path)


def test_an_edited_certificate_is_refused_by_show_and_by_verify(top):
    path, book = top / "two-release" / "privacy.json", top / "book" / "ledger.sqlite"
    assert main(["ledger", "show", "--against", str(path), "--ledger", str(book)]) == 0
    edit(path, RELEASES["unit"])
    assert main(["ledger", "show", "--against", str(path), "--ledger", str(book)]) == 13
    name, passed, why = verbs.verify(top / "two-release", book).checks[-1]
    assert (name, passed) == ("ledger", False) and "another unit" in why


@pytest.mark.parametrize("text", ["{}", "x", "[]", '{"ledger": 1}', '{"ledger": {"entries": "1"}}'])
def test_what_is_no_certificate(top, text):
    (top / "privacy.json").write_text(text)
    with pytest.raises(SfumatoError, match="not a certificate"):
        certified.check_certificate(
            budget.existing_ledger(top / "book" / "ledger.sqlite"), top / "privacy.json"
        )


def test_a_row_without_the_certificates_hash_says_what_was_not_compared(top, monkeypatch):
    """Rows of older versions name the draft alone; the rest is compared all the same."""
    book = budget.existing_ledger(top / "book" / "ledger.sqlite")
    for row in book.chain.of("CERTIFY"):
        row.body.pop("certificate"), row.body.pop("files")
    path = top / "two-release" / "privacy.json"
    assert "but the certificate's own hash was not compared" in str(
        certified.check_certificate(book, path)
    )
    edit(path, RELEASES["unit"])
    with pytest.raises(LedgerFault, match="another unit"):
        certified.check_certificate(book, path)


def test_a_certificate_that_the_ledger_never_certified(top):
    """Drafted, and then the process died: there is a draft, and no row."""
    book = budget.existing_ledger(top / "book" / "ledger.sqlite")
    book.chain._by_run[next(row.run_id for row in book.chain.of("CERTIFY"))].clear()
    for row in list(book.chain.of("CERTIFY")):
        book.chain._by_run[row.run_id] = [
            r for r in book.chain.of_run(row.run_id) if r.kind != "CERTIFY"
        ]
    with pytest.raises(LedgerFault, match="certified nothing of this run"):
        certified.check_certificate(book, top / "two-release" / "privacy.json")


def test_without_its_ledger_a_draft_is_finished_only_when_asked(top, made):
    draft = top / "two-draft"
    os.rename(made / "book", made / "gone")
    try:
        with pytest.raises(LedgerFault, match="not there to compare .*--without-ledger"):
            verbs.release(draft)
        assert main(["release", str(draft)]) == 13
        budget.open_ledger(top / "empty" / "ledger.sqlite").close()
        with pytest.raises(LedgerFault, match="does not know the run"):
            verbs.release(draft, ledger=top / "empty" / "ledger.sqlite")
        assert main(["release", str(draft), "--without-ledger"]) == 0
    finally:
        os.rename(made / "gone", made / "book")
    facts = json.loads((draft / "privacy.json").read_text())
    assert (
        NOT_COMPARED in facts["not_private"]["opt_ins"]
        and NOT_COMPARED in (draft / "PRIVACY.md").read_text()
    )
    # The note itself is no edit: where the ledger is found again, it holds the certificate.
    assert verbs.verify(draft, top / "book" / "ledger.sqlite").ok
