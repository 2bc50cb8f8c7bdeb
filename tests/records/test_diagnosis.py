"""`inspect` diagnoses whatever it is given: what it saw, what to do; it refuses nothing."""

from __future__ import annotations

import csv
import os
import shlex
import stat
import tarfile

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.errors import DataError, SfumatoError
from sfumato.options import declared_values
from sfumato.records import diagnose, load_records
from sfumato.records.diagnosis import CURES, as_flags
from sfumato.records.survey import repeats


def picture(path, shade: int = 90, mode: str = "L", size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), shade).save(path)


@pytest.fixture
def classes(tmp_path):
    for name, shade in (("bear", 20), ("cat", 120)):
        for i in range(4):
            picture(tmp_path / "set" / name / f"{i}.png", shade + i)
    return tmp_path / "set"


def said(found) -> str:
    return "\n".join(found.lines())


def sixteen(root, top: int) -> None:
    grey = (np.arange(256).reshape(16, 16) * top // 255).astype(np.uint16)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.roll(grey, i)).save(root / name / f"{i}.png")


@pytest.mark.parametrize(
    "top,flags",
    [(200, "0..255"), (1000, "10bit"), (4094, "12bit"), (16000, "14bit"), (30000, "15bit")],
)
def test_a_range_is_proposed_and_never_taken(tmp_path, top, flags):
    sixteen(tmp_path / "ct", top)
    found = sfumato.inspect(tmp_path / "ct")
    (proposal,) = [p for p in found.proposals if p[1]]
    assert proposal[1] == f"--range {flags}" and str(top) in proposal[0]
    assert f"--range {flags}" in found.next and "recorded as read off the data" in said(found)
    assert f"16-bit grey in 8, from 0 to {top}" in said(found)
    taken = sfumato.inspect(tmp_path / "ct", value_range=flags)
    assert not taken.proposals and "declared" in said(taken) and "sfumato plan" in taken.next
    assert f" --range {flags} --epsilon" in taken.next


def test_pictures_that_use_their_bits_propose_nothing(tmp_path, classes):
    sixteen(tmp_path / "ct", 65535)
    assert not sfumato.inspect(tmp_path / "ct").proposals
    assert "--range" not in said(sfumato.inspect(classes))


def test_a_range_that_fits_nothing_is_remarked(tmp_path, classes):
    found = sfumato.inspect(classes, value_range="12bit")
    assert "every picture is of 8 bits" in said(found)
    sixteen(tmp_path / "ct", 60000)
    clipped = said(sfumato.inspect(tmp_path / "ct", value_range="12bit"))
    assert "8 pictures have more than half of their values outside" in clipped


@pytest.mark.parametrize(
    "low,high,flags",
    [(-1, 1, "-1..1"), (0, 255, "0..255"), (-1000, 3000, "-1000..3000"), (0, 4000, "12bit")],
)
def test_floats_and_integers_of_arrays(tmp_path, low, high, flags):
    images = np.linspace(low, high, 6 * 81).reshape(6, 9, 9)
    labels = np.arange(6) % 2
    np.savez(tmp_path / "floats.npz", images=images.astype(np.float32), labels=labels)
    np.savez(tmp_path / "whole.npz", images=np.rint(images).astype(np.int16), labels=labels)
    for name in ("floats", "whole"):
        with pytest.raises(DataError, match="--range"):
            sfumato.plan(tmp_path / f"{name}.npz", epsilon=1.0, base="icons")
        found = sfumato.inspect(tmp_path / f"{name}.npz")
        assert found.n == 6 and "--range" in (found.refused or "")
        if name == "floats":
            assert [f for _, f in found.proposals if f] == [f"--range {flags}"]
        assert sfumato.inspect(tmp_path / f"{name}.npz", value_range=(low, high)).refused is None


def test_white_on_nothing(tmp_path):
    for i in range(4):
        shape = np.full((16, 16, 4), 255, np.uint8)
        shape[4:12, 4:12, 3] = 0
        (tmp_path / "icons").mkdir(exist_ok=True)
        Image.fromarray(shape).save(tmp_path / "icons" / f"{i}.png")
    found = sfumato.inspect(tmp_path / "icons")
    assert ("--background black") in [flags for _, flags in found.proposals]
    assert not sfumato.inspect(tmp_path / "icons", background="black").proposals


def test_bad_files_are_named_in_a_private_list_and_nowhere_else(classes, tmp_path, capfd):
    (classes / "bear" / "Doe^John.png").write_bytes(b"no picture")
    (classes / "cat" / "empty.png").touch()
    (classes / "cat" / "cut.png").write_bytes((classes / "cat" / "0.png").read_bytes()[:45])
    file = tmp_path / "bad.csv"
    found = sfumato.inspect(classes, bad_files=file)
    assert found.n == 11 and found.usable == 8 and "records are bad" in (found.refused or "")
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    with open(file, newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["rule", "file"] and sorted(rows[1:]) == [
        ["empty file", "cat/empty.png"],
        ["not a picture in a format that is read", "bear/Doe^John.png"],
        ["truncated or damaged", "cat/cut.png"],
    ]
    for rule in found.bad:
        assert f"unusable, {rule}: 1 (cure: {CURES[rule]})" in said(found)
    assert "Doe" not in said(found)
    capfd.readouterr()
    assert main(["inspect", str(classes)]) == 0
    shown = capfd.readouterr()
    assert "Doe" not in shown.out + shown.err and not shown.err
    kept = shown.out.split("bad files by rule, by name (PRIVATE): ")[1].split("\n")[0]
    assert "Doe^John" in open(kept).read() and stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    assert main(["inspect", str(classes)]) == 0  # the list by default is ours to renew
    with pytest.raises(SfumatoError, match="exists"):
        sfumato.inspect(classes, bad_files=file)


@pytest.mark.parametrize("state", ["empty", "all bad", "no table column", "latin", "archive"])
def test_no_state_of_a_folder_is_refused(tmp_path, state, capfd):
    root = tmp_path / "set"
    root.mkdir()
    if state == "all bad":
        for i in range(3):
            (root / f"{i}.png").write_bytes(b"nothing")
    if state == "no table column":
        picture(root / "0.png")
        (root / "metadata.csv").write_text("name,label\n0.png,a\n")
    if state == "latin":
        (root / "metadata.csv").write_bytes("file_name,label\n0.png,Gr\xfcn\n".encode("latin-1"))
    if state == "archive":
        (root / "images.zip").write_bytes(b"PK")
    assert main(["inspect", str(root)]) == 0
    shown = capfd.readouterr()
    assert "`adapt` will refuse" in shown.out and "next: " in shown.out and not shown.err
    if state == "all bad":
        assert "3 records, 0 usable" in shown.out
    if state == "archive":
        assert "give one zip or tar as the path" in shown.out


def test_only_a_place_that_is_not_there_ends_it(tmp_path, capfd):
    assert main(["inspect", str(tmp_path / "nowhere")]) != 0
    assert "no such file or folder" in capfd.readouterr().err


def test_what_else_it_could_be(tmp_path, classes):
    picture(classes / "loose.png")
    assert "1 images lie loose beside 2 folders" in said(sfumato.inspect(classes))
    picture(tmp_path / "deep" / "images" / "a" / "0.png")
    assert "the only folder, 'images', holds folders" in said(sfumato.inspect(tmp_path / "deep"))
    for split in ("train", "test"):
        picture(tmp_path / "split" / split / "a" / "0.png")
    assert "folders test, train: read as splits" in said(sfumato.inspect(tmp_path / "split"))
    picture(tmp_path / "mixed" / "train" / "0.png")
    picture(tmp_path / "mixed" / "other" / "0.png")
    assert "look like splits" in said(sfumato.inspect(tmp_path / "mixed"))
    picture(tmp_path / "lora" / "10_sks dog" / "0.png")
    (tmp_path / "lora" / "10_sks dog" / "0.txt").write_text("a photo of sks")
    lora = said(sfumato.inspect(tmp_path / "lora"))
    assert "how often it repeats the pictures" in lora and "look like captions" in lora
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "data-0.arrow").write_bytes(b"x")
    assert "not a readable arrow file" in said(sfumato.inspect(tmp_path / "saved"))
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "0.jp2").write_bytes(b"x" * 200)
    assert "1 .jp2" in said(sfumato.inspect(tmp_path / "scans"))
    for i in range(3):
        picture(tmp_path / "table" / "a" / f"{i}.png")
    (tmp_path / "table" / "patients.csv").write_text("file,patient\n")
    assert "a table 'patients.csv' lies there unread: save it" in said(
        sfumato.inspect(tmp_path / "table")
    )


