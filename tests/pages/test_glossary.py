import re
import runpy
from pathlib import Path

from sfumato.pages.glossary import WORDS, definitions, linked, released

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_from_the_words():
    made = runpy.run_path(str(ROOT / ".ci" / "glossary"))["page"]()
    assert (ROOT / "docs" / "glossary.md").read_text("utf-8") == made, (
        ".ci/glossary > docs/glossary.md"
    )


def test_no_meaning_holds_a_figure_that_a_verifier_would_take_for_a_claim():
    assert not [word.term for word in WORDS if re.search(r"\d", word.meaning)]


def test_the_words_that_new_users_stumbled_over_are_explained():
    terms = {word.term for word in WORDS}
    assert terms >= {
        *("anchor", "residual", "radius", "slot", "cosine", "look-alikes", "PLD", "mu", "zero-out"),
        *("replace-one", "add-remove", "trained numbers", "sampling rate", "noise multiplier"),
        *("look", "unit", "relation", "epsilon", "delta", "base", "ledger"),
    }


def test_every_link_has_its_definition():
    text = " ".join(word.term for word in WORDS)
    targets = re.findall(r'href="#([^"]+)"', linked(text))
    own = definitions(released())
    assert len(set(targets)) == len(targets) > 15
    assert all(f'id="{target}"' in own for target in targets)


def test_a_word_is_linked_once_in_any_form_and_the_rest_is_escaped():
    text = linked("Units & slots, units; a unitary <b>", "report.html")
    assert text == (
        '<a class="word" href="report.html#word-unit">Units</a> &amp;'
        ' <a class="word" href="report.html#word-slot">slots</a>, units; a unitary &lt;b&gt;'
    )
    assert linked("the noise multiplier", known={"noise multiplier"}) == "the noise multiplier"


def test_longer_words_win_over_those_inside_them():
    assert 'href="#word-zero-out"' in linked("zero-out") and linked("zeros") == "zeros"
    assert "mu" in linked("much") and "href" not in linked("much look at this base camp")
