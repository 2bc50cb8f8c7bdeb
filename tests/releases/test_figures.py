"""Every page of a release says the figures of privacy.json, each once; an edited page is found out
though its hashes were made anew.
"""

from __future__ import annotations

import json
import re

import pytest

from sfumato.releases import consistency, write_release
from sfumato.releases.figures import EARLIER_PAGES, PAGES, tables
from sfumato.releases.pages import CROISSANT, check_figures, of_html, of_markdown
from sfumato.releases.statements import KEY_KEPT, LATER, looks_facts


def wrong(release, facts=None) -> set[str]:
    """Names of the pages that do not agree."""
    facts = facts or json.loads((release / "privacy.json").read_text())
    return {
        name
        for name in (*PAGES, CROISSANT)
        for _, passed, _ in check_figures(release, name, facts)
        if not passed
    }


def test_all_pages_carry_all_tables(finished):
    facts = json.loads((finished / "privacy.json").read_text())
    assert not wrong(finished) and facts["figures_on"] == list(PAGES)
    wanted = [row for table in tables(facts).values() for row in table[1:]]
    assert {row[0] for row in wanted} >= {
        "epsilon",
        "delta",
        "Unit of privacy",
        "Relation",
        "Slots in the data",
        "0.1 %",
    }
    for name in PAGES:
        text = (finished / name).read_text()
        rows = (of_html if name.endswith("html") else of_markdown)(text)[0]
        for row in wanted:
            assert sum(found[0] == row[0] and len(found) == len(row) for found in rows) == 1, (
                name,
                row,
            )


EDITS = [
    ("README.md", r"epsilon = [\d.]+", "epsilon = 0.1"),
    ("README.md", r"delta = [\d.e-]+", "delta = 1e-09"),
    ("README.md", r"unit of privacy: one record", "unit of privacy: everything of one owner"),
    ("README.md", r"relation: zero-out", "relation: replace-one"),
    ("README.md", r"\| epsilon \| [\d.]+ \|\n\| delta", "| epsilon | 0.1 |\n| delta"),
    (
        "README.md",
        r"\| Noise, in units of what one unit can add \| 2 \|",
        "| Noise, in units of what one unit can add | 20 |",
    ),
    ("README.md", r"\| Slots in the data \| 1,000 \|\n", ""),
    ("README.md", r"\| 1 % \| ([\d.]+) % \|", "| 1 % | 1.00 % |"),
    ("README.md", r"\| 1 % \| ([\d.]+) % \|", r"| 1 % | \1 % |\n| 0.5 % | 0.50 % |"),
    ("README.md", r"\Z", "\nOur own auditors found epsilon 0.02.\n"),
    ("README.md", r"\Z", "\n<!-- ε: 0.02 -->\n"),
    ("README.md", r"Looks at exact private scores \| 0", "Looks at exact private scores | none"),
    ("PRIVACY.md", r"\| delta \| [\d.e-]+ \|", "| delta | 1e-08 |"),
    ("PRIVACY.md", r"\Z", "\nTogether with this run they cost epsilon 0.5.\n"),
    (
        "report.html",
        r'<span class="figure">[\d.]+</span><small>at ',
        '<span class="figure">0.1</span><small>at ',
    ),
    ("report.html", r"(at <a [^>]*>delta</a>) [\d.e-]+", r"\1 1e-12"),
    ("report.html", r'epsilon</a></td><td class="n">[\d.]+', 'epsilon</a></td><td class="n">0.1'),
    (
        "report.html",
        r'<td><a class="word" href="#word-delta">delta</a></td>',
        '<td>epsilon</td><td class="n">0.1</td></tr><tr><td>delta</td>',
    ),
    ("report.html", r'<td>10 %</td><td class="n">[\d.]+', '<td>10 %</td><td class="n">10.00'),
    ("report.html", r"</main>", "<p>Measured: &epsilon; is 0.1</p></main>"),
    ("PRIVACY.html", r"\([\d.]+, 1e-05\)-differential", "(0.1, 1e-05)-differential"),
    ("PRIVACY.html", r"delta</a></td>\n<td>1e-05", "delta</a></td>\n<td>1e-09"),
    ("PRIVACY.html", r"<td>1,000</td>", "<td>100,000</td>"),
    ("PRIVACY.html", r"<td>1 %</td>\n<td>[\d.]+", "<td>1 %</td>\n<td>1.00"),
    ("PRIVACY.html", r"</main>", "<p>Together they cost epsilon 0.02</p></main>"),
    ("croissant.json", r"epsilon = [\d.]+", "epsilon = 0.1"),
]


