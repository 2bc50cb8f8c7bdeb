"""What was charged cannot come in as public, and what came in as public cannot be charged: images,
captions, weights.
"""

from __future__ import annotations

import base64
import hashlib
import math
import sqlite3

import pytest

from sfumato.privacy.events import Gaussian, to_json
from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.datasets import FOREIGN
from sfumato.privacy.ledger.ledger import Ledger, LedgerError
from sfumato.privacy.ledger.public import EACH, MOST, SHORT, PublicInput, copies, plain_words
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.runs import budget

A, B, C, D = (bytes([n]) * 32 for n in range(1, 5))
TERMS = {"unit": "record", "relation": "zero-out", "delta": 1e-5}
EVENTS = to_json((Gaussian(5.0, 1),))
HOW = "where the adapters start"


def added(charges, released):
    return sum(charge["epsilon"] for charge in charges)


def charge(ledger, run, images, epsilon=1.0, public=(), captions=(), price=added, **more):
    RunLedger(ledger, run).append("PLAN", {"digest": run})
    body = {"events": EVENTS, "epsilon": epsilon, **TERMS, **more}
    return ledger.charge(
        run,
        ledger.identify(images),
        body,
        price,
        public=[PublicInput(HOW, tuple(public))] if public else (),
        captions=ledger.public.caption_keys(captions),
    )


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite")


def test_an_image_is_on_one_side_for_ever(ledger):
    charge(ledger, "first", [A, B], public=[C])
    assert [ledger.public.charged(ledger.identify(images)) for images in ([A, C, D], [C, D])] == [
        1,
        0,
    ]
    with pytest.raises(OverBudget, match="1 images that are taken as public were charged"):
        charge(ledger, "second", [D], public=[C, B])
    for images in ([C], [D, C]):
        with pytest.raises(OverBudget, match="1 of these images were taken as public before"):
            charge(ledger, f"third-{len(images)}", images)
    assert [row.run_id for row in ledger.chain.of("CHARGE")] == ["first"], (
        "nothing was charged for a refusal"
    )
    charge(ledger, "fourth", [D], public=[C])  # the same public images again
    assert ledger.public.taken(ledger.identify([C])) == 1
    again = Ledger(ledger.path)
    again.verify_records()
    with pytest.raises(OverBudget, match="taken as public before"):
        charge(again, "fifth", [C])


@pytest.mark.parametrize("files", [[b"a" * 32, b"b" * 32], [b"x" * 32, b"y" * 32]])
def test_no_image_of_a_run_is_public_in_that_run(ledger, files):
    """By pixels, or by the file that a crop or another frame of it comes from."""
    own, shares = ledger.identify([A, B], files), files[1] == b"b" * 32
    seen = PublicInput(HOW, (C, D) if shares else (C, B), (b"c" * 32, b"b" * 32))
    RunLedger(ledger, "run").append("PLAN", {"digest": "run"})
    body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
    with pytest.raises(OverBudget, match="1 images that are taken as public were charged"):
        ledger.charge("run", own, body, added, public=[seen])
    assert not ledger.chain.of("CHARGE") and not ledger.chain.of("PUBLIC")


def test_the_row_tells_no_image_and_is_bound_to_its_table(ledger):
    charge(ledger, "run", [A], public=[B, C], captions=["a red coat"])
    rows = ledger.chain.of("PUBLIC", "run")
    assert len(rows) == 1
    row = rows[0]
    assert {k: row.body[k] for k in ("what", "count", "decided")} == {
        "what": "images",
        "count": 2,
        "decided": HOW,
    }
    assert row.seq < ledger.chain.of("CHARGE")[0].seq, (
        "it stands before anything is read for training"
    )
    told = "\n".join(ledger.export())
    for secret in (B, ledger.keyed(B), ledger.public.caption_keys(["a red coat"])[0]):
        assert secret.hex() not in told
    assert "red coat" not in told and row.body["digest"] in told
    db = sqlite3.connect(ledger.path)
    db.execute("DELETE FROM known WHERE hmac = ?", [ledger.keyed(B)])
    db.commit()
    with pytest.raises(LedgerError, match="table of public images and captions is damaged"):
        ledger.verify_records()


