"""Class names that look like people, dates, numbers or files stop a plan; ordinary words do not."""

from __future__ import annotations

import pytest

from sfumato.errors import DataError
from sfumato.planning.facts import PublicFacts, require_list
from sfumato.planning.names import looks_like, what_would_leak

PEOPLE = (
    "Doe^John|DOE^JANE^^|Mustermann, Erika|Doe,John|doe, john|John Doe|john_doe|j. müller|Smith J."
    "|Mr Smith|Dr. Strange|Jürgen Müller|Ｄｏｅ＾Ｊｏｈｎ|Jоhn Smith|Jo\u200bhn Doe"
    "|Fräulein Schmidt"
).split("|")
DATES = "2019-03-12|12.03.2019|20190312|12 Mar 2019|March 3, 2019|3_4_21|scan of 1.2.2020".split(
    "|"
)
NUMBERS = (
    "MRN00123|A1234567|ACC-993812|patient 12|patient_007|sub-01|case3|P0012345|+49 170 1234567"
).split("|")
FILES = "IMG_1234|scan001.dcm|photo.jpeg|DSC00017".split("|")
IDENTIFIERS = (
    "550e8400-e29b-41d4-a716-446655440000|d41d8cd98f00b204e9800998ecf8427e|1.2.840.113619.2"
).split("|")
ORDINARY = (
    "0|7|12|circle|benign|malignant|CT|MR|US|Golden Retriever|T-shirt/top|Ankle boot|Lung cancer"
    "|covid-19|grade 3|stage IV|BI-RADS 4|harbour|New York|tiger lily|1990s|19th century|F16"
    "|Boeing 747|size 38|type 2 diabetes|melanoma, stage 1|class-0|H5N1|Airbus A380|red, green"
    "|2019|King penguin|St. Bernard|T1 weighted|T2-FLAIR|no finding|March|May flower|catfish"
).split("|")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (PEOPLE, "a person's name"),
        (DATES, "a date"),
        (NUMBERS, "a number of"),
        (FILES, "a file name"),
        (IDENTIFIERS, "an identifier"),
        (["doe@example.org"], "an e-mail address"),
    ],
)
def test_each_shape_is_seen_for_what_it_is(names, what):
    found = {name: looks_like(name) or "nothing" for name in names}
    assert all(said.startswith(what) for said in found.values()), found


def test_ordinary_classes_are_left_alone():
    found = {name: looks_like(name) for name in ORDINARY}
    assert not any(found.values()), {name: said for name, said in found.items() if said}


def test_few_units_a_class_look_like_people():
    assert what_would_leak(["a", "b", "c"], 14) and not what_would_leak(["a", "b", "c"], 15)
    assert not what_would_leak(["healthy", "ill"], 8)  # two classes of a small study


def test_a_found_name_stops_the_plan_and_the_owners_word_lets_it_pass():
    names = ("Doe^John", "circle")
    with pytest.raises(
        DataError, match=r"'Doe\^John' looks like a person.*--unit folder"
    ) as caught:
        require_list(PublicFacts(40, names, classes_found=True))
    assert "--classes" in str(caught.value) and "--yes-public" in str(caught.value)
    require_list(PublicFacts(40, names))  # declared with --classes
    require_list(PublicFacts(40, names, classes_found=True, confirmed=True))


def test_one_class_for_each_unit_is_told_the_cure():
    with pytest.raises(DataError, match="nearly one class for each unit.*--unit folder"):
        require_list(PublicFacts(12, ("a",), classes_found=True, few=9))
    with pytest.raises(DataError) as caught:
        require_list(PublicFacts(1000, ("a", "b"), classes_found=True, few=1))
    assert "--unit folder" not in str(caught.value)
