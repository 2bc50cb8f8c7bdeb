"""Class lists: declared, found in the data, or found beside them in the file; and what one unit's
going changes of the others.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.records import describe, load_records
from sfumato.records.build import UNLABELLED

NAMES = ("circle", "cross", "the-only-patient-with-xyz", "nobody")
LABELS = [0] * 5 + [1] * 4 + [2]


def png(seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()


def folders(root, labels=LABELS):
    for i, label in enumerate(labels):
        (root / NAMES[label]).mkdir(parents=True, exist_ok=True)
        (root / NAMES[label] / f"{i}.png").write_bytes(png(i))
    return root


def table(root, units, labels=LABELS):
    root.mkdir()
    for i in range(len(labels)):
        (root / f"{i}.png").write_bytes(png(i))
    rows = [f"{i}.png,{NAMES[label]},{units[i]}" for i, label in enumerate(labels)]
    (root / "metadata.csv").write_text("\n".join(["file_name,label,who", *rows]))
    return root


def parquet(path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}
    cells = {
        "image": [{"bytes": png(i), "path": None} for i in range(len(LABELS))],
        "label": LABELS,
    }
    kept = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(cells).replace_schema_metadata(kept), path)
    return path


def npz(path):
    arrays = np.random.default_rng(0).integers(0, 256, (len(LABELS), 12, 12), dtype=np.uint8)
    np.savez(path, images=arrays, labels=np.array(LABELS), classes=np.array(NAMES))
    return path


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_names_that_come_with_a_file_are_found(tmp_path, kind):
    path = {"parquet": parquet, "npz": npz}[kind](tmp_path / f"scans.{kind}")
    found = load_records(path)
    assert (
        found.classes_found
        and found.classes == NAMES[:2]
        and found.few == {NAMES[2]: 1, NAMES[3]: 0}
    )
    assert found.labels.tolist() == [0] * 5 + [1] * 4 + [-1] and found.usable.all()
    everything = load_records(path, yes_public=True)
    assert everything.classes_found and everything.classes == NAMES and not everything.few
    assert everything.labels.tolist() == LABELS
    declared = load_records(path, classes=["cross", "circle"], max_bad=0.2)
    assert (
        not declared.classes_found and not declared.few and declared.classes == ("cross", "circle")
    )
    assert declared.facts.bad == {"label not in the class list": 1} and declared.n == len(LABELS)


def test_units_are_counted_and_not_records(tmp_path):
    """Five pictures of two patients are few; three patients, one of whom has no readable picture,
    are few too.
    """
    root = table(tmp_path / "t", "aabbb" + "cdee" + "f")
    assert load_records(root).classes == NAMES[:2] and load_records(root).few == {NAMES[2]: 1}
    found = load_records(root, unit="who")
    assert found.classes == (NAMES[1],) and found.few == {NAMES[0]: 2, NAMES[2]: 1}
    (root / "5.png").write_bytes(b"no picture")
    assert load_records(root, unit="who", max_bad=0.2).classes == ()
    lines = describe(load_records(root, unit="who", max_bad=0.2)).lines()
    assert f"class {NAMES[0]!r} is set apart: only 2 units" in lines


def test_a_found_list_is_confirmed_word_for_word(tmp_path):
    root = folders(tmp_path / "f")
    assert load_records(root, yes_public=NAMES[:3]).classes == tuple(sorted(NAMES[:3]))
    for wrong in (NAMES[:2], (*NAMES[:2], "another"), NAMES):
        with pytest.raises(SfumatoError, match="word for word"):
            load_records(root, yes_public=wrong)
    with pytest.raises(SfumatoError, match="give one of them"):
        load_records(root, yes_public=NAMES[:3], classes=NAMES[:3])
    alone = load_records(root, unlabelled=True, yes_public=True)
    assert alone.classes == (UNLABELLED,) and not alone.classes_found


@pytest.mark.parametrize(
    "reading", [{"classes": NAMES[:2]}, {"classes": NAMES[:3]}, {"yes_public": True}]
)
@pytest.mark.parametrize("gone", range(7))
def test_removing_one_unit_changes_nothing_of_the_others(tmp_path, reading, gone):
    """Zero-out: every picture of one unit is unreadable. Slots, labels, weights, class list, units
    and n of the others stay.
    """
    units = "aabbc" + "ddef" + "g"
    whole = table(tmp_path / "whole", units)
    less = table(tmp_path / "less", units)
    out = np.array([who == "abcdefg"[gone] for who in units])
    for slot in np.flatnonzero(out):
        (less / f"{slot}.png").write_bytes(b"gone")
    before, after = (
        load_records(root, unit="who", max_bad=0.9, **reading) for root in (whole, less)
    )
    assert (after.classes, after.n, after.n_units) == (before.classes, before.n, before.n_units)
    assert (after.unit == before.unit).all() and not after.usable[out].any()
    assert (after.labels == before.labels)[~out].all() and (after.usable == before.usable)[
        ~out
    ].all()
    kept = [slot for slot in range(after.n) if not out[slot]]
    assert [after.fingerprints[i] for i in kept] == [before.fingerprints[i] for i in kept]


@pytest.mark.parametrize("gone", range(7))
def test_whoever_goes_takes_no_label_of_another_along_into_a_run(tmp_path, gone):
    """A found list moves with the data; so where it moves with one unit, there is something in
    `few`, and nothing is planned.
    """
    units = "aabbc" + "ddef" + "g"
    less = table(tmp_path / "less", units)
    for slot in range(len(units)):
        if units[slot] == "abcdefg"[gone]:
            (less / f"{slot}.png").write_bytes(b"gone")
    found = load_records(less, unit="who", max_bad=0.9)
    assert found.few and set(found.few) | set(found.classes) == set(NAMES[:3])
    assert all(count < 3 for count in found.few.values())