def test_public_images_make_no_group(ledger):
    """Two runs that look at the same public images share no private one."""
    charge(ledger, "first", [A], public=[C])
    charge(ledger, "second", [B], public=[C])
    assert [len(group.charges) for group in ledger.groups()] == [1, 1]


SPELLINGS = (
    "A red  Coat",
    "a RED coat.",
    "ａ ｒｅｄ ｃｏａｔ",
    "a re\u200bd coat",
    "a-red-coat",
    "a red coat\ufe0f\u00ad",
)


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_caption_is_known_in_any_spelling(ledger, text):
    charge(ledger, "run", [A], captions=["a red coat", "", "Müller", "cat"])
    assert (
        ledger.public.captions([text]) == 1
        and ledger.public.captions(["a blue coat", "coat", ""]) == 0
    )
    assert ledger.public.captions(["mu\u0308ller"]) == 1 and ledger.public.captions(["muller"]) == 1
    assert (
        ledger.public.captions(["cat"]) == 1
        and ledger.public.captions(["cat"], beside=["Cat"]) == 0
    )


def test_words_are_what_spellings_share():
    assert (
        plain_words("  Naïve\tCAFÉ!") == "naïve café"
        and plain_words("?!") == ""
        and plain_words("Straße") == "strasse"
    )


def blocks(n, start=0):
    return [hashlib.sha256(b"%d" % i).digest() for i in range(start, start + n)]


def test_weights_are_known_by_their_maker(ledger):
    charge(ledger, "run", [A])
    made = blocks(40)
    RunLedger(ledger, "run").append(
        "NOTE", {"made": "model", "blocks": ledger.public.block_codes([made[:30], made[30:]])}
    )
    assert ledger.public.makers([*made, C]) == {content: {("run", "model")} for content in made}
    # Rows of earlier versions hold one hash of a whole tensor.
    RunLedger(ledger, "run").append(
        "NOTE", {"made": "checkpoint", "tensors": [ledger.public.tensor_key(B)]}
    )
    assert ledger.public.makers({B: "unet.weight", C: "other"}) == {B: {("run", "checkpoint")}}


def test_of_a_large_tensor_the_key_decides_which_blocks_are_noted(ledger, tmp_path):
    """Nobody without the key knows which blocks to edit, and no tensor is left out for another's
    sake.
    """
    large, small = blocks(1000), [[content] for content in blocks(200, 5000)]
    charge(ledger, "run", [A])

    def noted(book, most=MOST):
        codes = base64.b64decode(book.public.block_codes([large, *small], most))
        known = {book.public._block_key(content): content for content in (*large, *sum(small, []))}
        return {known[codes[i : i + SHORT]] for i in range(0, len(codes), SHORT)}

    mine = noted(ledger)
    assert len(mine & set(large)) == EACH and {c for (c,) in small} <= mine
    assert (
        noted(ledger, 201) == {c for (c,) in small} | (noted(ledger, 201) & set(large))
        and len(noted(ledger, 201)) == 201
    )
    other = noted(Ledger(tmp_path / "other" / "other.sqlite"))
    assert len(mine & other & set(large)) < EACH // 2


def foreign(run="theirs", epsilon=2.0, **terms):
    cost = {"run": run, "epsilon": epsilon, "events": EVENTS, **TERMS, **terms}
    return {
        "run": run,
        "owner": "another owner",
        "through": "base",
        "epsilon": epsilon,
        **TERMS,
        "charges": [cost],
    }


def test_what_a_base_has_cost_others_is_in_the_total(ledger):
    assert charge(ledger, "first", [A], lineage=[foreign()]).body["total"] == 3.0
    # A later run on these images composes with it as well, once, whatever its own base is.
    assert charge(ledger, "second", [A, B], lineage=[foreign()]).body["total"] == 4.0
    group = ledger.group(ledger.identify([A]))
    assert (
        [c["run"] for c in group.charges] == ["first", "second", "theirs"]
        and group.adaptive
        and group.terms == TERMS
    )
    assert charge(ledger, "apart", [D]).body["total"] == 1.0
    ledger.set_cap(ledger.identify([C]), 2.5)
    with pytest.raises(OverBudget, match="come to 3.000"):
        charge(ledger, "third", [C], lineage=[foreign()])


