"""DICOM frames: transforms as pydicom's own, what a record is known by, and bad files."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.options import FIXED, Values
from sfumato.records import dicom
from sfumato.records.decode import BadImage, fingerprint
from sfumato.records.dicom import frame, header

from .scans import CT, MR, SHIPPED, dataset, encoded, pydicom, scan, sequence

RNG = np.random.default_rng(3)
TWELVE = RNG.integers(0, 4096, (24, 20)).astype(np.uint16)


def rule(data: bytes, index: int = 0, values: Values = FIXED) -> str:
    with pytest.raises(BadImage) as caught:
        frame(data, index, values)
    return caught.value.rule


def own_pipeline(path, index=0) -> np.ndarray | None:
    """uint8 greys of a file by pydicom's transforms alone; None for colours."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    ds = pydicom.dcmread(path)
    if ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    samples = pixel_array(ds, index=index)
    measured = apply_modality_lut(samples, ds)
    shown = apply_voi_lut(measured, ds)
    bits = ds.BitsStored
    if ds.get("ModalityLUTSequence"):
        low, high = 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    elif ds.PixelRepresentation:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    else:
        low, high = 0, 2**bits - 1
    if "RescaleSlope" in ds and not ds.get("ModalityLUTSequence"):
        low, high = (end * ds.RescaleSlope + ds.RescaleIntercept for end in (low, high))
    if ds.get("VOILUTSequence"):
        low, high = 0, 2 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    share = np.clip((shown.astype(np.float64) - float(low)) / (float(high) - float(low)), 0, 1)
    levels = np.floor(share * 255 + 0.5).astype(np.uint8)
    return 255 - levels if ds.PhotometricInterpretation == "MONOCHROME1" else levels


