"""Cards, statement and report: well formed, offline, and in words that claim no more than the
numbers.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sfumato.planning.forecast import NOTHING_SAID
from sfumato.releases import folder, verify, write_release
from sfumato.releases.cards import unit_phrase
from sfumato.releases.contents import Contents, Example
from sfumato.releases.pages import in_prose
from sfumato.releases.shown import by_class

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
        *(path for path in (ROOM / "templates").rglob("*") if path.is_file()),
        *ROOM.glob("*.py"),
    ]
    for path in texts:
        found = AVOID.search(re.sub(r"data:image/\w+;base64,[^\"]*", "", path.read_text()))
        assert not found, f"{path.name}: {found}"


def test_the_unit_is_called_what_it_is():
    """The release itself refuses a page with another word (`consistency`); this is the word."""
    assert unit_phrase({"unit": "record"}).startswith("one record ") and not AVOID.search(
        unit_phrase({"unit": "record"})
    )
    assert "`visit_id`" in unit_phrase({"unit": "visit_id"})


def test_a_tag_of_dicom_is_not_called_a_column_alone(kit, tmp_path):
    facts = kit.facts(plan=kit.plan(unit="PatientID", max_per_unit=8))
    out = write_release(kit.images(tmp_path / "s"), tmp_path / "r", **facts)
    text = " ".join((out / "PRIVACY.md").read_text().split())
    assert "one value of `PatientID` (the DICOM tag, or a column of that name)" in text
    assert "column `PatientID`" not in text and verify(out).ok
    told = json.loads((out / "privacy.json").read_text())
    # the words of earlier releases still agree with it, another unit's do not
    before = "unit of privacy: everything that shares one value of the column "
    assert not list(in_prose(told, [before + "`PatientID`, relation: zero-out."]))
    assert list(in_prose(told, [before + "`visit`, relation: zero-out."]))


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
    assert len(list(root.iter("svg"))) == 2 and len(list(root.iter("img"))) == 20
    assert "http" not in text and "<script" not in text and "public test digits" in text
    assert f"{kit.plan()['epsilon']:.4g}" in text


def test_every_picture_says_what_it_is_and_opens_larger_and_its_file(finished):
    text = (finished / "report.html").read_text()
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    shown = [found for found in root.iter("details") if found.find("summary/img") is not None]
    assert len(shown) == 20
    alts = [found.find("summary/img").get("alt") for found in shown]
    assert alts[0] == "picture 1 of 10 synthetic pictures of class cat, seed 0"
    assert len(set(alts)) == 20
    notes = ["".join(found.find("p").itertext()) for found in shown]
    assert notes[0] == "class cat, prompt \u201ca picture of a cat\u201d, seed 0 Open the file"
    for found in shown:
        data = (finished / found.find("p/a").get("href")).read_bytes()
        uri = found.find("summary/img").get("src")
        one, other = (
            Image.open(io.BytesIO(b)).convert("RGB")
            for b in (data, base64.b64decode(uri.partition(",")[2]))
        )
        assert one.tobytes() == other.tobytes()


def test_the_report_of_many_large_pictures_stays_small(kit):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    examples = {str(i): [Example(out.getvalue())] * 10 for i in range(40)}
    contents = Contents("images", [], "parquet", None, dict.fromkeys(examples, 10), examples)
    rows = by_class(contents)
    assert len(rows) == 36 and "".join(str(grid) for *_, grid in rows).count("<img") == 36 * 3
    # noise is the worst that there is: pictures take a fifth of it
    assert sum(len(str(grid)) for *_, grid in rows) < 12e6


@pytest.mark.parametrize("name", ["report.html", "PRIVACY.html"])
def test_headings_are_in_order_and_words_lead_to_their_meanings(finished, name):
    text = (finished / name).read_text()
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    assert root.get("lang") == "en"
    levels = [int(found.tag[1]) for found in root.iter() if re.fullmatch(r"h\d", found.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    ids = re.findall(r' id="([^"]+)"', (finished / "report.html").read_text())
    links = [found.get("href") for found in root.iter("a") if "#" in found.get("href")]
    assert len(links) > 5 and all(link.partition("#")[2] in ids for link in links)
    assert len(set(ids)) == len(ids)
    for picture in (*root.iter("svg"), *root.iter("img")):
        assert picture.get("aria-label") or picture.get("alt")
    boxes = [found for found in root.iter("div") if found.get("class") == "scroll"]
    assert boxes and all(box.get("aria-label") and box.get("tabindex") == "0" for box in boxes)


def test_the_curve_stands_in_figures_too_and_none_is_rounded_down(finished):
    facts = json.loads((finished / "privacy.json").read_text())
    text = (finished / "report.html").read_text()
    table = text.partition("The curve in figures")[2].partition("</table>")[0]
    said = re.findall(r'<tr><td>([^<]*)</td><td class="n">([^<]*)</td>', table)
    stated = {f"{e:.4g}": d for e, d in facts["curve"]}
    assert len(said) >= 8 and all(float(d) >= stated[e] for e, d in said)


def test_the_page_to_sign_says_what_the_statement_says(finished):
    page, text = ((finished / f"PRIVACY.{kind}").read_text() for kind in ("html", "md"))
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    (body,) = (found for found in root.iter("div") if found.get("class") == "statement")
    said = " ".join("".join(body.itertext()).split())
    for line in text.partition("| Operator |")[0].splitlines():
        for part in re.split(r"\|", re.sub(r"[*`\\#]|^- ", "", line)):
            assert " ".join(part.strip(" -").split()) in said
    for word in ("Operator", "Date", "Signature"):
        assert f"{word}" in page.partition('class="signature"')[2]
    assert "@page" in page and "<script" not in page and "http" not in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_browser_prints_one_sheet_and_a_phone_needs_no_sideways_scrolling(finished, tmp_path):
    copied = Path(shutil.copytree(finished, tmp_path / "release"))
    call = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
    call += [f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files"]
    page = (copied / "PRIVACY.html").as_uri()
    sheet = tmp_path / "sheet.pdf"
    subprocess.run([*call, f"--print-to-pdf={sheet}", page], check=True, capture_output=True)
    assert len(re.findall(rb"/Type /Page\b", sheet.read_bytes())) == 1
    frame = copied / "frame.html"
    for name in ("PRIVACY.html", "report.html"):
        frame.write_text(
            f'<iframe src="{name}" width="390" height="800" onload="document.title ='
            ' this.contentDocument.documentElement.scrollWidth"></iframe>'
        )
        done = subprocess.run(
            [*call, "--dump-dom", frame.as_uri()], check=True, capture_output=True, text=True
        )
        assert int(re.findall(r"<title>(\d+)", done.stdout)[0]) <= 390, name


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


def test_a_report_begins_with_the_forecast_that_its_owner_overruled(kit, tmp_path):
    plan = kit.plan()
    said = kit.facts(plan=plan, settings=None)
    plain = write_release(kit.images(tmp_path / "s", n=4), tmp_path / "plain", **said)
    assert "Do not take these pictures" not in (plain / "report.html").read_text()
    said = kit.facts(plan=plan, settings=None, opt_ins=(NOTHING_SAID,))
    out = write_release(tmp_path / "s", tmp_path / "anyway", **said)
    text = (out / "report.html").read_text()
    assert text.index("Do not take these pictures") < text.index('class="claim"')
    assert verify(out).ok


def test_report_and_statement_say_whose_program_the_verifier_in_the_folder_is(finished):
    """A recipient who runs the giver's own verifier has checked nothing."""
    for name in ("report.html", "PRIVACY.md"):
        text = re.sub(r"<[^>]*>|\s+", " ", (finished / name).read_text())
        assert "is as trustworthy as whoever gave you the folder" in " ".join(text.split()), name
        assert "from a source that you trust" in " ".join(text.split()), name
    assert "enter key" in (finished / "report.html").read_text()