@pytest.mark.parametrize(
    "terms", [{"unit": "patient"}, {"relation": "replace-one"}, {"unit": None}]
)
def test_another_unit_or_relation_gives_no_total(ledger, terms):
    assert charge(ledger, "same", [C], lineage=[foreign()], price=budget.price).body["total"] > 1.0
    assert (
        charge(ledger, "run", [A], lineage=[foreign(**terms)], price=budget.price).body["total"]
        is None
    )
    group = ledger.group(ledger.identify([A]))
    assert group.unclear == FOREIGN and budget.cost(group) == math.inf
    ledger.set_cap(ledger.identify([B]), 50)
    with pytest.raises(OverBudget, match="no total can be held against it"):
        charge(ledger, "capped", [B], lineage=[foreign(**terms)], price=budget.price)


def test_units_that_cannot_be_compared_give_no_total(ledger):
    """A column of the same name may sort the same images in another way."""
    own = {"unit": "patient", "lineage": [foreign(unit="patient")]}
    assert charge(ledger, "run", [A], price=budget.price, **own).body["total"] is None


def test_an_image_is_known_by_its_file_too(ledger):
    """Another decoder is not another picture."""
    files = [b"f" * 32]
    RunLedger(ledger, "run").append("PLAN", {"digest": "run"})
    body = {"events": EVENTS, "epsilon": 1.0, **TERMS}
    seen = PublicInput(HOW, (B,), (b"g" * 32,))
    ledger.charge("run", ledger.identify([A], files), body, added, public=[seen])
    assert ledger.public.charged(ledger.identify([D], files)) == 1
    with pytest.raises(OverBudget, match="taken as public before"):
        ledger.require_untaken(ledger.identify([D], [b"g" * 32]))


def test_a_caption_is_found_however_it_is_spelt_and_inside_a_longer_text(ledger):
    said = ["Eve c 1", "CT-scan 3 left", "Don't Işıl", "a dog"]
    charge(ledger, "first", [A], captions=said)
    same = ["E.ve c1", "EVE C 1!", "CTscan3left", "dont ışıl", "DONT IŞIL", "dón't isil", "A  dog."]
    held = ["x Eve c 1", "photo of: eve (c.1) at night", "my CTscan3 left arm"]
    # two words stand in ordinary prompts
    free = ["", "Eve c", "a dog on a mat", "left CT-scan 3", "Eve c 12"]
    for count in (ledger.public.captions, lambda texts: copies(texts, said)):
        assert [count([text]) for text in same + held + free] == [1] * 10 + [0] * 5
        assert count(same + free) == len(same)
    assert ledger.public.captions(["Eve c 1"], ["eve c1"]) == 0  # public words are public
    Ledger(ledger.path).verify_records()


def test_each_of_several_captions_of_an_image_is_one(ledger):
    said = ["a dog named Rex\nEve c 1", "a cat"]
    charge(ledger, "first", [A], captions=said)
    for count in (ledger.public.captions, lambda texts: copies(texts, said)):
        found = [count([text]) for text in ("Eve c 1", "A dog named Rex!", "Rex", "a cat")]
        assert found == [1, 1, 0, 1]
    assert copies(["circle"], ["circle\nEve c 1"], ["circle"]) == 0  # public words are public


def test_captions_of_older_ledgers_are_found(ledger, monkeypatch):
    """They were kept as words alone: equal words are found as before, and in longer texts too."""
    old = ledger.keyed(b"caption\0" + plain_words("Eve, c 1").encode())
    monkeypatch.setattr(ledger.public, "caption_keys", lambda texts, beside=(): [old])
    charge(ledger, "first", [A], captions=["Eve, c 1"])
    monkeypatch.undo()
    assert [
        ledger.public.captions([text]) for text in ("eve c 1", "a photo of Eve: c-1!", "evec1")
    ] == [1, 1, 0]
