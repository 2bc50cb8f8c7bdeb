"""One unit under several spellings.

The form by which values of a unit column are compared, and a looser one for doubts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from decimal import Decimal

# Signs that show nothing and are not of category Cf: joiners, fillers, selectors of variants
# (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x2065,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9),
    *range(0xE0000, 0xE1000),
}
# What word processors write for a sign of the keyboard; a braille cell without dots looks like a
# space.
_TYPED = (
    {0x2800: " ", 0x2212: "-"}
    | dict.fromkeys((0x2018, 0x2019, 0x201B, 0x02BC), "'")
    | dict.fromkeys((0x201C, 0x201D), '"')
)
# Small letters whose small or capital form looks like a Latin one, after casefold.
_LOOKS = str.maketrans("авсеніјкморѕтухԛԝαβεηικμνορτυχζ", "abcehijkmopstyxqwabehikmnoptyxz")
# The Turkish letters with and without a dot are one, as the tables of others write capitals;
# casefold leaves a dot above behind.
_DOTTED = re.compile("[i\u0131]\u0307*")
_DIGITS = str.maketrans("oil", "011")

FAR = 40  # zeros of a number that are written out
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,5})?", re.ASCII)


def unit_value(text: str) -> str:
    """The form in which two spellings of one value are equal; "" for only invisible signs.

    Case, compatibility forms (full width, ligatures), composed or decomposed accents, invisible
    marks, control and format characters, kinds of dash, apostrophe and digit, the Turkish i with
    and without a dot, and white space around, doubled or of another kind make no difference; nor do
    zeros before a number or behind its decimal point, or an exponent, which spreadsheets take away
    and add. What is equal here is one unit: joining two people costs utility, splitting one breaks
    the guarantee.
    """
    before = None
    # casefold and NFKC undo each other's work now and then: until nothing moves
    while text != before:
        before, text = (
            text,
            unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()),
        )
        text = _DOTTED.sub("i", " ".join("".join(map(_plain, text.translate(_TYPED))).split()))
    return _number(text) if _NUMBER.fullmatch(text) else text


def unit_digest(value: str) -> bytes:
    """SHA-256 of a `unit_value`, by which split and ledger know a unit; b"" for none."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest() if value else b""


def _number(text: str) -> str:
    """One form of a decimal number.

    Digits without an exponent and without redundant zeros, "-" below zero.
    """
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)  # a number, as the pattern has it
    written = "".join(map(str, digits))
    whole = written.rstrip("0")
    if not whole:
        return "0"
    exponent += len(written) - len(whole)
    place = len(whole) + exponent  # of the decimal point
    if max(exponent, -place) > FAR:
        found = f"{whole}e{exponent}"
    elif exponent >= 0:
        found = whole + "0" * exponent
    else:
        whole = whole.rjust(len(whole) - min(place, 1) + 1, "0")
        found = whole[:exponent] + "." + whole[exponent:]
    return "-" * sign + found


def _plain(sign: str) -> str:
    if sign.isascii() and sign.isprintable() or sign.isspace():
        return sign
    kind = unicodedata.category(sign)
    if kind in ("Cf", "Cc") or ord(sign) in _INVISIBLE:
        return ""
    return "-" if kind == "Pd" else str(unicodedata.decimal(sign)) if kind == "Nd" else sign


def loose(value: str) -> str:
    """A `unit_value` without accents, punctuation, spaces and leading zeros.

    And with Latin letters for those of other scripts that look like them: values that are equal
    only here may be one unit, and the owner has to decide. A number with a decimal point stays as
    it is.
    """
    if "." in value and _NUMBER.fullmatch(value):
        return value
    signs = unicodedata.normalize("NFD", value.translate(_LOOKS))
    text = "".join(sign for sign in signs if unicodedata.category(sign)[0] in "LN")
    if any(sign.isdigit() for sign in text):
        text = re.sub(r"(?<!\d)0+(?=\d)", "", text.translate(_DIGITS))
    return text or value


def column_form(name: str) -> str:
    """The form in which two spellings of one column's name are equal."""
    return loose(unit_value(name))
