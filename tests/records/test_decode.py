"""Decoding rules: what becomes pixels, what becomes a zero slot, and why."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sfumato.records.decode import BadImage, decode, fingerprint, fit

RNG = np.random.default_rng(0)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(width=40, height=30, mode="RGB"):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def rule(data):
    with pytest.raises(BadImage) as caught:
        decode(data)
    return caught.value.rule


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the upper left
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    image = Image.fromarray(upright)
    stored = image if inverse is None else image.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x8825] = {1: "N"}
    pixels, had = decode(encoded(stored, exif=exif))
    assert had
    np.testing.assert_array_equal(pixels, upright)


def test_transparency_is_composited_on_white():
    rgba = np.zeros((10, 10, 4), np.uint8)
    rgba[:5] = (10, 20, 30, 255)
    pixels, had = decode(encoded(Image.fromarray(rgba)))
    assert not had
    assert tuple(pixels[0, 0]) == (10, 20, 30) and tuple(pixels[9, 9]) == (255, 255, 255)
    palette = Image.new("P", (10, 10), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert tuple(decode(encoded(palette, transparency=1))[0][0, 0]) == (255, 255, 255)
    assert tuple(decode(encoded(palette))[0][0, 0]) == (200, 0, 0)
    assert tuple(decode(encoded(Image.new("LA", (9, 9), (50, 0))))[0][0, 0]) == (255, 255, 255)


def test_sixteen_bit_one_bit_grey_and_cmyk():
    deep = np.full((12, 12), 257 * 100, np.uint16)
    deep[0, 0] = 65535
    pixels, _ = decode(encoded(Image.fromarray(deep)))
    assert tuple(pixels[5, 5]) == (100, 100, 100) and tuple(pixels[0, 0]) == (255, 255, 255)
    assert tuple(decode(encoded(Image.new("1", (9, 9), 1)))[0][0, 0]) == (255, 255, 255)
    grey, _ = decode(encoded(Image.new("L", (9, 9), 77)))
    assert (grey == 77).all() and grey.shape == (9, 9, 3)
    cmyk, _ = decode(encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG"))
    assert (cmyk > 250).all()


def test_profile_and_text_are_ignored():
    data = encoded(noise(), icc_profile=b"broken profile")
    assert decode(data)[0].shape == (30, 40, 3)


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue")]
    data = encoded(
        frames[0],
        format,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if format == "WEBP" else {}),
    )
    assert tuple(decode(data)[0][0, 0]) == (255, 0, 0)


@pytest.mark.parametrize("format", ["ICO", "PDF", "PPM", "JPEG2000", "TGA"])
def test_other_formats_never_reach_a_decoder(format):
    assert rule(encoded(noise(32, 32), format)).startswith("not a picture")


def test_text_empty_and_svg():
    assert rule(b"") == "empty file"
    assert rule(b"not a picture at all").startswith("not a picture")
    assert rule(b"<svg xmlns='http://www.w3.org/2000/svg'/>").startswith("not a picture")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "format,options",
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {})],
)
def test_a_cut_file_is_refused(format, options, share):
    data = encoded(noise(96, 96), format, **options)
    decode(data)
    rule(data[: int(len(data) * share)])


def test_jpeg_with_trailing_bytes_is_read():
    data = encoded(noise(), "JPEG", progressive=True) + b"PK\x03\x04\xff\xda trailing"
    assert decode(data)[0].shape == (30, 40, 3)


def png_of_declared_size(width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_size_rules_before_decoding():
    assert rule(png_of_declared_size(30_000, 30_000)) == "too large"
    assert rule(png_of_declared_size(8_000, 7_000)) == "too large"
    assert rule(png_of_declared_size(100, 100)) == "truncated or damaged"
    assert rule(encoded(noise(1, 1))) == "too small"
    assert rule(encoded(noise(40, 7))) == "too small"
    assert rule(encoded(noise(1, 2000))) == "aspect ratio"
    assert rule(encoded(noise(8 * 21, 8))) == "aspect ratio"
    decode(encoded(noise(8 * 20, 8)))


def test_random_damage_gives_a_rule_and_never_another_error():
    sources = [encoded(noise(24, 24), f) for f in ("PNG", "JPEG", "WEBP", "BMP")]
    for i in range(400):
        data = bytearray(sources[i % 4])
        for at in RNG.integers(0, len(data), 1 + i % 5):
            data[at] = RNG.integers(0, 256)
        try:
            assert decode(bytes(data))[0].dtype == np.uint8
        except BadImage:
            pass


def test_fit_crops_pads_and_resizes():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert (fit(wide, (20, 20)) == 200).all()
    assert (fit(wide, (8, 8)) == 200).all()
    own = np.full((28, 28, 3), (0, 9, 255), np.uint8)
    own[5:20, 5:] = 100  # touches one edge: the background is still that of most of the edge
    padded = fit(own, (32, 32), pad=True)
    assert (padded[2:30, 2:30] == own).all(), "pixels are kept"
    padded[2:30, 2:30] = (0, 9, 255)
    assert (padded == (0, 9, 255)).all(), "and the background goes on around them, black or white"
    assert (fit(np.full((28, 28, 3), 9, np.uint8), (32, 32)) == 9).all()
    # five px short: resized
    assert (fit(np.full((27, 27, 3), 9, np.uint8), (32, 32), pad=True) == 9).all()


def test_fingerprints_tell_pixels_and_shapes_apart():
    one = np.zeros((8, 12, 3), np.uint8)
    assert fingerprint(one) == fingerprint(one.copy()) != fingerprint(one.reshape(12, 8, 3))