@pytest.mark.parametrize(
    "name",
    [
        "test_files/MR_small.dcm",
        "test_files/CT_small.dcm",
        "test_files/693_J2KI.dcm",
        "test_files/dicomdirtests/77654033/CR1/6154",
        "test_files/dicomdirtests/98892003/MR1/15820",
        "test_files/liver_1frame.dcm",
        "test_files/examples_overlay.dcm",
        "data_store/mlut_18.dcm",
        "data_store/vlut_04.dcm",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_greys_are_those_of_pydicoms_own_transforms(name):
    path = SHIPPED / name
    if name.startswith("data_store"):
        store = pytest.importorskip("data_store")
        path = type(SHIPPED)(store.__file__).parent / "data" / name.rpartition("/")[2]
    want, got = own_pipeline(path), frame(path.read_bytes(), 0).pixels
    assert want is not None and want.std() > 0
    np.testing.assert_array_equal(got, np.repeat(want[..., None], 3, 2))


def test_a_declared_window_takes_the_place_of_the_files_own_after_rescale():
    pixels = np.array([[0, 1024, 1064, 1264]] * 10, np.uint16).repeat(3, 1)
    data = scan(
        pixels, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="0", WindowWidth="10"
    )
    got = frame(data, 0, Values(-160, 240)).pixels[0, ::3, 0]
    assert got.tolist() == [0, 102, 128, 255]
    assert frame(data, 0).pixels[0, ::3, 0].tolist() == [0, 142, 255, 255]
    assert (
        bool(frame(data, 0).stored["window"])
        and not frame(data, 0, Values(-160, 240)).stored["window"]
    )


def test_without_a_window_all_stored_bits_are_the_range_whatever_the_picture_holds():
    low = np.full((12, 12), 100, np.uint16)
    high = low.copy()
    high[0, 0] = 4000
    for pixels in (low, high):
        got = frame(scan(pixels, BitsStored=12), 0).pixels
        assert (
            got[5, 5, 0] == round(100 / 4095 * 255) and not frame(scan(pixels), 0).stored["window"]
        )


def test_monochrome1_is_turned_and_invert_turns_it_once_more():
    one = scan(TWELVE, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    two = scan(TWELVE, BitsStored=12)
    np.testing.assert_array_equal(frame(one, 0).pixels, 255 - frame(two, 0).pixels)
    np.testing.assert_array_equal(frame(one, 0, Values(invert=True)).pixels, frame(two, 0).pixels)


def test_enhanced_files_are_rescaled_and_windowed_frame_by_frame():
    frames = np.stack([TWELVE, TWELVE])
    groups = [
        sequence(
            PixelValueTransformationSequence=sequence(
                RescaleSlope="1", RescaleIntercept=str(-1000 * i), RescaleType="HU"
            ),
            FrameVOILUTSequence=sequence(WindowCenter="1000", WindowWidth="500"),
        )[0]
        for i in range(2)
    ]
    data = scan(frames, BitsStored=12, PerFrameFunctionalGroupsSequence=groups)
    plain = [
        scan(
            TWELVE,
            BitsStored=12,
            RescaleSlope="1",
            RescaleIntercept=str(-1000 * i),
            WindowCenter="1000",
            WindowWidth="500",
        )
        for i in range(2)
    ]
    for i in range(2):
        np.testing.assert_array_equal(frame(data, i).pixels, frame(plain[i], 0).pixels)
    assert not np.array_equal(frame(data, 0).pixels, frame(data, 1).pixels)


def test_a_table_of_more_entries_than_its_values_have_is_looked_up_right():
    """pydicom counts entries of an 8-bit table in 8 bits."""
    (table,) = sequence()
    table.add_new(0x00283002, "US", [4096, 0, 8])
    table.add_new(0x00283006, "US", [i // 16 for i in range(4096)])
    got = frame(scan(TWELVE, BitsStored=12, VOILUTSequence=[table]), 0).pixels[..., 0]
    np.testing.assert_array_equal(got, TWELVE // 16)


@pytest.mark.parametrize(
    "ending", ["RLE", "jp2klossless", "bigendian", "implicit", "expb", "jpeg_ls_lossless"]
)
def test_a_lossless_transfer_syntax_is_the_same_record(ending):
    other = frame((MR.parent / f"MR_small_{ending}.dcm").read_bytes(), 0)
    one = frame(MR.read_bytes(), 0)
    assert one.mark == other.mark is not None
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_an_export_anew_is_the_same_record_and_another_picture_is_not():
    ds = pydicom.dcmread(CT)
    first = frame(encoded(ds), 0).mark
    ds.PatientID, ds.PatientName, ds.SOPInstanceUID = "other", "Other^Name", "1.2.3.4"
    ds.WindowCenter, ds.WindowWidth, ds.StudyDate = "40", "400", "20200101"
    ds.add_new(0x00091001, "LO", "private")
    other = frame(encoded(ds), 0)
    assert other.mark == first and other.pixels.std() > 20
    for values in (Values(-160, 240), Values(invert=True)):  # what is declared is no part of it
        assert frame(encoded(ds), 0, values).mark == first
    changed = bytearray(ds.PixelData)
    changed[0] ^= 1
    ds.PixelData = bytes(changed)
    assert frame(encoded(ds), 0).mark != first


def test_eight_bits_are_known_as_their_png_is():
    grey = RNG.integers(0, 256, (16, 16)).astype(np.uint8)
    found = frame(scan(grey, WindowCenter="50", WindowWidth="20"), 0)
    assert found.mark is None
    np.testing.assert_array_equal(found.plain, np.repeat(grey[..., None], 3, 2))
    assert (found.pixels != found.plain).any()
    colour = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    shown = frame(scan(colour), 0)
    np.testing.assert_array_equal(shown.pixels, colour)
    assert shown.mark is None and fingerprint(shown.plain) == fingerprint(colour)


@pytest.mark.filterwarnings("ignore")
def test_colours_are_rgb_whatever_they_are_stored_as():
    files = SHIPPED / "test_files"
    want = pydicom.dcmread(files / "SC_rgb_rle.dcm").pixel_array
    np.testing.assert_array_equal(frame((files / "SC_rgb_rle.dcm").read_bytes(), 0).pixels, want)
    near = frame((files / "SC_ybr_full_422_uncompressed.dcm").read_bytes(), 0).pixels
    assert np.abs(near.astype(int) - want).mean() < 10
    deep = frame((files / "SC_rgb_rle_16bit.dcm").read_bytes(), 0).pixels
    np.testing.assert_array_equal(deep, want)
    palette = frame((files / "examples_palette.dcm").read_bytes(), 0).pixels
    assert palette.shape == (350, 800, 3) and (np.ptp(palette, 2) > 30).any()


def test_a_header_says_frames_tags_and_warnings_and_nothing_else():
    data = scan(
        np.stack([TWELVE] * 5),
        PatientName="Doe^Jane",
        BurnedInAnnotation="YES",
    )
    said = header(data, ["PatientID", "Modality", "StationName"])
    assert said == {
        "frames": 5,
        "tags": {"PatientID": "p1", "Modality": "CT", "StationName": None},
        "marks": [dicom.BURNT],
        "picture": True,
    }
    over = header((SHIPPED / "test_files" / "examples_overlay.dcm").read_bytes(), [])
    assert dicom.OVERLAY in over["marks"]
    assert header(scan(TWELVE, Modality="US"), [])["marks"] == [dicom.PERHAPS]
    assert header(scan(TWELVE, Modality="US", BurnedInAnnotation="NO"), [])["marks"] == []


@pytest.mark.parametrize(
    "name",
    [
        "reportsi.dcm",
        "test-SR.dcm",
        "rtplan.dcm",
        "waveform_ecg.dcm",
        "rtstruct.dcm",
        "dicomdirtests/DICOMDIR",
    ],
)
def test_what_is_no_picture_by_its_class_is_left_out(name):
    assert not header((SHIPPED / "test_files" / name).read_bytes(), [])["picture"]


def test_bad_files_break_a_rule_and_a_picture_class_keeps_its_slot():
    whole = scan(TWELVE, BitsStored=12)
    for end in (140, 300, len(whole) // 2, len(whole) - 1):
        said = rule(whole[:end])
        assert said in ("truncated or damaged",), (end, said)
    assert rule((MR.parent / "MR_truncated.dcm").read_bytes()) == "truncated or damaged"
    cut = dataset(TWELVE)
    del cut.Rows, cut.Columns, cut.PixelData
    assert header(encoded(cut), [])["picture"] and rule(encoded(cut)) == "truncated or damaged"
    assert rule(whole, 1) == "truncated or damaged"
    assert rule(scan(TWELVE[:4])) == "too small"
    lying = scan(TWELVE, NumberOfFrames="9000000")
    with pytest.raises(BadImage, match="too large"):
        header(lying, [])
    assert rule(scan(TWELVE, Rows=65535, Columns=65535)) == "too large"


def test_compressed_files_that_are_cut_are_refused():
    for name in ("MR_small_jp2klossless", "MR_small_RLE", "MR_small_jpeg_ls_lossless"):
        whole = (MR.parent / f"{name}.dcm").read_bytes()
        start, end = whole.find(b"\xe0\x7f\x10\0"), whole.rfind(b"\xfe\xff\xdd\xe0")
        for at in (start + 50, (start + end) // 2, end - 1, end):
            assert rule(whole[:at]) == "truncated or damaged", (name, at)


def test_what_no_decoder_reads_is_said_so():
    if "pylibjpeg" in pydicom.pixels.get_decoder(dicom.EXTENDED).available_plugins:
        pytest.skip("a decoder of 12 bits is installed")
    data = (SHIPPED / "test_files" / "JPGExtended.dcm").read_bytes()
    assert rule(data) == "compressed in a way that no installed decoder reads"
    unknown = dataset(TWELVE)
    whole = encoded(unknown)
    other = whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.1\0", 1)
    assert rule(other) == "compressed in a way that no installed decoder reads"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_file_that_pydicom_ships_is_read_as_pydicom_does_or_refused_by_rule():
    store = pytest.importorskip("data_store")
    roots = (SHIPPED, type(SHIPPED)(store.__file__).parent / "data")
    read = refused = left_out = 0
    for path in (p for root in roots for p in sorted(root.rglob("*")) if p.is_file()):
        data = path.read_bytes()
        if data[128:132] != b"DICM":
            continue
        try:
            said = header(data, [])
            if not said["picture"]:
                left_out += 1
                continue
            got = frame(data, said["frames"] // 2).pixels
        except BadImage as bad:
            assert bad.rule in (
                "truncated or damaged",
                "too small",
                "compressed in a way that no installed decoder reads",
            ), (path.name, bad.rule)
            refused += 1
            continue
        read += 1
        ds = pydicom.dcmread(path)
        if ds.get("SharedFunctionalGroupsSequence") or len(ds.get("VOILUTSequence") or ()) > 9:
            continue
        want = own_pipeline(path, said["frames"] // 2)
        if want is not None:
            np.testing.assert_array_equal(got[..., 0], want, err_msg=path.name)
    counts = (read, refused, left_out)
    assert read >= 150 and refused <= 70 and left_out >= 20, counts
