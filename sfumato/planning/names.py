"""Class names that look like people, dates, numbers or files, which no release should publish.

A detector is a net with holes, and catches some harmless words; what makes a name public in the end
is the owner's yes (`published.require_yes`). It looks at the class list alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ..records.spelling import loose, unit_value

MOST_SHOWN = 5  # names that a refusal quotes
LONGEST = 200  # characters of a name that are looked at
CROWD = 5  # fewer units a class than this, on average, and the classes look like people

_PICTURES = "png|jpe?g|webp|bmp|gif|tiff?|heic|avif|dcm|dicom|nii|svg|raw|dng|cr2|nef"
_MONTHS = "jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz]"
_TITLES = (
    "mrs?|ms|miss|dr|prof|herr|frau|fr[aä]ulein|mme|mlle|monsieur|madame|se[nñ]ora?|sig|signora?"
)
_CASES = (
    "patient|pat|subject|subj|sub|case|person|participant|proband|client|customer|employee|user"
    "|study|accession|acc|mrn|pid|visit|record|donor|child|student"
)
# Shapes of one name, tried in this order on NFKC text with single spaces.
_SHAPES: tuple[tuple[str, re.Pattern], ...] = (
    ("an e-mail address", re.compile(r"[^\s@]+@[^\s@]+\.\w+")),
    (
        "an identifier",
        re.compile(
            r"[0-9a-f]{8}[-_]?([0-9a-f]{4}[-_]?){3}[0-9a-f]{12}"
            r"|(?=.*\d)(?=.*[a-f])[0-9a-f]{12,}|\d+(\.\d+){3,}",
            re.I,
        ),
    ),
    (
        "a date",
        re.compile(
            r"(?<!\d)(\d{1,4}[-./_ ]\d{1,2}[-./_ ]\d{1,4}"
            r"|(19|20)\d{2}(0[1-9]|1[0-2])([0-2]\d|3[01]))"
            rf"(?!\d)|\b\d{{1,4}}[-. _]*({_MONTHS})[a-z]*[-. _,]*\d{{1,4}}\b"
            rf"|\b({_MONTHS})[a-z]*[-. _]*\d{{1,2}}[-. _,]+\d{{2,4}}\b",
            re.I,
        ),
    ),
    (
        "a file name",
        re.compile(rf".*\.({_PICTURES})|(img|dsc[nf]?|scan|pxl|dscf)[-_ ]?\d+.*", re.I),
    ),
    (
        "a number of a case or person",
        re.compile(rf"({_CASES})[-_ .#:]*(no|nr|id|number)?[-_ .#:]*[a-z]?\d+.*", re.I),
    ),
    (
        "a number of a register",
        re.compile(r".*?\d([-/. ]?\d){4,}.*|[a-z]{1,4}[-_]?\d{4,}[a-z]?", re.I),
    ),
    ("a person's name", re.compile(r".*\w\^+\w.*")),
    ("a person's name", re.compile(rf"({_TITLES})\.?[ _]+[^\W\d_].*", re.I)),
    ("a person's name", re.compile(r"[^\W\d_]\. ?[^\W\d_]{2,}|[^\W\d_]{2,},? [^\W\d_]\.")),
)


def _form(word: str) -> str:
    return loose(unit_value(word))


# Given names common in several countries, without those that are also flowers, months or beasts.
_GIVEN = frozenset(
    """
    aaron abdul adam agnes ahmed aisha alan albert alejandro alex alexander alice ali amanda
    amir amy ana anders andre andrea andreas andrew angela anita anja anna anne annette
    antonio arthur astrid barbara beatrice ben benjamin bernd birgit bob boris brian
    bruno carl carla carlos carmen carol caroline catherine cecilia charles charlotte chen
    chloe chris christian christina christine christopher clara claudia daniel daniela david
    deborah denis diana diego dieter dimitri dmitri donald dorothy edward elena eleanor
    elisabeth elizabeth ellen emily emma eric erik ernst esther eva evelyn fatima felix
    fernando francesca francis francisco frank franz fred friedrich gabriel george georg
    gerhard giovanni giulia giuseppe gregory guido gunther hannah hans harry hassan heather
    heidi heinrich helen helena helga henrik henry hiroshi howard hugo ian ibrahim igor ines
    ingrid irina isabel isabella ivan jacob jakob james jan jane janet javier jean jennifer
    jens jessica joan joao johan johann johannes john jonas jonathan jorge jose josef joseph
    juan judith julia julian julie jurgen kai karen karin karl katarina katharina kathryn
    katja kenneth kevin kim klaus kristina lars laura lea lena leo leon linda lisa lucas
    lucia luigi luis lukas magdalena manuel marco margaret maria marie mario mark markus
    marta martha martin mary mateo matthew matthias max maximilian mehmet melanie michael
    michel michelle miguel mohamed mohammed monica monika muhammad nadia natalia natasha
    nathan nicholas nicole nikolai nina noah nora olaf olga oliver olivia omar oscar otto
    pablo pamela patricia patrick paul paula pedro peter petra philip philipp pierre pietro
    rachel raj ralf rebecca ricardo richard robert roberto roland rolf ruth ryan sabine
    samuel sandra sara sarah sebastian sergei sharon sofia sophia sophie stefan stefanie
    stephan stephen steven susan susanne sven sylvia tanja tatiana teresa theodor theresa
    thomas tim timothy tobias tom ulrich ursula ute vera veronica victor viktor vincent
    vladimir walter wei wendy werner wilhelm william wolfgang yan yuki yusuf zoe
    """.split()
)
_LOOSE = frozenset(map(_form, _GIVEN))  # letters of other scripts and accents are no disguise


def looks_like(name: str) -> str | None:
    """What a name looks like that should not be published unasked; None for a plain word."""
    text = " ".join(unicodedata.normalize("NFKC", name[:LONGEST]).split())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    before, comma, after = text.partition(",")
    if comma and before[:1].isupper() and after.strip()[:1].isupper() and " and " not in text:
        return "a person's name"
    for what, shape in _SHAPES:
        if what == "a date" and shape.search(text) or shape.fullmatch(text):
            return what
    words = re.findall(r"[^\W\d_]+", text)
    if 2 <= len(words) <= 4 and not _LOOSE.isdisjoint(map(_form, words)):
        return "a person's name"
    return None


def what_would_leak(classes: Sequence[str], n_units: int) -> list[str]:
    """Why a list that was read off the data should not be published unasked, a phrase each.

    Args:
        classes: The list.
        n_units: How many units there are.
    """
    found: dict[str, list[str]] = {}
    for name in classes:
        what = looks_like(name)
        if what:
            found.setdefault(what, []).append(name)
    said = [
        f"{_quoted(names)} look{'s' * (len(names) == 1)} like {what}"
        for what, names in found.items()
    ]
    if len(classes) > 2 and CROWD * len(classes) > n_units:
        said.append(f"{len(classes):,} classes for {n_units:,} units in all look like people")
    return said


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:MOST_SHOWN])
    return shown + (f" and {len(names) - MOST_SHOWN:,} more" if len(names) > MOST_SHOWN else "")
