"""The figures of a release, taken from its certificate once.

README.md, PRIVACY.md, PRIVACY.html and report.html print these tables, and `verify` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sfumato.options import parse
from sfumato.pages.glossary import linked
from sfumato.pages.odds import percent_up

PAGES = ("README.md", "PRIVACY.md", "PRIVACY.html", "report.html")
# of releases from before the page that prints
EARLIER_PAGES = ("README.md", "PRIVACY.md", "report.html")
RELATIONS = {
    "zero-out": (
        "two data sets are neighbours when everything one unit contributes to the first is replaced"
        " by nothing in the second; the number of slots is public"
    ),
    "add-remove": "two data sets are neighbours when the second lacks one unit of the first",
    "replace-one": (
        "two data sets are neighbours when one unit of the first is another unit in the second"
    ),
}
CELL, SHORT = ' class="n"', 48  # figures stand to the right and do not wrap; sentences do
UNIT, RELATION, LOOKS = "Unit of privacy", "Relation", "Looks at exact private scores"
CHOICES, NOT_KNOWN = "Choices among runs since this was made", "not known"
NOT_BOUNDED = "not bounded by any finite epsilon"


def tables(certificate: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Every figure that is claimed, as rows of texts under a head.

    `claim` (name, value), `attacks` (rate, bound) and, if the certificate has it, `groups` (one
    column for each number of records that belong together).
    """
    c, found = certificate, {}
    found["claim"] = [["", ""], *([name, text] for name, text in _claim(c) if text is not None)]
    head = [
        "of the units that were not used, wrongly accused",
        "of the units that were used, found at most",
    ]
    found["attacks"] = [head, *(list(row) for row in attacks(c))]
    if c.get("k_table"):
        found["groups"] = [
            ["k", *c["k_table"]],
            ["epsilon", *(number(value, 6) for value in c["k_table"].values())],
        ]
    return found


def _claim(c: dict[str, Any]) -> list[tuple[str, str | None]]:
    m, facts, ledger = c["mechanism"], c["public_facts"], c["ledger"]
    of_records = c["unit"] == "record"
    summed = any("divisors" in query or "rounds" in query for query in m["one_shot"])
    most = 1 if of_records else m["draws_per_record"] or c["max_per_unit"]
    per_unit = (
        f"{number(most)} {'image' if most == 1 else 'images'}"
        if m["billed_steps"] or of_records
        else None
    )
    total = ledger["total_epsilon"]
    together = (
        f"epsilon {number(total, 6)} in {len(ledger['charges'])} runs"
        if total is not None
        else NOT_BOUNDED
    )
    if ledger.get("no_total"):
        together = f"no total can be stated, for {ledger['no_total']}"
    return [
        (UNIT, unit_phrase(c)),
        (RELATION, f"{c['relation']}: {RELATIONS[c['relation']]}"),
        ("All runs on these images", together if len(ledger["charges"]) > 1 else None),
        ("epsilon", number(c["epsilon"], 6)),
        ("delta", number(c["delta"], 6)),
        (
            "Slots in the data" if of_records else "Units in the data",
            None if facts["n_units"] is None else number(facts["n_units"]),
        ),
        ("Captions trained", "yes" if facts.get("captions") else None),
        (
            "Prompts of the pictures written",
            (c["synthesis"].get("prompts_file") or {}).get("written"),
        ),
        (
            "Pictures moved to the noisy class moments",
            (c["synthesis"].get("class_moments") or {}).get("statement"),
        ),
        ("Set apart for testing before the run", (facts.get("held_out") or {}).get("statement")),
        (
            "Noise, in units of what one unit can add",
            number(m["noise_multiplier"], 6) if m["steps"] or summed else None,
        ),
        ("At most per unit and step", per_unit),
        ("Images of one unit", None if per_unit else "any number, averaged before the bound"),
        ("Accountant", f"{c['accountant']['name']}, version {c['accountant']['version']}"),
        (
            LOOKS,
            (
                None
                if "looks" not in c
                else NOT_KNOWN
                if c["looks"]["exact"] is None
                else number(c["looks"]["exact"])
            ),
        ),
        (CHOICES, NOT_KNOWN if c.get("later_choices") else None),
    ]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, ending with a line break; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def html(rows: Sequence[Sequence[str]]) -> Markup:
    """The rows of the same table in HTML, escaped, their names linked to the page's glossary.

    A head without words is left out.
    """
    found = Markup()
    for place, row in enumerate(rows):
        name = "td" if place else "th"
        if any(row):
            cells = (
                Markup(f"<{name}{CELL if i and len(text) <= SHORT else ''}>{{}}</{name}>").format(
                    text if i else linked(text)
                )
                for i, text in enumerate(row)
            )
            found += Markup("<tr>{}</tr>\n").format(Markup().join(cells))
    return found


def number(value: Any, digits: int = 4) -> str:
    """A number as a reader expects it: 60,000, 9.814, 190 and 1e-05; other values as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "not used" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else parse.rounded(value, digits)


# Keywords of DICOM by which pictures are units; a certificate does not say where a value stood.
TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "PatientName")


def unit_phrase(certificate: dict[str, Any]) -> str:
    """What one unit is, in words that claim no more than the unit."""
    if certificate["unit"] == "record":
        return "one record (one image with its label and caption)"
    if certificate["unit"] in TAGS:
        return (
            f"everything that shares one value of `{plain(certificate['unit'])}` (the DICOM tag, or"
            " a column of that name)"
        )
    return f"everything that shares one value of the column `{plain(certificate['unit'])}`"


def attacks(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    """(wrongly accused, members found at most) as percentages."""
    return [
        (f"{100 * float(rate):g} %", percent_up(100 * found))
        for rate, found in certificate["attack_success"].items()
    ]


def plain(text: Any) -> str:
    """Text inside a markdown line or table cell.

    One line, without markup that a class name could smuggle in.
    """
    line = " ".join(str(text).split())
    return (
        "".join("\\" + ch if ch in "\\`*_[]<>|" else ch for ch in line)
        if not line.isidentifier()
        else line
    )
