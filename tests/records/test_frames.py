"""Files with frames and headers as records: slots, units, labels, and what is refused."""

from __future__ import annotations

import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.options.frames import chosen, parse_frames
from sfumato.records import bounded, describe, frames, load_records
from sfumato.records.frames import NO_PICTURE
from sfumato.runs.reading import remembered, to_remember
from sfumato.verbs.questions import of_unit

from .scans import SHIPPED, dataset, encoded, scan, volume

# what a plan takes little time with
SHORT = ["--epsilon", "8", "--delta", "1e-3", "--steps", "1", "--noise-draws", "1"]
SHORT += ["--micro-batch-size", "4", "--mixed-precision", "no"]

RNG = np.random.default_rng(5)
SECRET = "Zweistein^Albertine"


def pixels(n: int | None = None) -> np.ndarray:
    size = (16, 16) if n is None else (n, 16, 16)
    return RNG.integers(0, 4096, size).astype(np.uint16)


def study(root, patients=4, each=2, **tags):
    """Files of several patients in one folder, without endings; returns the folder."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(patients * each):
        own = {"PatientID": f"p{i // each}", "StudyInstanceUID": f"1.2.{i // each}"}
        own |= {"Modality": "MR" if i % 2 else "CT", "PatientName": SECRET, "BitsStored": 12}
        (root / f"IM{i:04d}").write_bytes(scan(pixels(), **own | tags))
    return root


def refused(match, *args, **options):
    with pytest.raises(SfumatoError, match=match) as caught:
        load_records(*args, **options)
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "rule, count, places",
    [
        ("first", 9, [0]),
        ("middle", 9, [4]),
        ("middle", 1, [0]),
        ("all", 3, [0, 1, 2]),
        ("3", 9, [1, 4, 7]),
        ("5", 2, [0, 1]),
        ("1", 8, [4]),
    ],
)
def test_a_rule_takes_frames_of_one_file(rule, count, places):
    assert chosen(rule, count) == places


def test_rules_are_parsed_or_refused():
    assert parse_frames(" All ") == "all" and parse_frames(3) == "3" == parse_frames("03")
    assert sfumato.Reading(frames=3).frames == "3"
    for wrong in ("0", "last", "-1", "1.5", "99999", True, "2x"):
        with pytest.raises(SfumatoError, match="--frames .*: choose first, middle, all"):
            parse_frames(wrong)


def test_the_unit_of_dicom_is_the_patient_and_a_label_is_a_tag(tmp_path):
    records = load_records(study(tmp_path / "d"), labels="Modality")
    assert records.unit_column == "PatientID" and records.n_units == 4 and records.n == 8
    assert records.classes == ("CT", "MR") and records.usable.all()
    assert records.unit.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    lines = "\n".join(describe(records, "Modality").lines())
    assert "classes from the tag 'Modality'" in lines and "the privacy unit is the patient" in lines
    assert SECRET not in lines
    by_study = load_records(tmp_path / "d", labels="Modality", unit="StudyInstanceUID")
    assert by_study.unit_column == "StudyInstanceUID" and by_study.n_units == 4
    alone = load_records(tmp_path / "d", unlabelled=True, unit="file")
    assert alone.unit_column == "file" and alone.n_units == 8


def test_plan_says_that_the_unit_is_the_patient(tiny_base, tmp_path, capfd):
    words = ["plan", str(study(tmp_path / "d", 8)), "--labels", "Modality", "--yes-public"]
    assert main([*words, "--base", str(tiny_base), *SHORT]) == 0
    said = capfd.readouterr()
    assert "all images with the same 'PatientID'" in said.out
    assert SECRET not in said.out + said.err


def in_folders(root):
    """Four patients of two pictures each, which lie in folders that two patients share."""
    for i in range(8):
        own = {"PatientID": f"P{i // 2}" if i % 2 else f"p{i // 2}", "StudyInstanceUID": f"1.{i}"}
        place = root / ("a" if i in (0, 1, 2, 4) else "b")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.dcm").write_bytes(scan(pixels(), BitsStored=12, **own))
    return root


@pytest.mark.parametrize(
    "unit, patients, promised",
    [
        ("folder", 2, "a folder"),
        ("file", 4, "a file"),
        ("StudyInstanceUID", 4, "one value of 'StudyInstanceUID'"),
        ("PatientID", 0, ""),
        (None, 0, ""),
    ],
)
def test_a_unit_that_cuts_patients_apart_is_remarked(
    tiny_base, tmp_path, unit, patients, promised, capfd
):
    root = in_folders(tmp_path / "d")
    said = f"{patients} patients by PatientID lie in several units: the promise covers {promised},"
    records = load_records(root, unit=unit, unlabelled=True)
    assert records.facts.people_apart == patients
    flags = ["--unlabelled", *(["--unit", unit] if unit else [])]
    assert main(["inspect", str(root), *flags]) == 0
    assert main(["plan", str(root), *flags, "--base", str(tiny_base), *SHORT]) == 0
    out = capfd.readouterr().out
    assert out.count(said) == (2 if patients else 0) == out.count("patients by PatientID")
    assert SECRET not in out


def test_adapt_tells_the_owner_of_patients_cut_apart_and_no_release_does(tiny_base, tmp_path):
    heard: list[str] = []
    asked = {"unlabelled": True, "epsilon": 50.0, "delta": 1e-3, "base": str(tiny_base)}
    asked |= {"method": "embedding", "steps": 1, "noise_draws": 1, "anyway": True}
    asked |= {"micro_batch": 4, "precision": "float32"}
    run = sfumato.adapt(
        in_folders(tmp_path / "d"),
        unit="file",
        output=tmp_path / "run",
        on_stage=heard.append,
        **asked,
    )
    assert any("4 patients by PatientID lie in several units" in line for line in heard)
    out = sfumato.synthesize(run, 1, tmp_path / "out", steps=1)
    sfumato.release(out)
    text = "".join(p.read_text() for p in out.rglob("*") if p.suffix in (".json", ".md"))
    assert "PatientID" not in text and "patients" not in text


def test_a_patient_left_with_one_picture_that_can_be_used_is_not_cut_apart(tmp_path):
    root = in_folders(tmp_path / "d")
    (root / "a" / "0.dcm").write_bytes(b"\0" * 128 + b"DICM")
    found = load_records(root, unit="file", unlabelled=True, max_bad=0.5)
    assert found.facts.people_apart == 3


@pytest.mark.parametrize("own", ["", "ANONYMOUS", "anonymized", "000000", "n/a", "****"])
def test_a_set_whose_patients_are_not_named_is_refused(tmp_path, own):
    root = study(tmp_path / "d", PatientID=own)
    refused(
        "PatientID is missing, or the same word.*--unit folder.*--unit file", root, unlabelled=True
    )
    assert load_records(root, unlabelled=True, unit="file").n_units == 8
    found = sfumato.inspect(root)
    assert "PatientID is missing" in (found.refused or "") and found.usable == 8


def test_one_name_for_everybody_is_refused_and_single_missing_ones_are_zero_slots(tmp_path):
    refused(
        "PatientID is the same in every file",
        study(tmp_path / "same", PatientID="A1"),
        unlabelled=True,
    )
    root = study(tmp_path / "some")
    (root / "IM9998").write_bytes(scan(pixels(), PatientID="ANON", BitsStored=12))
    records = load_records(root, unlabelled=True, max_bad=0.2)
    assert records.facts.bad == {"missing unit": 1} and records.n == 9


def test_dicom_beside_other_pictures_must_be_told_its_unit(tmp_path):
    root = study(tmp_path / "d")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(root / "x.png")
    refused("only DICOM says whose a picture is", root, unlabelled=True)
    assert load_records(root, unlabelled=True, unit="file").n_units == 9


def test_frames_of_one_file_are_one_unit_each_with_a_slot_of_its_own(tmp_path):
    root = tmp_path / "d" / "a"
    root.mkdir(parents=True)
    stacks = [pixels(4), pixels(7)]
    for i, stack in enumerate(stacks):
        own = {"PatientID": f"p{i}", "StudyInstanceUID": f"1.{i}"}
        (root / f"{i}.dcm").write_bytes(scan(stack, BitsStored=12, **own))
    whole = load_records(tmp_path / "d", frames="all", yes_public=True)
    assert whole.n == 11 and whole.n_units == 2 and whole.unit.tolist() == [0] * 4 + [1] * 7
    want = np.floor(stacks[1][3] / 4095 * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(whole.pixels(7)[..., 0], want)
    np.testing.assert_array_equal(whole.images([7], 16)[0, ..., 0], want)
    assert len(set(whole.fingerprints)) == 11
    one = load_records(tmp_path / "d", yes_public=True)
    assert one.n == 2
    np.testing.assert_array_equal(one.pixels(1)[..., 0], want)
    assert one.fingerprints[1] == whole.fingerprints[7]
    assert load_records(tmp_path / "d", frames=2, yes_public=True).n == 4


def test_units_by_file_where_frames_are_several_and_nothing_names_a_person(tmp_path):
    root = tmp_path / "a"
    root.mkdir()
    pages = [Image.fromarray(RNG.integers(0, 256, (12, 12)).astype(np.uint8)) for _ in range(3)]
    for name in ("x", "y"):
        pages[0].save(root / f"{name}.tif", save_all=True, append_images=pages[1:] * (name == "x"))
    (root / "copy.tif").write_bytes((root / "x.tif").read_bytes())
    records = load_records(tmp_path, frames="all", yes_public=True)
    assert records.unit_column == "file" and records.n == 7
    assert records.unit.tolist() == [0, 0, 0, 0, 0, 0, 1]  # a copy is the same unit
    assert load_records(tmp_path, yes_public=True).unit_column is None
    np.testing.assert_array_equal(records.pixels(2), np.asarray(pages[2].convert("RGB")))


def test_volumes_give_their_middle_axial_slice_whatever_their_orientation(tmp_path):
    voxels = np.zeros((12, 14, 10), np.uint8)
    voxels[:6, :7, 5] = 200  # left half, back, of the middle slice in right-anterior-superior order
    affine = np.eye(4)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.nii").write_bytes(volume(voxels, affine))
    turned = np.diag([-1.0, 1, -1, 1])
    turned[0, 3], turned[2, 3] = 11, 9
    (tmp_path / "a" / "1.nii.gz").write_bytes(gzip.compress(volume(voxels[::-1, :, ::-1], turned)))
    moved = np.zeros((4, 4))
    moved[0, 1] = moved[1, 2] = moved[2, 0] = moved[3, 3] = 1  # axes in the order z, x, y
    (tmp_path / "a" / "2.nii").write_bytes(
        volume(np.ascontiguousarray(voxels.transpose(2, 0, 1)), moved)
    )
    records = load_records(tmp_path, yes_public=True)
    want = np.zeros((14, 12), np.uint8)
    want[7:, 6:] = 200  # behind is below; the left of the body is on the right
    for slot in range(3):
        np.testing.assert_array_equal(records.pixels(slot)[..., 0], want)
    assert len(set(records.fingerprints)) == 1 and records.unit_column is None
    every = load_records(tmp_path, frames="all", yes_public=True)
    assert every.n == 30 and every.n_units == 3 and every.unit_column == "file"


def test_numbers_without_a_black_and_white_need_a_range(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(4):
        voxels = RNG.integers(-1000, 1000, (12, 12, 3)).astype(np.int16)
        (tmp_path / "a" / f"{i}.nii").write_bytes(volume(voxels))
    refused("numbers without a black and a white.*--range", tmp_path, yes_public=True)
    values = sfumato.Reading(window="lung").values
    records = load_records(tmp_path, values=values, yes_public=True)
    assert records.usable.all() and records.pixels(0).std() > 20


def test_what_is_no_picture_is_left_out_and_counted_and_the_damaged_keep_their_slot(tmp_path):
    root = study(tmp_path / "d")
    for name in ("reportsi.dcm", "waveform_ecg.dcm", "dicomdirtests/DICOMDIR"):
        (root / name.rpartition("/")[2]).write_bytes((SHIPPED / "test_files" / name).read_bytes())
    whole = (root / "IM0000").read_bytes()
    (root / "IM0000").write_bytes(whole[:-200])
    records = load_records(root, unlabelled=True, max_bad=0.2)
    assert records.n == 8 and records.facts.ignored[NO_PICTURE] == 3
    assert records.facts.bad == {"truncated or damaged": 1} and not records.usable[0]
    assert records.n_units == 4


def test_removing_a_patient_moves_nobody_else(tmp_path):
    root = study(tmp_path / "d", 5)
    before = load_records(root, labels="Modality", yes_public=True)
    for i in (4, 5):  # its files stay, and hold nothing
        ds = dataset(pixels(), PatientID="p2", StudyInstanceUID="1.2.2", Modality="CT")
        (root / f"IM{i:04d}").write_bytes(encoded(ds)[:400])
    after = load_records(root, labels="Modality", classes=("CT", "MR"), max_bad=1)
    others = [0, 1, 2, 3, 6, 7, 8, 9]
    assert after.n == before.n
    assert [before.fingerprints[i] for i in others] == [after.fingerprints[i] for i in others]
    assert before.labels[others].tolist() == after.labels[others].tolist()


def test_a_table_brings_labels_and_the_files_bring_their_patients(tmp_path):
    root = study(tmp_path / "d")
    rows = "".join(f"IM{i:04d},{'ab'[i % 2]}\n" for i in range(8))
    (root / "metadata.csv").write_text("file_name,label\n" + rows)
    records = load_records(root, yes_public=True)
    assert records.kind == "table" and records.classes == ("a", "b")
    assert records.unit_column == "PatientID" and records.n_units == 4
    by_tag = load_records(root, labels="Modality", caption_column="PatientSex", yes_public=True)
    assert by_tag.classes == ("CT", "MR") and by_tag.captions == ("",) * 8


def test_a_tag_where_no_dicom_is_and_a_column_that_is_none_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a" / "x.png")
    refused("'PatientID' is a DICOM tag, and there is no DICOM file", tmp_path, unit="PatientID")
    refused(
        "no column 'patient' for --unit", study(tmp_path / "d"), unit="patient", unlabelled=True
    )


def test_a_split_holds_patients_apart(tmp_path):
    root = study(tmp_path / "d", 12)
    split = tmp_path / "split.json"
    sfumato.split(root, test=0.4, output=split, labels="Modality")
    assert json.loads(split.read_text())["unit"] == "PatientID"
    parts = [
        load_records(root, labels="Modality", split=split, part=p, yes_public=True)
        for p in ("train", "test")
    ]
    assert parts[0].n + parts[1].n == 24
    units = [set(part.facts.units or ()) for part in parts]
    assert not units[0] & units[1]


def test_burnt_in_text_and_overlays_are_warned_of(tmp_path):
    root = study(tmp_path / "d", BurnedInAnnotation="YES", Modality="US")
    (root / "o.dcm").write_bytes((SHIPPED / "test_files" / "examples_overlay.dcm").read_bytes())
    said = "\n".join(sfumato.inspect(root).lines())
    assert "8 DICOM files say that text is burnt into their pixels" in said
    assert "1 DICOM files have overlays, which are not drawn" in said


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch):
    root = study(tmp_path / "d")
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    refused(r"the files are DICOM: pip install 'sfumato\[medical\]'", root, unlabelled=True)


def test_the_same_file_is_read_in_the_other_process_only(tmp_path, monkeypatch):
    import sfumato.records.dicom as module

    def no(*args):
        raise AssertionError("decoded where keys are")

    for name in ("frame", "header", "_read"):
        monkeypatch.setattr(module, name, no)
    records = load_records(study(tmp_path / "d"), labels="Modality", yes_public=True)
    assert records.images(range(8), 16).any() and bounded._ONE.child is not None


def test_dicom_inside_parquet_is_not_read_for_its_patient_would_be_lost(tmp_path):
    import pyarrow
    import pyarrow.parquet

    png = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(png, "PNG")
    rows = [png.getvalue(), scan(pixels())]
    table = pyarrow.table({"image": pyarrow.array(rows, pyarrow.binary()), "label": ["a", "a"]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    records = load_records(tmp_path / "x.parquet", yes_public=True, max_bad=0.5)
    assert records.usable.tolist() == [True, False]


def test_one_bad_patient_can_be_refused_by_name_of_the_rule_only(tmp_path, capfd):
    root = study(tmp_path / "d")
    (root / "IM0000").write_bytes(b"\0" * 128 + b"DICM" + SECRET.encode() * 50)
    words = ["plan", str(root), "--unlabelled", "--epsilon", "1", "--base", "icons"]
    assert main(words) == 10
    said = capfd.readouterr()
    assert "1 of 8 records are bad" in said.err
    assert SECRET not in said.out + said.err and "IM0000" not in said.out + said.err


def test_the_same_samples_under_another_window_are_the_same_picture_and_other_data(tmp_path):
    samples = [RNG.integers(0, 4096, (24, 20)).astype(np.uint16) for _ in range(4)]
    found = []
    for width in ("4096", "200", "4096"):
        for i, one in enumerate(samples):
            own = {"PatientID": f"P{i}", "WindowCenter": "300", "WindowWidth": width}
            (tmp_path / f"{i}.dcm").write_bytes(scan(one, **own))
        found.append(load_records(tmp_path, unlabelled=True))
    first, other, again = found
    assert first.fingerprints == other.fingerprints
    assert (first.images([0], 20) != other.images([0], 20)).any()
    key, order = bytes(16), np.array([2, 0, 3, 1])
    assert first.digest(key) == again.digest(key) != other.digest(key)
    assert first.rearranged(order).digest(key) == again.rearranged(order).digest(key)
    assert first.rearranged(order).digest(key) != other.rearranged(order).digest(key)
    (tmp_path / "png").mkdir()
    Image.fromarray(samples[0].astype(np.uint8)).save(tmp_path / "png" / "0.png")
    assert load_records(tmp_path / "png", unlabelled=True).facts.shown is None


def test_a_run_of_before_reads_what_it_read(tmp_path):
    """TIFF, GIF and DICOM were zero slots, and volumes had none."""
    root = tmp_path / "a"
    root.mkdir()
    picture = Image.fromarray(RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8))
    for name in ("0.png", "1.jpg", "2.tif", "3.gif"):
        picture.save(root / name)
    (root / "4.dcm").write_bytes(scan(pixels()))
    (root / "5.nii").write_bytes(volume(np.zeros((9, 9, 9), np.uint8)))
    (root / "IM6").write_bytes(scan(pixels()))
    before = load_records(tmp_path, frames="plain", yes_public=True, max_bad=0.9)
    assert before.usable.tolist() == [True, True, False, False, False]
    assert before.unit_column is None and before.images([0], 16).any()
    now = load_records(tmp_path, unit="file", yes_public=True)
    assert now.n == 7 and now.usable.all()
    folder = tmp_path / "run"
    folder.mkdir()
    kept = {"images": str(tmp_path), "reading": {"unlabelled": True}}
    (folder / "reading.json").write_text(json.dumps(kept))
    assert remembered(folder).reading == sfumato.Reading(unlabelled=True, frames="plain")
    files = to_remember(tmp_path, sfumato.Reading())
    (folder / "reading.json").write_bytes(files["reading.json"])
    assert remembered(folder).reading == sfumato.Reading()


def test_start_offers_no_kind_of_picture_as_a_unit(tmp_path):
    root = study(tmp_path / "d", BodyPartExamined="HEAD", ViewPosition="AP")
    reading = sfumato.Reading(unlabelled=True)
    asked = of_unit(sfumato.inspect(root, unlabelled=True), reading)
    assert asked.default == "PatientID"
    names = [line.partition(":")[0] for line in asked.lines]
    assert "PatientID" in names
    assert not {"Modality", "BodyPartExamined", "ViewPosition"} & set(names)
