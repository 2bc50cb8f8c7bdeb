"""Whether the pages of a release state what privacy.json states.

Their tables of figures, and every epsilon and delta in their prose.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sfumato.releases import figures

Check = tuple[str, bool, str]
CROISSANT = "croissant.json"
NUMBER = r"([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)"
EPSILON = re.compile(r"(?:epsilon|ε)[^\d\n]{0,60}?" + NUMBER, re.IGNORECASE)
DELTA = re.compile(r"(?:\bdelta|δ)[^\d\n]{0,60}?" + NUMBER, re.IGNORECASE)
PAIR = re.compile(r"\(([^(),]*), ([^(),]*)\)-differential")
BEFORE = "everything that shares one value of the column "  # of every unit, in earlier releases
OWN = re.compile(r"unit of privacy:\s*([^\n]*)", re.IGNORECASE)
BETWEEN = re.compile(r"relation:\s*([\w-]+)", re.IGNORECASE)


def check_figures(folder: Path, name: str, facts: dict[str, Any]) -> Iterator[Check]:
    """One page of a release: its figures are those of privacy.json, each table row once.

    A release of before these tables (`figures_on`) has only the epsilons, deltas, unit and relation
    of its prose checked; one of before a page need not have it.
    """
    told = facts.get("figures_on", [])
    later = name in set(figures.PAGES) - set(figures.EARLIER_PAGES)
    if later and name not in told and not (folder / name).exists():
        return
    if name == CROISSANT:
        if not (folder / name).exists():
            return  # of images alone
        said = json.loads((folder / name).read_text("utf-8"))
        wrong = list(in_prose(facts, [line for text in _texts(said) for line in text.splitlines()]))
    else:
        text = (folder / name).read_text("utf-8")
        rows, lines = of_html(text) if name.endswith(".html") else of_markdown(text)
        wrong = list(disagreements(facts, rows, lines) if name in told else in_prose(facts, lines))
        if told and told not in (list(figures.PAGES), list(figures.EARLIER_PAGES)):
            wrong.append("figures_on of privacy.json leaves a page out")
    yield f"figures of {name}", not wrong, wrong[0] if wrong else "as in privacy.json"


def disagreements(facts: dict[str, Any], rows: list[list[str]], lines: list[str]) -> Iterator[str]:
    """What a page with tables states differently from privacy.json, twice, or not at all."""
    tables, seen = figures.tables(facts), Counter((row[0], len(row)) for row in rows if row)
    said = {(row[0], len(row)): row[1:] for row in rows if row}
    wanted = [row for table in ("claim", "attacks") for row in tables[table][1:]] + tables.get(
        "groups", []
    )
    for row in (list(map(_bare, row)) for row in wanted):
        key = row[0], len(row)
        if seen[key] != 1:
            yield f"{row[0]!r} stands {seen[key]} times"
        elif not all(_same(a, b) for a, b in zip(said[key], row[1:])):
            yield f"{row[0]!r} is {' | '.join(said[key])}, not {' | '.join(row[1:])}"
    rates = {row[0] for row in tables["attacks"][1:]}
    odds = [row for row in rows if len(row) == 2 and all(cell.endswith("%") for cell in row)]
    if {row[0] for row in odds} - rates:
        yield "a bound on attacks that privacy.json does not have"
    yield from in_prose(facts, lines)


def in_prose(facts: dict[str, Any], lines: list[str]) -> Iterator[str]:
    """Checks every epsilon, delta, unit and relation that is named in words.

    Sentences of privacy.json itself count as checked.
    """
    quoted = sorted(
        {_bare(line) for text in _texts(facts) for line in text.splitlines() if len(line) > 12},
        key=len,
    )
    epsilons, deltas = _claimed(facts)
    known = (_bare(figures.unit_phrase(facts)), facts["unit"], BEFORE + facts["unit"])
    for line in map(_bare, lines):
        for text in reversed(quoted):
            line = line.replace(text, "")
        found = [
            (name, value)
            for name, rule in (("epsilon", EPSILON), ("delta", DELTA))
            for value in rule.findall(line)
        ]
        for pair in PAIR.findall(line):
            found += zip(("epsilon", "delta"), pair)
        for name, value in found:
            if not any(
                _close(value, known) for known in (epsilons if name == "epsilon" else deltas)
            ):
                yield f"{name} {value} is none of privacy.json"
        if any(not own.startswith(known) for own in OWN.findall(line)):
            yield "another unit of privacy than in privacy.json"
        if any(own != facts["relation"] for own in BETWEEN.findall(line)):
            yield "another relation than in privacy.json"


def _claimed(facts: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Epsilons and deltas that a page may name.

    The claim's, the total's, those of groups of records, and of choices among runs.
    """
    epsilons = [facts["epsilon"], *(facts.get("k_table") or {}).values()]
    if facts["ledger"]["total_epsilon"] is not None:
        epsilons.append(facts["ledger"]["total_epsilon"])
    choices = facts.get("selections", [])
    return epsilons + [c["epsilon"] for c in choices], [
        facts["delta"],
        *(c["delta"] for c in choices),
    ]


