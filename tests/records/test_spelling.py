"""One person under several spellings is one unit; where that is doubtful, the owner is asked."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.records.assemble import number_units
from sfumato.records.spelling import loose, unit_value

SAME = [
    [
        "P01",
        "p01",
        "P\uff10\uff11",
        "P01\u200b",
        "\ufeffP01",
        "P\u00ad01",
        " P01\t",
        "P\u200f01",
        "P\ufe0f01",
        "P\U000e002001",
    ],
    ["Jo Ann", "Jo\u00a0Ann", "jo  ann", "Jo\u2003Ann", "JO\nANN", "Jo \u200bAnn"],
    ["Zo\u00eb", "Zoe\u0308", "ZOE\u0308", "zo\u00eb"],
    ["Stra\u00dfe", "STRASSE", "\uff33trasse"],
    ["O'Neil-1", "O\u2019Neil\u20111", "o\u2018neil\u22121"],
    ["7", "007", "7.0", "+7", "\u0667", "\uff17", " 7 "],
    ["0", "00", "0.0", "-0", "0e3"],
    ["12", "12.0", "12e0", "12.", "1.2e1", "+12.00"],
    ["10.5", "10.50", "010.5", "1.05E1", "105e-1"],
    ["-0.5", "-.5", "-0.50", "-5e-1"],
    ["12345678901234568", "1.2345678901234568e+16"],
    [
        "I\u015eIL",
        "\u0131\u015f\u0131l",
        "i\u015fil",
        "\u0130\u015f\u0130l",
        "\u0130\u015f\u0130l".lower(),
    ],
]
DOUBTFUL = [
    ["P01", "P1"],
    ["Zo\u00eb", "Zoe"],
    ["AB-1", "AB1", "AB_1"],
    ["P1", "\u03a11", "\u0420" + "1"],
    ["l5", "15"],
    ["O'Brien", "O`Brien", "O\u00b4Brien", "O\u2032Brien", "OBrien"],
    ["P-01", "P_01", "P 01", "P\ue00001", "P01"],
    ["Anna", "\u0410nna"],
    ["Jos\u00e9", "Jose"],
]


@pytest.mark.parametrize("spellings", SAME)
def test_spellings_of_one_value_are_one_unit(spellings):
    assert len({unit_value(text) for text in spellings}) == 1
    units = number_units(spellings, len(spellings), [None] * len(spellings))
    assert not units.number.any() and len(set(units.prints)) == 1 and units.prints[0]
    assert (units.respelt, units.doubtful) == (len(spellings) - 1, 0)


@pytest.mark.parametrize("spellings", DOUBTFUL)
def test_what_may_be_a_spelling_is_said_and_counts_as_different(spellings):
    assert len({unit_value(text) for text in spellings}) == len(spellings)
    assert len({loose(unit_value(text)) for text in spellings}) == 1
    units = number_units([*spellings, "other"], len(spellings) + 1, [None] * (len(spellings) + 1))
    assert (units.respelt, units.doubtful) == (0, len(spellings))


def test_different_values_stay_apart_and_invisible_ones_are_missing():
    rules = [None] * 6
    units = number_units(["1", "10", "1.5", "15", None, "\u200b"], 6, rules)
    assert (
        units.number.tolist() == [0, 1, 2, 3, 4, 5] and rules == [None] * 4 + ["missing unit"] * 2
    )
    assert units.prints[4:] == (b"", b"") and len(set(units.prints)) == 5
    assert number_units(None, 3, [None] * 3).prints is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12))
def test_the_form_is_its_own_and_no_compatibility_form_leaves_it(text):
    value = unit_value(text)
    assert unit_value(value) == value
    for other in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unit_value(unicodedata.normalize(other, text)) == value
    assert unit_value(f" \u200b{text}\u00a0") == value


def test_every_sign_has_a_form_of_its_own():
    signs = [
        *range(0xD800),
        *range(0xE000, 0x20000),
        *range(0xE0000, 0xE0200),
    ]  # all that are assigned, but rare ideographs
    odd = [c for c in signs if unit_value(unit_value(chr(c))) != unit_value(chr(c))]
    assert not odd
    assert np.mean([unit_value(chr(c)) != "" for c in range(33, 127)]) == 1


def test_numbers_of_another_value_are_no_doubt():
    units = number_units(["1.5", "15", "1.05", "105", "1e50", "1e51"], 6, [None] * 6)
    assert len(set(units.number.tolist())) == 6 and units.doubtful == 0
