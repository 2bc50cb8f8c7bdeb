"""Stored values become grey levels by a declaration or by the type of one picture alone."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import DataError, SfumatoError
from sfumato.options import FIXED, Reading, Values, declared_values
from sfumato.records import load_records, tiff
from sfumato.records.decode import decode, examine, fingerprint
from sfumato.records.stack import canonical

TWELVE = Values(0, 4095)
RNG = np.random.default_rng(5)


def png(samples: np.ndarray, kind: int, bits: int = 16, more: bytes = b"") -> bytes:
    """A PNG of [H, W, channels]; `kind`: 0 grey, 2 colours, 4 and 6 the same with alpha."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    lines = samples.astype(">u2" if bits == 16 else "u1")
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + more
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **({"lossless": True} if format == "WEBP" else {}))
    return stream.getvalue()


def by_hand(samples: np.ndarray, values: Values) -> np.ndarray:
    """The rule as docs/data.md states it, in exact arithmetic on floats."""
    low, high = values.low, values.high
    levels = [min(max((float(x) - low) / (high - low), 0.0), 1.0) for x in samples.reshape(-1)]
    return np.array([int(x * 255 + 0.5) for x in levels], np.uint8).reshape(samples.shape)


@pytest.mark.parametrize("kind,channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("values", [TWELVE, Values(-100, 3000), Values(100.5, 200.25)])
def test_sixteen_bits_by_the_declared_range(kind, channels, values):
    samples = RNG.integers(0, 6000, (20, 13, channels))
    samples[0, :5, 0] = (0, 100, 101, 4095, 65535)
    if kind in (4, 6):
        samples[..., -1] = 65535
    pixels, _ = decode(png(samples, kind), values)
    shown = samples[..., :3] if channels >= 3 else np.repeat(samples[..., :1], 3, 2)
    np.testing.assert_array_equal(pixels, by_hand(shown, values))


def test_the_fixed_rules_of_sixteen_bits_stay():
    samples = RNG.integers(0, 65536, (9, 10, 1))
    pixels, _ = decode(png(samples, 0))
    np.testing.assert_array_equal(pixels[..., 0], (samples[..., 0] + 128) // 257)
    colours = RNG.integers(0, 65536, (9, 10, 3))
    np.testing.assert_array_equal(decode(png(colours, 2))[0], colours >> 8)


MODES = {  # of Pillow, with a stored picture each and its colour before anything is declared
    "1": (Image.new("1", (9, 9), 1), (255, 255, 255)),
    "L": (Image.new("L", (9, 9), 60), (60, 60, 60)),
    "P": (Image.new("RGB", (9, 9), (10, 60, 200)).convert("P"), None),
    "RGB": (Image.new("RGB", (9, 9), (10, 60, 200)), (10, 60, 200)),
    "LA": (Image.new("LA", (9, 9), (60, 0)), (255, 255, 255)),
    "RGBA": (Image.new("RGBA", (9, 9), (10, 60, 200, 0)), (255, 255, 255)),
    "CMYK": (Image.new("CMYK", (16, 16), (0, 0, 0, 0)), (255, 255, 255)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_by_the_type_alone(mode):
    image, colour = MODES[mode]
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    pixels, _ = decode(data)
    if colour is not None:
        assert tuple(pixels[4, 4]) == colour
    # A range that 8 bits cannot hold is meant for others, whatever the picture holds.
    for values in (TWELVE, Values(-1000, 400), Values(0, 255.5)):
        np.testing.assert_array_equal(decode(data, values)[0], pixels)
    np.testing.assert_array_equal(
        decode(data, Values(invert=True, background="ignore"))[0],
        255 - decode(data, Values(background="ignore"))[0],
    )


def test_a_range_within_eight_bits_is_meant_for_all():
    values = Values(50, 150)
    grey = np.arange(0, 250, dtype=np.uint8).reshape(10, 25)
    for format in ("PNG", "BMP", "WEBP"):
        pixels, _ = decode(encoded(Image.fromarray(grey), format), values)
        np.testing.assert_array_equal(pixels[..., 0], by_hand(grey, values))
    deep = png(grey[..., None].astype(int), 0)
    np.testing.assert_array_equal(decode(deep, values)[0][..., 0], by_hand(grey, values))


def test_inverted_greys_and_backgrounds():
    samples = np.full((9, 9, 1), 1000)
    pixels, _ = decode(png(samples, 0), Values(0, 4095, invert=True))
    assert tuple(pixels[0, 0]) == (255 - 62,) * 3
    clear = encoded(Image.new("RGBA", (9, 9), (10, 20, 30, 0)))
    half = encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 128)))
    seen = {
        name: tuple(decode(clear, Values(background=name))[0][0, 0])
        for name in ("white", "black", "grey", "ignore")
    }
    assert seen == {
        "white": (255,) * 3, "black": (0,) * 3, "grey": (128,) * 3, "ignore": (10, 20, 30),
    }  # fmt: skip
    # Greys turn round before they are laid on the ground, which is what was said.
    assert tuple(decode(clear, Values(invert=True))[0][0, 0]) == (255,) * 3
    assert decode(half, Values(background="white"))[0][0, 0, 0] in (126, 127, 128)
    assert decode(half, Values(background="black", invert=True))[0][0, 0, 0] in (127, 128, 129)


TYPES = {
    "uint8": (np.uint8, lambda x: x),
    "bool": (np.bool_, lambda x: x * 255),
    "uint16": (np.uint16, lambda x: (x.astype(int) + 128) // 257),
    "float16": (np.float16, lambda x: np.rint(x * np.float16(255))),
    "float32": (np.float32, lambda x: np.rint(x * np.float32(255))),
    "float64": (np.float64, lambda x: np.rint(x * 255)),
}


def of_type(dtype, n=6) -> np.ndarray:
    shape = (n, 9, 10)
    if np.dtype(dtype).kind == "f":
        return RNG.random(shape).astype(dtype)
    top = 2 if dtype == np.bool_ else np.iinfo(dtype).max + 1
    return RNG.integers(0, top, shape).astype(dtype)


@pytest.mark.parametrize("name", TYPES)
def test_every_array_type_by_its_fixed_rule(name):
    dtype, rule = TYPES[name]
    images = of_type(dtype)
    found = canonical(images)
    np.testing.assert_array_equal(found.pixels, rule(images).astype(np.uint8))
    assert found.rules == [None] * 6


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int64, np.float32, np.float64]
)
def test_every_array_type_by_a_declared_range(dtype):
    images = (RNG.random((4, 9, 10)) * 120).astype(dtype)
    if np.dtype(dtype).kind in "if":
        images[0] = -images[0]
    values = Values(10, 100)
    found = canonical(images, values)
    np.testing.assert_array_equal(found.pixels, by_hand(images, values))
    turned = canonical(images, Values(10, 100, invert=True))
    np.testing.assert_array_equal(turned.pixels, 255 - found.pixels)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64])