def test_links_that_lead_out_are_named(tmp_path, capfd):
    for i in range(3):
        picture(tmp_path / "store" / f"{i}.png")
        link = tmp_path / "set" / "a" / f"{i}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "store" / f"{i}.png")
    assert "symbolic links" in said(sfumato.inspect(tmp_path / "set"))
    with pytest.raises(DataError, match="3 symbolic links that lead out"):
        sfumato.plan(tmp_path / "set", epsilon=1.0, base="icons")


def test_repeat_counts_and_numbered_classes_are_told_apart():
    assert repeats(["10_sks dog", "5_sks cat"]) == ["10_sks dog", "5_sks cat"]
    assert repeats(["10_style"]) == ["10_style"]
    assert not repeats(["0_cat", "1_dog", "2_bear"]) and not repeats(["10_a", "plain"])


def test_columns_by_what_they_look_like(tmp_path):
    rows = ["file_name;diagnosis;patient_id;findings_list;remark"]
    for i in range(30):
        picture(tmp_path / "set" / f"{i}.png", i)
        several = ["Edema|Mass", "Mass", "Edema", "Edema|Mass|Nodule", "Nodule"][i % 5]
        text = f"a scan of the chest seen from the front {i}"
        rows.append(f"{i}.png;{'ab'[i % 2]};P{i // 3};{several};{text}")
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(rows))
    found = sfumato.inspect(tmp_path / "set")
    roles = "\n".join(found.roles)
    assert "'diagnosis' looks like labels (--labels diagnosis)" in roles
    assert "'patient_id' looks like units to protect (--unit patient_id)" in roles
    assert "'findings_list' looks like several labels for one image, joined by '|'" in roles
    assert "'remark' looks like captions" in roles
    assert found.n == 30 and "P1" not in said(found)
    wrong = sfumato.inspect(tmp_path / "set", labels="nothing", unit="patient_id")
    assert "no column 'nothing'" in (wrong.refused or "") and wrong.n_units == 10
    several = sfumato.inspect(tmp_path / "set", labels="findings_list")
    assert "each combination is a class of its own" in said(several)