@pytest.mark.parametrize(
    ("page", "old", "new"), EDITS, ids=[f"{row[0]}-{i}" for i, row in enumerate(EDITS)]
)
def test_an_edited_page_is_found_out(copy, page, old, new):
    path = copy / page
    before = path.read_text()
    path.write_text(re.sub(old, new, before, count=1))
    assert path.read_text() != before and wrong(copy) == {page}


def test_a_certificate_that_disowns_its_pages_or_numbers_fails(copy):
    facts = json.loads((copy / "privacy.json").read_text())
    assert wrong(copy, {**facts, "figures_on": ["PRIVACY.md"]}) == set(PAGES)
    # a release of before: its prose alone is checked
    assert wrong(copy, {**facts, "figures_on": []}) == set()
    (copy / "README.md").write_text(
        (copy / "README.md").read_text().replace(f"epsilon = {facts['epsilon']:g}", "epsilon = 0.1")
    )
    assert wrong(copy, {**facts, "figures_on": []}) == {"README.md"}


def test_a_release_of_before_the_page_to_print_still_agrees_and_a_later_one_needs_it(copy):
    facts = json.loads((copy / "privacy.json").read_text())
    (copy / "PRIVACY.html").unlink()
    earlier = {**facts, "figures_on": list(EARLIER_PAGES)}
    found = [name for page in PAGES for name, _, _ in check_figures(copy, page, earlier)]
    assert found == [f"figures of {name}" for name in EARLIER_PAGES]
    failed = {name for name, passed, _ in consistency.checks(copy) if not passed}
    assert failed == {"figures of PRIVACY.html"}
    (copy / "PRIVACY.html").write_text("<p>It cost epsilon 0.1 only</p>")
    assert wrong(copy, earlier) == {"PRIVACY.html"}


def test_looks_key_inputs_and_later_runs_stand_on_every_page(kit, tmp_path):
    conditions = {"base_data": "public glyphs", "looks": looks_facts(3), "key_kept": True}
    out = write_release(
        kit.images(tmp_path / "s"), tmp_path / "r", **kit.facts(conditions=conditions)
    )
    facts = json.loads((out / "privacy.json").read_text())
    assert (
        facts["ledger"]["key_kept"] is True
        and facts["looks"]["exact"] == 3
        and KEY_KEPT in facts["not_private"]["opt_ins"]
    )
    assert LATER in facts["conditions"]["not_covered"]
    for name in PAGES:
        text = re.sub(r"<[^>]+>", "", (out / name).read_text())
        assert "Chosen after 3 looks at exact private scores; the choice is not covered." in text, (
            name
        )
        assert KEY_KEPT in text.replace("&#39;", "'") and "after this certificate" in text, name
    assert wrong(out, {**facts, "looks": looks_facts(2)}) == set(PAGES)
    from sfumato.releases.cards import statement
    from sfumato.releases.contents import Contents

    facts["public_facts"]["public_inputs"] = [
        {"what": "images", "count": 20, "digest": "0a1b2c", "decided": "where the adapters start"}
    ]
    page = statement(facts, Contents("images", []), title="t", licence="other")
    assert (
        "- images: 20 with the keyed digest 0a1b2c, which decided where the adapters start." in page
    )


def test_looks_are_counted_from_none():
    assert looks_facts(0)["statement"].startswith("No look at exact private scores is recorded")
    assert (
        "1 look at" in looks_facts(1)["statement"]
        and "1,200 looks" in looks_facts(1200)["statement"]
    )
    for number in (-1, True, 1.0):
        with pytest.raises(ValueError, match="counted"):
            looks_facts(number)