def test_an_array_type_without_black_and_white_asks_for_them(dtype):
    with pytest.raises(DataError, match="no fixed black and white.*--range"):
        canonical(np.zeros((2, 9, 9), dtype))
    with pytest.raises(DataError, match="complex64"):
        canonical(np.zeros((2, 9, 9), np.complex64), TWELVE)


def test_floats_outside_their_rule_and_numbers_that_are_none():
    images = RNG.random((5, 9, 9))
    images[1, 0, 0], images[2, 3, 3], images[3, 2, 2] = 1.01, np.nan, -np.inf
    assert canonical(images).rules == [
        None, "floats outside 0..1", "not finite", "not finite", None,
    ]  # fmt: skip
    assert canonical(images, Values(0, 2)).rules == [
        None, None, "not finite", "not finite", None,
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_another_record_changes_no_byte_of_this_one(dtype):
    """The range is that of the declaration, never of the set."""
    one = (RNG.random((9, 9)) * 900).astype(dtype)
    sets = [np.stack([one, np.full((9, 9), other, dtype)]) for other in (0, 5, 32000)]
    for values in (Values(0, 1000), Values(0, 1000, invert=True), Values(100, 500)):
        rows = [canonical(images, values) for images in sets]
        assert len({row.pixels[0].tobytes() for row in rows}) == 1
        assert len({(row.prints or ())[0] for row in rows}) == 1
        assert rows[0].pixels[0].tobytes() == canonical(one[None], values).pixels.tobytes()


def write_set(root, brightest: int) -> None:
    for name, top in (("a", 4000), ("b", brightest)):
        (root / name).mkdir(parents=True, exist_ok=True)
        grey = (np.arange(256).reshape(16, 16) * top // 255).astype(np.uint16)
        for i in range(3):
            Image.fromarray(np.roll(grey, i)).save(root / name / f"{i}.png")


@pytest.mark.parametrize("said", [{}, {"value_range": "12bit"}, {"window": "1000/500"}])
def test_files_alone_too_and_the_ledger_knows_them_whatever_is_declared(tmp_path, said):
    write_set(tmp_path / "one", 300)
    write_set(tmp_path / "two", 65535)
    one, two = (
        load_records(tmp_path / name, **Reading(**said).keywords()) for name in ("one", "two")
    )
    np.testing.assert_array_equal(one.images(range(3), 16), two.images(range(3), 16))
    plain = load_records(tmp_path / "one")
    assert one.fingerprints == plain.fingerprints and one.marks == plain.marks
    key = b"k" * 16
    assert (one.digest(key) == plain.digest(key)) == (not said)  # a replay is on the same levels
    if said.get("value_range"):
        assert one.images([0], 16).max() == round(4000 / 4095 * 255)
        np.testing.assert_array_equal(
            one.pixels(0), decode((tmp_path / "one/a/0.png").read_bytes(), TWELVE)[0]
        )


def alike_by_the_fixed_rules(kind: str) -> list[np.ndarray]:
    """Two pictures that only a declaration tells apart, 16 bits or a colour that is covered."""
    if kind == "covered":
        return [np.full((16, 16, 4), (level, 9, 9, 0), np.uint8) for level in (20, 200)]
    ramp = (np.arange(256) * 257).reshape(16, 16).astype(np.uint16)
    return [ramp, np.where(ramp == 257, ramp + 60, ramp)]


@pytest.mark.parametrize("kind", ["png", "covered", "tiff", "array"])
def test_a_replay_sees_the_levels_of_the_run_where_the_fixed_rules_do_not(tmp_path, kind):
    said = {"background": "ignore"} if kind == "covered" else {"value_range": "0..1000"}
    found = []
    for pixels in alike_by_the_fixed_rules(kind):
        file = tmp_path / {"array": "x.npz", "tiff": "x/0.tif"}.get(kind, "x/0.png")
        file.parent.mkdir(exist_ok=True)
        if kind == "array":
            np.savez(file, images=pixels[None])
        else:
            Image.fromarray(pixels).save(file)
        place = file if kind == "array" else file.parent
        found.append(load_records(place, **Reading(unlabelled=True, **said).keywords()))
        found.append(load_records(place, unlabelled=True))
    one, _, other, plain = found
    assert (one.images([0], 16) != other.images([0], 16)).any()
    assert len({records.fingerprints for records in found}) == 1  # the ledger knows them as one
    key = b"k" * 16
    assert one.digest(key) != other.digest(key)
    assert one.digest(key, as_before=True) == other.digest(key, as_before=True) != one.digest(key)
    assert plain.digest(key, as_before=True) == plain.digest(key)
    moved = one.rearranged(np.array([0]))
    assert moved.digest(key) == one.digest(key)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_the_ledger_knows_a_part_of_a_picture_whatever_is_declared(kind):
    file, box = io.BytesIO(), (2, 3, 20, 24)
    Image.fromarray((np.arange(32 * 32) * 60).reshape(32, 32).astype(kind)).save(file, "TIFF")

    def known(values: Values, box: tuple[int, int, int, int] = box) -> tuple[bytes, bytes]:
        part = tiff.frame(file.getvalue(), 0, values).cut(box)
        return part.mark or fingerprint(part.plain), part.pixels.tobytes()

    one, other = known(TWELVE), known(Values(5, 50000))
    assert one[0] == other[0] and one[1] != other[1]
    assert known(TWELVE, (2, 3, 20, 25))[0] != one[0]
    assert known(TWELVE, (2, 3, 32, 32)) == known(TWELVE, (2, 3, 40, 50))
    if kind is np.uint16:
        assert known(FIXED)[0] == one[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_are_known_by_the_fixed_rule_whatever_is_declared(tmp_path, dtype):
    images = of_type(dtype, 8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(8) % 2)
    plain = load_records(tmp_path / "set.npz")
    for said in ({"value_range": (0, 0.5)}, {"invert": True}, {"window": "9/4"}):
        other = load_records(tmp_path / "set.npz", **Reading(**said).keywords())
        assert other.fingerprints == plain.fingerprints
        assert not np.array_equal(other.images(range(8), 9), plain.images(range(8), 9))
        moved = other.rearranged(np.arange(8)[::-1])
        np.testing.assert_array_equal(moved.images([0], 9), other.images([7], 9))
        assert moved.load(range(8), 9)[1].all()


def test_what_only_a_range_makes_readable_is_known_by_its_own_bytes(tmp_path):
    images = RNG.integers(-1000, 3000, (6, 9, 9)).astype(np.int16)
    np.savez(tmp_path / "ct.npz", images=images, labels=np.arange(6) % 2)
    sets = [
        load_records(tmp_path / "ct.npz", values=declared_values(window=w))
        for w in ("40/400", "-600/1500")
    ]
    assert sets[0].fingerprints == sets[1].fingerprints and len(set(sets[0].fingerprints)) == 6


def test_what_a_file_holds_is_seen_for_the_owner():
    stored = examine(png(np.arange(81).reshape(9, 9, 1) * 50, 0)).stored
    assert (stored["bits"], stored["low"], stored["high"]) == (16, 0, 4000)
    assert stored["bright"] == 16 and not stored["colour"] and not stored["clear"]
    clipped = examine(png(np.arange(81).reshape(9, 9, 1) * 50, 0), Values(0, 1999)).stored
    assert clipped["outside"] == pytest.approx(41 / 81) and clipped["bright"] == 255
    clear = examine(encoded(Image.new("RGBA", (9, 9), (255, 255, 255, 9)))).stored
    assert clear["clear"] and clear["colour"] and clear["dark"] == 255 and clear["bits"] == 8


@pytest.mark.parametrize(
    "said,words",
    [
        ({"value_range": "4095..0"}, "lower value first.*--invert"),
        ({"value_range": "7..7"}, "lower value first"),
        ({"value_range": "nan..1"}, "12bit, or LO..HI"),
        ({"value_range": (0, float("inf"))}, "list of numbers"),
        ({"value_range": (-1.7e308, 1.7e308)}, "12bit, or LO..HI"),
        ({"value_range": "0bit"}, "12bit, or LO..HI"),
        ({"value_range": "twelve"}, "12bit, or LO..HI"),
        ({"value_range": (1, 2, 3)}, "12bit, or LO..HI"),
        ({"window": "40/0"}, "width must be above 0"),
        ({"window": "40/-4"}, "width must be above 0"),
        ({"window": "40"}, "CENTRE/WIDTH"),
        ({"window": "nan/4"}, "CENTRE/WIDTH"),
        ({"window": "4/4", "value_range": "12bit"}, "one of them"),
        ({"background": "pink"}, "--background pink"),
    ],
)
def test_declarations_that_say_nothing_are_refused(said, words):
    with pytest.raises(SfumatoError, match=words):
        Reading(**said)


def test_declarations_as_people_write_them():
    assert Reading(value_range="12bit").values == Reading(value_range=(0, 4095)).values == TWELVE
    assert Reading(value_range="-1e3 .. 400").values == Values(-1000, 400)
    assert Reading(window="40/400").values == Reading(window=(40, 400)).values == Values(-160, 240)
    assert Reading().values == FIXED and not FIXED.said and not FIXED.given()
    assert Reading(value_range="12-bit").values.said == "values 0..4095 -> 0..255, declared"
    again = Values.kept({"values": Reading(window="1/2", invert=True).values.given()})
    assert again == Values(0, 2, invert=True) and Values.kept({}) == FIXED


def interlaced(samples: np.ndarray, kind: int) -> bytes:
    """The same by Adam7."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    lines = b""
    for x, y, right, down in [*passes, (0, 1, 1, 2)]:
        for line in samples[y::down, x::right].astype(">u2"):
            lines += b"\0" + line.tobytes()
    whole = png(samples, kind)
    head = whole[12:28] + b"\x01"
    at = whole.index(b"IDAT") - 4
    body = zlib.compress(lines)
    data = struct.pack(">I", len(body)) + b"IDAT" + body
    data += struct.pack(">I", zlib.crc32(b"IDAT" + body)) + whole[-12:]
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:at] + data


@pytest.mark.parametrize("kind,channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_interlaced_files_are_the_same_picture(kind, channels):
    samples = RNG.integers(0, 5000, (21, 19, channels))
    plain, laced = png(samples, kind), interlaced(samples, kind)
    for values in (FIXED, TWELVE):
        np.testing.assert_array_equal(decode(laced, values)[0], decode(plain, values)[0])