def test_the_sheet_shows_what_the_model_will_see(tmp_path):
    sixteen(tmp_path / "ct", 4094)
    file = tmp_path / "sheet.PRIVATE.png"
    sfumato.inspect(tmp_path / "ct", value_range="12bit", sheet=file)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    with Image.open(file) as image:
        shown = np.asarray(image)
    records = sfumato.records.load_records(tmp_path / "ct", values=declared_values("12bit"))
    first = np.repeat(np.repeat(records.images([0], 64)[0], 2, 0), 2, 1)
    assert first.shape == (128, 128, 3)
    at = [  # the picture stands there in whole pixels, without smoothing
        (y, x) for y in range(20, 90) for x in range(0, 20)
        if np.array_equal(shown[y : y + 128, x : x + 128], first)
    ]  # fmt: skip
    assert len(at) == 1
    red = (shown[:30, :, 0].astype(int) - shown[:30, :, 1]) > 90
    assert red.sum() > 200  # the mark PRIVATE


def test_the_sheet_takes_the_pixels_of_a_base(tmp_path, classes):
    sfumato.inspect(classes, base="icons", sheet=tmp_path / "one.png")
    sfumato.inspect(classes, sheet=tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.size != two.size


def test_who_reads_as_before_or_by_folders_that_are_classes_is_told_what_stops(classes):
    found = sfumato.inspect(classes, frames="plain", near=False)
    assert found.usable == 8 and any("leave it out" in why for why in found.stops)
    found = sfumato.inspect(classes, unit="folder", near=False)
    assert any("(cure: put it into the folder of its person)" in line for line in found.lines())


@pytest.mark.parametrize("where", ["among", "release", "there"])
def test_private_files_lie_outside_data_and_releases(tmp_path, classes, where):
    file = {"among": classes / "cat" / "s.png", "release": tmp_path / "r" / "x" / "s.png"}.get(
        where, tmp_path / "s.png"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    if where == "release":
        (tmp_path / "r" / "privacy.json").write_text("{}")
    if where == "there":
        file.write_bytes(b"mine")
    before = file.read_bytes() if where == "there" else None
    for kind in ("sheet", "bad_files"):
        with pytest.raises(SfumatoError, match="exists|among the private images|in a release"):
            sfumato.inspect(classes, **{kind: file})
    assert (file.read_bytes() if where == "there" else None) == before


@pytest.mark.parametrize("kind", ["sheet", "near_sheet"])
@pytest.mark.parametrize("name", ["sheet.jpg", "sheet"])
def test_a_sheet_is_called_what_it_is(tmp_path, classes, kind, name):
    with pytest.raises(SfumatoError, match="is a PNG picture: end its name in .png"):
        sfumato.inspect(classes, **{kind: tmp_path / name})
    assert not (tmp_path / name).exists()


def test_names_that_a_release_should_not_publish_are_said_here_already(tmp_path):
    for name in ("Doe^John", "Roe^Jane"):
        for i in range(4):
            picture(tmp_path / name / f"{i}.png", 60 + i)
    told = said(sfumato.inspect(tmp_path))
    assert "`plan` and `adapt` will stop" in told and "--unit folder" in told
    quiet = sfumato.inspect(tmp_path, unlabelled=True, unit="folder")
    assert "will stop" not in said(quiet) and quiet.n_units == 2


def test_records_that_were_read_already_take_no_other_values(classes):
    records = sfumato.records.load_records(classes)
    with pytest.raises(SfumatoError, match="belong where records are read"):
        sfumato.plan(records, invert=True, epsilon=1.0, base="icons")


def test_the_next_command_has_the_options_that_were_given(classes):
    asked = sfumato.Reading(
        labels="what is it", value_range=(0, 4095), invert=True, classes=["a", "b, c"], unit="p"
    )
    flags = as_flags(asked)
    assert flags == (
        "--labels 'what is it' --classes 'a,\"b, c\"' --unit p --range 0..4095 --invert"
    )
    found = sfumato.inspect(classes, window="100/50")
    assert "--window 100/50" in found.next.replace("100.0/50.0", "100/50")


def test_the_next_command_names_the_columns_and_the_base_that_it_saw(tmp_path, classes):
    rows = ["file_name,diagnosis,patient_id,age"]
    for i in range(12):
        picture(tmp_path / "my set" / f"{i}.png", 20 * i)
        rows.append(f"{i}.png,{'ab'[i % 2]},P{i // 2},{30 + i}")
    (tmp_path / "my set" / "metadata.csv").write_text("\n".join(rows))
    found = sfumato.inspect(tmp_path / "my set", base="icons")
    words = shlex.split(found.next)
    assert words[:3] == ["sfumato", "inspect", str(tmp_path / "my set")]
    assert words[3:] == ["--labels", "diagnosis", "--unit", "patient_id", "--base", "icons"]
    seen = sfumato.inspect(words[2], labels="diagnosis", unit="patient_id", base="icons")
    assert seen.refused is None and not seen.stops
    assert shlex.split(seen.next)[1] == "plan" and seen.next.endswith("--epsilon 4 --base icons")
    assert "BASE (choose one" in sfumato.inspect(classes).next


def test_the_folder_that_a_table_keeps_its_pictures_in_is_no_class(tmp_path):
    rows = ["file_name,diagnosis"]
    for i in range(12):
        picture(tmp_path / "scans" / f"{i}.png", 20 * i)
        rows.append(f"scans/{i}.png,{'ab'[i % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    found = sfumato.inspect(tmp_path)
    assert "column 'diagnosis' looks like labels" in said(found)
    words = shlex.split(found.next)
    assert words[1:5] == ["plan", str(tmp_path), "--labels", "diagnosis"]
    seen = sfumato.inspect(tmp_path, labels="diagnosis")
    assert seen.class_counts == {"a": 6, "b": 6}
    assert "looks like labels" not in said(seen), "what is read already is not proposed"
    assert "--labels" not in sfumato.inspect(tmp_path, unlabelled=True).next


def test_a_folder_at_which_plan_stops_is_not_sent_there(classes):
    picture(classes / "rare" / "0.png")
    found = sfumato.inspect(classes)
    assert found.refused is None and "fewer than 3 units" in found.stops[0]
    assert found.next.startswith("do what the notes say of why `plan` stops, then sfumato plan")
    with pytest.raises(DataError) as caught:
        sfumato.plan(classes, epsilon=1.0, base="icons")
    assert str(caught.value) == found.stops[0]
    assert not sfumato.inspect(classes, yes_public=True).stops


def test_a_sheet_is_proposed_where_one_can_be(tmp_path, monkeypatch):
    """Not over another, and not among the images."""
    sixteen(tmp_path / "ct", 4094)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sheet.PRIVATE.png").touch()
    assert sfumato.inspect("ct").next.endswith(" --sheet sheet-2.PRIVATE.png")
    monkeypatch.chdir(tmp_path / "ct")
    words = shlex.split(sfumato.inspect(".").next)
    assert main(words[1:]) == 0 and (tmp_path / "sheet-2.PRIVATE.png").stat().st_size > 100


def test_cures_tell_a_damaged_file_from_one_of_another_format(tmp_path):
    rows = ["file_name,label"]
    for i in range(8):
        picture(tmp_path / f"{i}.png", 20 * i)
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    (tmp_path / "0.png").write_bytes(b"no picture")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    lost = "damaged: replace it, or delete it and its row in the table"
    assert f"(cure: {lost})" in said(sfumato.inspect(tmp_path))
    (tmp_path / "a.psd").write_bytes(b"8BPS")
    (tmp_path / "metadata.csv").write_text("\n".join([*rows, "a.psd,a"]))
    assert f"(cure: {lost}; of another format: convert it to PNG" in said(sfumato.inspect(tmp_path))
    picture(tmp_path / "0.png")
    assert "(cure: of another format: convert it to PNG" in said(sfumato.inspect(tmp_path))


def test_nothing_that_was_read_is_a_diagnosis(tmp_path):
    found = diagnose(tmp_path, None, sfumato.Reading(), ["why"])
    assert found.n == 0 and found.refused == "why" and found.lines()


@pytest.mark.parametrize("mixed", [False, True])
def test_no_range_is_proposed_for_all_where_one_is_wrong_for_most(tmp_path, mixed):
    """Of DICOM files that bring a window, or of several modalities, a few without one."""
    scans = pytest.importorskip("tests.records.scans", reason="pydicom")
    grey = np.tile(np.arange(0, 1000, 4, dtype=np.uint16), (16, 1))
    window = {"WindowCenter": "500", "WindowWidth": "900"}
    for i in range(12):
        own = {"PatientID": f"p{i}", "StudyInstanceUID": f"1.{i}", "BitsStored": 16}
        own |= {"Modality": "MR" if mixed and i % 2 else "CT"}
        place = tmp_path / "d" / f"{i}.dcm"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(scans.scan(grey, **own | (window if i > 4 and not mixed else {})))
    found = sfumato.inspect(tmp_path / "d", unlabelled=True)
    why = "2 modalities lie together" if mixed else "7 files bring a window of their own"
    assert found.proposals and why in said(found) and "none is proposed" in said(found)
    assert "--range" not in found.next and not [flags for _, flags in found.proposals if flags]
    alone = tmp_path / "one"
    alone.mkdir()
    for i in range(3):
        (alone / f"{i}.dcm").write_bytes((tmp_path / "d" / f"{2 * i}.dcm").read_bytes())
    assert "--range 10bit" in sfumato.inspect(alone, unlabelled=True).next


def test_bad_files_come_first(tmp_path):
    sixteen(tmp_path / "ct", 1000)
    (tmp_path / "ct" / "a" / "9.png").write_bytes(b"no picture")
    found = sfumato.inspect(tmp_path / "ct")
    assert found.next.startswith("mend the bad files") and "--range" not in found.next
    few = sfumato.inspect(tmp_path / "ct", max_bad=0.5)
    assert few.next.startswith("mend the bad files") and "--range 10bit" in few.next


def test_the_error_over_a_file_that_is_there_names_one_that_is_free(tmp_path, classes):
    for name in ("sheet.PRIVATE.png", "sheet-2.PRIVATE.png"):
        (tmp_path / name).touch()
    with pytest.raises(SfumatoError, match="such as sheet-3.PRIVATE.png"):
        sfumato.inspect(classes, sheet=tmp_path / "sheet.PRIVATE.png")


def test_cures_of_dicom_name_the_tag(tmp_path, capfd):
    scans = pytest.importorskip("tests.records.scans", reason="pydicom")
    for i in range(6):
        own = {"PatientID": f"p{i}" if i else "ANON", "StudyInstanceUID": f"1.{i}"}
        own |= {"BodyPartExamined": "HEAD"} if i != 1 else {}
        place = tmp_path / "d" / f"{i}.dcm"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(scans.scan(np.full((16, 16), 9 + i, np.uint8), **own))
    assert main(["inspect", str(tmp_path / "d"), "--labels", "BodyPartExamined"]) == 0
    out = capfd.readouterr().out
    assert "its DICOM tag PatientID is missing or names nobody" in out and "--bad-files" in out
    assert "its DICOM tag that --labels names is empty" in out
    assert "fill the unit column" not in out and "fill the label column" not in out


def test_own_private_files_are_no_data(tmp_path, classes):
    before = load_records(classes)
    picture(classes / "bear" / "sheet.PRIVATE.png")
    picture(classes / "cat" / "near-2.PRIVATE.png")
    picture(classes / "sheets" / "sheet.PRIVATE.png")
    rows = "file_name,label\n" + "".join(f"bear/{i}.png,x\n" for i in range(4))
    (classes / "pairs.PRIVATE.csv").write_text(rows)
    found = load_records(classes)
    assert (found.n, found.classes, found.kind) == (before.n, before.classes, "folder")
    assert found.facts.ignored["sfumato's own PRIVATE files"] == 4
    assert "pairs" not in said(sfumato.inspect(classes))
    for name in ("pairs.PRIVATE.csv", "bear/sheet.PRIVATE.png"):
        with pytest.raises(DataError, match="wrote for your eyes"):
            load_records(classes / name)
    tar = tmp_path / "tars"
    tar.mkdir()
    with tarfile.open(tar / "set.tar", "w") as packed:
        for path in sorted(classes.rglob("*.*")):
            packed.add(path, str(path.relative_to(classes)))
    (tar / "pairs.PRIVATE.csv").write_text(rows)
    assert load_records(tar / "set.tar").n == before.n
    assert "pairs" not in said(sfumato.inspect(tar))


@pytest.mark.parametrize("column", ("caption", "words"))
def test_commas_of_captions_are_no_labels(tmp_path, column):
    """Short phrases of a small stock, as of generated captions, whatever the column is called."""
    rows = [f"file_name,label,{column},findings"]
    for i in range(24):
        picture = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        kind = ("circle", "square")[i % 2]
        colour = ("red", "green", "blue")[i % 3]
        rows.append(f'{i}.png,{kind},"a {kind}, {colour}, plain","{kind},{colour}"')
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    found = sfumato.inspect(tmp_path, labels="label", caption_column=column, near=False)
    roles = "\n".join(found.roles)
    assert f"{column!r} looks" not in roles
    assert "'findings' looks like several labels for one image, joined by ','" in roles
    assert "columns not used: 'findings' (" in said(found)
    unsaid = "\n".join(sfumato.inspect(tmp_path, labels="label", near=False).roles)
    assert ("'caption' looks like captions" in unsaid) == (column == "caption")
    phrases = [line.replace(", ", " of a kind, ") for line in rows]
    (tmp_path / "metadata.csv").write_text("\n".join(phrases))
    unsaid = "\n".join(sfumato.inspect(tmp_path, labels="label", near=False).roles)
    assert f"{column!r} looks like several" not in unsaid