def of_markdown(text: str) -> tuple[list[list[str]], list[str]]:
    """(rows of its tables, its lines) of a page, without Markdown's markup.

    Lines that only draw a table are left out.
    """
    rows = [
        re.split(r"(?<!\\)\|", line.strip())[1:-1]
        for line in text.splitlines()
        if line.lstrip().startswith("|")
    ]
    rows = [[_bare(cell) for cell in row] for row in rows if row and set("".join(row)) - set(" -:")]
    return [row for row in rows if row[0]], text.splitlines()


def of_html(text: str) -> tuple[list[list[str]], list[str]]:
    """(rows of its tables, its lines of text: one for each row, paragraph, heading or item)."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_line()
    return [row for row in reader.rows if row and row[0]], reader.lines


class _Reader(HTMLParser):
    BLOCKS = {
        "p",
        "li",
        "tr",
        "h1",
        "h2",
        "h3",
        "div",
        "figure",
        "figcaption",
        "title",
        "footer",
        "table",
        "pre",
        "dl",
        "section",
        "text",
    }

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.lines: list[str] = []
        self._cell: list[str] | None = None
        self._line: list[str] = []
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self._skip += tag in ("style", "script")
        if tag in self.BLOCKS:
            self.end_line()
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("style", "script")
        if tag in ("td", "th") and self._cell is not None:
            if self.rows:
                self.rows[-1].append(_bare("".join(self._cell)))
            self._cell = None
            self._line.append(" ")
        if tag in self.BLOCKS:
            self.end_line()

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self._line.append(data)
            if self._cell is not None:
                self._cell.append(data)

    def handle_comment(self, data: str) -> None:
        self.lines.append(data)

    def end_line(self) -> None:
        if text := " ".join("".join(self._line).split()):
            self.lines.append(text)
        self._line = []


def _bare(text: str) -> str:
    """Without what Markdown adds, and with single spaces."""
    return " ".join(re.sub(r"[\\*`]", "", text).split())


def _same(said: str, wanted: str) -> bool:
    if said == wanted:
        return True
    numbers = re.findall(NUMBER, said), re.findall(NUMBER, wanted)
    return (
        re.sub(NUMBER, "#", said) == re.sub(NUMBER, "#", wanted)
        and len(numbers[0]) == len(numbers[1])
        and all(_close(a, float(b.replace(",", ""))) for a, b in zip(*numbers))
    )


def _close(text: str, value: float) -> bool:
    try:
        return math.isclose(float(text.strip().replace(",", "")), value, rel_tol=1e-4)
    except ValueError:
        return False


def _texts(value) -> Iterator[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _texts(inner)
