"""Cards, statement and report: well formed, offline, and in words that claim no more than the
numbers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sfumato.releases import folder, verify, write_release
from sfumato.releases.cards import unit_phrase

ROOM = Path(folder.__file__).parent
AVOID = re.compile(
    r"anonym|gdpr|cannot leak|safe to publish|guaranteed private|dp fid|\bpersons?\b|\bpatients?\b",
    re.IGNORECASE,
)


def test_words_to_avoid(finished):
    texts = [
        *finished.glob("*.md"),
        *finished.glob("*.json"),
        *finished.glob("*.html"),
        *finished.glob("*.py"),
        *(ROOM / "templates").iterdir(),
        *ROOM.glob("*.py"),
    ]
    for path in texts:
        found = AVOID.search(re.sub(r"data:image/png;base64,[^\"]*", "", path.read_text()))
        assert not found, f"{path.name}: {found}"


def test_the_unit_is_called_what_it_is():
    """The release itself refuses a page with another word (`consistency`); this is the word."""
    assert unit_phrase({"unit": "record"}).startswith("one record ") and not AVOID.search(
        unit_phrase({"unit": "record"})
    )
    assert "`visit_id`" in unit_phrase({"unit": "visit_id"})


def test_a_unit_column_is_named_and_has_no_group_table(kit, tmp_path):
    out = write_release(
        kit.images(tmp_path / "s"),
        tmp_path / "r",
        **kit.facts(plan=kit.plan(unit="visit_id", max_per_unit=8)),
    )
    assert "k_table" not in json.loads((out / "privacy.json").read_text())
    text = (out / "PRIVACY.md").read_text()
    assert "visit_id" in text and verify(out).ok
    assert (
        "the number of units (1,000)" in text and "| At most per unit and step | 4 images |" in text
    )


def test_report_is_well_formed_and_stays_offline(kit, finished):
    text = (finished / "report.html").read_text()
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    assert len(list(root.iter("svg"))) == 2 and len(list(root.iter("img"))) == 2
    assert "http" not in text and "<script" not in text and "public test digits" in text
    assert f"{kit.plan()['epsilon']:.4g}" in text


def test_cards_have_front_matter_and_croissant_its_fields(finished):
    yaml = pytest.importorskip("yaml")
    card = (finished / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert {
        "license",
        "pretty_name",
        "size_categories",
        "source_datasets",
        "task_categories",
        "tags",
        "configs",
    } <= set(front)
    assert front["size_categories"] == ["n<1K"]
    document = json.loads((finished / "croissant.json").read_text())
    assert (
        document["conformsTo"][0].endswith("croissant/1.1")
        and document["rai:hasSyntheticData"] is True
    )
    assert {"rai:personalSensitiveInformation", "rai:dataLimitations", "rai:dataUseCases"} <= set(
        document
    )


def test_the_room_never_reaches_private_rooms():
    for path in ROOM.glob("*.py"):
        assert not re.search(
            r"sfumato[. ](import )?(records|methods|training)", path.read_text()
        ), path.name
