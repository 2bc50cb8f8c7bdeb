"""GIF, TIFF, AVIF and HEIC: what becomes of them, whole and cut."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, features

from sfumato.options import Values
from sfumato.records import decode, pictures
from sfumato.records.decode import BadImage
from sfumato.records.pictures import examine, header

from ..fuzz import seeds

RNG = np.random.default_rng(11)
HEIC = base64.b64decode(seeds.HEIC)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def rule(data: bytes, values: Values | None = None, frame: int = 0) -> str:
    with pytest.raises(BadImage) as caught:
        examine(data, values or Values(), frame)
    return caught.value.rule


def noise(mode="RGB", size=(40, 30)) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_of_eight_bits_is_as_png(mode, compression):
    image = noise(mode)
    want = (
        image
        if mode != "RGBA"
        else Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    )
    got = examine(encoded(image, "TIFF", compression=compression), frame=0)
    np.testing.assert_array_equal(got.pixels, np.asarray(want.convert("RGB")))
    if mode in ("RGB", "L"):
        png = examine(encoded(image, "PNG"), frame=0)
        assert decode.fingerprint(png.plain) == (got.mark or decode.fingerprint(got.plain))


def deep(samples: np.ndarray, white_is_zero: bool = False) -> bytes:
    tags = {262: 0} if white_is_zero else {}
    return encoded(Image.fromarray(samples), "TIFF", tiffinfo=tags)


def test_sixteen_bit_greys_follow_the_rules_of_png_and_a_declared_range():
    samples = RNG.integers(0, 4096, (12, 14)).astype(np.uint16)
    png = examine(encoded(Image.fromarray(samples), "PNG"), frame=0)
    tiff = examine(deep(samples), frame=0)
    np.testing.assert_array_equal(tiff.pixels, png.pixels)
    assert tiff.mark is None
    assert decode.fingerprint(tiff.plain) == decode.fingerprint(png.plain)
    twelve = examine(deep(samples), Values(0, 4095), 0)
    want = np.floor(samples / 4095 * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(twelve.pixels[..., 0], want)
    assert twelve.mark is None and (twelve.plain == tiff.plain).all()
    assert int(twelve.stored["bits"]) == 16


def test_white_is_zero_is_turned_in_eight_bits_and_in_sixteen():
    """Pillow turns only the first."""
    samples = RNG.integers(0, 65536, (12, 14)).astype(np.uint16)
    data = bytearray(deep(samples))
    at = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")  # PhotometricInterpretation
    data[at + 8] = 0
    np.testing.assert_array_equal(
        examine(bytes(data), frame=0).pixels, examine(deep(65535 - samples), frame=0).pixels
    )
    eight = bytearray(encoded(noise("L"), "TIFF"))
    at = eight.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    upright = examine(bytes(eight), frame=0).pixels
    eight[at + 8] = 0
    np.testing.assert_array_equal(examine(bytes(eight), frame=0).pixels, 255 - upright)


def test_floats_and_wide_integers_are_as_arrays():
    share = RNG.random((12, 14)).astype(np.float32)
    got = examine(deep(share), frame=0).pixels[..., 0]
    np.testing.assert_array_equal(got, np.rint(share * 255).astype(np.uint8))
    assert rule(deep(share * 300)) == "floats outside 0..1"
    assert examine(deep(share * 300), Values(0, 300), 0).pixels.std() > 20
    wide = RNG.integers(-1000, 1000, (12, 14)).astype(np.int32)
    assert rule(deep(wide)) == "numbers without a black and a white of their own"
    assert examine(deep(wide), Values(-1000, 1000), 0).pixels.std() > 20
    gaps = share.copy()
    gaps[0, 0] = np.nan
    assert rule(deep(gaps)) == "not finite"


def test_pages_are_frames_and_smaller_copies_are_not():
    pages = [noise("L", (20, 20)) for _ in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert header(data, [])["frames"] == 3
    for at, page in enumerate(pages):
        np.testing.assert_array_equal(
            examine(data, frame=at).pixels, np.asarray(page.convert("RGB"))
        )
    assert rule(data, frame=3) == "truncated or damaged"
    small = Image.new("L", (10, 10))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    with_copy = encoded(pages[0], "TIFF", save_all=True, append_images=[small, pages[1]])
    assert header(with_copy, [])["frames"] == 2
    np.testing.assert_array_equal(
        examine(with_copy, frame=1).pixels, np.asarray(pages[1].convert("RGB"))
    )


def test_orientation_of_tiff_is_applied_once():
    image = noise("RGB", (30, 12))
    turned = examine(encoded(image, "TIFF", tiffinfo={274: 6}), frame=0).pixels
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(image), -1))


def test_gif_gives_its_first_frame_on_white():
    frames = [Image.new("P", (16, 12), at) for at in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(examine(data, frame=0).pixels[0, 0]) == (200, 0, 0)
    clear = encoded(frames[0], "GIF", transparency=1)
    assert tuple(examine(clear, frame=0).pixels[0, 0]) == (255, 255, 255)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read():
    image = Image.new("RGB", (32, 32), (200, 30, 30))
    got = examine(encoded(image, "AVIF", quality=90), frame=0).pixels
    assert np.abs(got.astype(int) - (200, 30, 30)).max() < 12


def test_heic_is_read_by_its_extra_and_named_without_it(monkeypatch):
    pytest.importorskip("pi_heif")
    got = examine(HEIC, frame=0).pixels
    assert got.shape == (16, 24, 3)
    assert got[8, 3].tolist()[0] > 200 > 50 > got[8, 3].tolist()[2] and got[8, 20][2] > 200
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    assert rule(HEIC) == "HEIC, which needs pip install 'sfumato[heic]'"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("format", ["TIFF", "LZW", "GIF", "AVIF", "HEIC"])
def test_a_cut_file_is_refused(format, share):
    if format == "HEIC":
        pytest.importorskip("pi_heif")
        data = HEIC
    elif format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    elif format == "LZW":
        data = encoded(noise(size=(96, 96)), "TIFF", compression="tiff_lzw")
    else:
        data = encoded(noise(size=(96, 96)), format)
    found = rule(data[: int(len(data) * share)])
    assert found in ("truncated or damaged", pictures.UNREADABLE)


def test_a_file_that_is_tiff_and_dicom_is_dicom():
    scans = pytest.importorskip("tests.records.scans")
    data = scans.scan(RNG.integers(0, 255, (16, 16)).astype(np.uint8))
    both = b"II*\0" + b"\0" * 124 + data[128:]
    np.testing.assert_array_equal(examine(both, frame=0).pixels, examine(data, frame=0).pixels)
