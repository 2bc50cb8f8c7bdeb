"""Bad pictures, and pictures that only look bad (BI)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sfumato import verbs
from sfumato.records import describe, load_records
from sfumato.records.decode import decode

from .making import (
    PIXELS,
    animation,
    cut,
    declared,
    encoded,
    folder_of,
    noted,
    polyglot,
    scans,
    with_exif,
)
from .reading import arrays, cli, each, ends, outcome, picture, stay_small

DAMAGED, FOREIGN = "truncated or damaged", "not a picture in a format that is read"
GREY16 = PIXELS[..., 0].astype(np.uint16) * 257


def one_file(kit) -> str:
    (kit.tmp / "d" / "a").mkdir(parents=True)
    (kit.tmp / "d" / "a" / "x.png").write_bytes(encoded())
    found = outcome(lambda: str(verbs.plan(kit.tmp / "d", base=str(kit.base), epsilon=4.0)))
    assert found.startswith("refuse 10"), "its class would give it away"
    report = verbs.plan(kit.tmp / "d", classes=["a"], base=str(kit.base), epsilon=4.0)
    assert report.plan.n_units == 1 and "cannot teach a model" in report.outlook.sentence
    return "runs, with a warning"


def identical(kit) -> str:
    root = folder_of(kit.tmp / "d")
    for path in root.glob("*/*.png"):
        path.write_bytes(encoded())
    records = load_records(root)
    assert records.n == records.n_units == 8 and records.usable.all()
    assert "all records are identical" in describe(records).warnings
    return "read 8, with a hint"


def same_picture(kit) -> str:
    records = load_records(folder_of(kit.tmp / "d", **{"x.png": encoded(), "y.png": encoded()}))
    assert len(set(records.unit)) == records.n == 10 and describe(records).exact_duplicates == 1
    return "read 10, with a hint"


def same_person(kit) -> str:
    from sfumato.releases import CertificateFacts, LedgerFacts, build_privacy_json

    plan = verbs.plan(kit.images, base=str(kit.base), epsilon=4.0, delta=1e-2).plan
    ledger = LedgerFacts(head="ab" * 32, entries=1, attempts=1, replays=0)
    known = CertificateFacts(plan=plan.to_json(), ledger=ledger, run_key_id="0", code_version="0")
    facts = build_privacy_json(known)
    promise = facts["statement"] + json.dumps(facts["mechanism"]) + json.dumps(facts["k_table"])
    assert "person" not in promise and "unit of privacy: record" in facts["statement"]
    assert facts["k_table"]["10"] > facts["k_table"]["5"] > facts["epsilon"]
    return "runs, with a table for k records"


def upright(kit) -> str:
    for turn in range(1, 9):
        pixels, exif = decode(with_exif(turn))
        assert exif and pixels.shape == ((24, 20, 3) if turn > 4 else (20, 24, 3))
    return each(*(picture(with_exif(turn)) for turn in range(1, 9)))(kit)


def heic(kit) -> str:
    data = b"\x00\x00\x00\x18ftypheic" + bytes(200)
    folder = folder_of(kit.tmp / "d", **{"x.heic": data, "y.heic": data, "z.avif": data})
    records = load_records(folder, max_bad=0.5)
    lines = verbs.inspect(folder).lines()
    assert sum("damaged: replace it" in line for line in lines) == 1
    return f"zero {records.n - int(records.usable.sum())}, one hint"


def changes_while_read(kit) -> str:
    root = folder_of(kit.tmp / "d")
    records = load_records(root)
    (root / "a" / "0.png").write_bytes(encoded())
    (root / "a" / "1.png").unlink()
    (root / "a" / "2.png").chmod(0)
    images, good = records.load(range(8), 16)
    assert not images[:2].any() and images[3:].any()
    return f"zero {int((~good[:2]).sum())} of those changed, read {int(good[3:].sum())} others"


INPUTS = (
    (
        "BI01",
        "no files",
        cli("plan", "{tmp}", "--base", "icons", "--epsilon", "1"),
        "refuse 10: the folder holds no images",
    ),
    ("BI02", "one file", one_file, "runs, with a warning"),
    ("BI03", "all identical", identical, "read 8, with a hint"),
    ("BI04", "same picture, two names", same_picture, "read 10, with a hint"),
    ("BI05", "same person twice, no column", same_person, "runs, with a table for k records"),
    ("BI06", "1x1", picture(encoded(pixels=PIXELS[:1, :1])), "zero: too small"),
    (
        "BI07",
        "1x20000",
        picture(encoded(pixels=np.zeros((1, 20_000, 3), np.uint8))),
        "zero: aspect ratio",
    ),
    (
        "BI08",
        "30000x30000, a small file",
        picture(declared(30_000, 30_000, bytes(3751 * 30_000), b"\x01\x00")),
        "zero: too large",
    ),
    ("BI09", "declared size larger than data", picture(declared(200, 200)), f"zero: {DAMAGED}"),
    (
        "BI10",
        "cut JPEG",
        each(
            *(picture(cut(encoded("JPEG"), share)) for share in (50, 99)),
            picture(encoded("JPEG", progressive=True)[:-40]),
        ),
        f"zero: ({DAMAGED}|{FOREIGN})",
    ),
    ("BI11", "zero bytes", picture(b""), "zero: empty file"),
    ("BI12", "text renamed .png", picture(b"no picture at all"), f"zero: {FOREIGN}"),
    ("BI13", "polyglot zip + jpg", picture(polyglot()), "read"),
    ("BI14", "animations", each(picture(animation("WEBP")), picture(animation("PNG"))), "read"),
    ("BI15", "EXIF orientations with GPS", upright, "read"),
    ("BI16", "CMYK JPEG", picture(encoded("JPEG", mode="CMYK")), "read"),
    ("BI17", "16-bit PNG", picture(encoded(pixels=GREY16)), "read"),
    (
        "BI18",
        "alpha, palette with transparency",
        each(
            picture(encoded(pixels=np.dstack([PIXELS, PIXELS[..., 0]]))),
            picture(encoded(mode="P", transparency=1)),
        ),
        "read",
    ),
    ("BI19", "1-bit", picture(encoded(mode="1")), "read"),
    ("BI20", "greyscale", picture(encoded(pixels=PIXELS[..., 0])), "read"),
    (
        "BI21",
        "float TIFF",
        picture(encoded("TIFF", pixels=PIXELS[..., 0].astype(np.float32))),
        "zero: floats outside 0..1",
    ),
    ("BI22", "broken ICC profile", picture(encoded(icc_profile=b"not a profile")), "read"),
    (
        "BI23",
        "JPEG2000",
        picture(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200)),
        f"zero: {FOREIGN}",
    ),
    ("BI24", "HEIC, AVIF", heic, "zero 3, one hint"),
    (
        "BI25",
        "SVG",
        picture(
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
        ),
        f"zero: {FOREIGN}",
    ),
    (
        "BI26",
        "PSD, EPS, FITS, PDF",
        each(
            *(
                picture(mark + bytes(300))
                for mark in (b"8BPS\0\x01", b"%!PS-Adobe", b"SIMPLE  =", b"%PDF-1.7")
            )
        ),
        f"zero: {FOREIGN}",
    ),
    (
        "BI27",
        "file changes while read",
        changes_while_read,
        "zero 2 of those changed, read 5 others",
    ),
    (
        "BI28",
        "NaN in an array",
        arrays(
            images=np.where(np.arange(4)[:, None, None] == 2, np.nan, np.full((4, 16, 16), 0.5)),
            labels=[0, 1, 0, 1],
        ),
        "read 4, zero 1: not finite",
    ),
    # Not in the table of the specification, and of the same kinds.
    (
        "BI10 10 %",
        "JPEG cut in its header",
        picture(cut(encoded("JPEG"), 10)),
        f"zero: ({DAMAGED}|{FOREIGN})",
    ),
    ("BI14 GIF", "GIF", picture(encoded("GIF")), "read"),
    ("BI17 TIFF", "16-bit TIFF", picture(encoded("TIFF", pixels=GREY16)), "read"),
    (
        "BI28 pickle",
        "pickled arrays",
        arrays(images=np.array([{}, {}], dtype=object), labels=[0, 1]),
        "refuse 10: .*pickled objects",
    ),
    ("BI scans", "200 scans in a JPEG", picture(scans(200)), "zero: too large"),
    (
        "BI chunk",
        "a text of 200 MB in a PNG",
        picture(noted(200_000_000)),
        f"(read|zero: {DAMAGED}|zero: {FOREIGN})",
    ),
)


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    ends(act(kit), what, expected)


def test_all_28_are_here():
    assert [row[0] for row in INPUTS][:28] == [f"BI{i:02d}" for i in range(1, 29)]


def test_they_all_stay_small():
    stay_small()
