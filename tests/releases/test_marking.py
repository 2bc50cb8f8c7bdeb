"""Every synthetic picture says that it is one: the same packet in each, and nothing beside it."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.releases import marked_png, verify, write_release
from sfumato.releases.contents import check_png
from sfumato.releases.marking import CHUNK, PACKET, SOURCE_TYPE

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def test_a_reader_of_xmp_finds_the_digital_source_type_and_the_pixels_are_the_same():
    image = Image.open(BytesIO(marked_png(IMAGE)))
    assert (np.asarray(image) == IMAGE).all()
    packet = image.info["xmp"].decode("utf-8")
    assert packet == PACKET and not image.getexif()
    body = packet[packet.index("?>") + 2 : packet.rindex("<?")]
    assert [e.text for e in ElementTree.fromstring(body).iter(PROPERTY)] == [SOURCE_TYPE]


def test_the_mark_is_the_same_in_every_picture_and_stands_once():
    a, b = marked_png(IMAGE), marked_png(255 - IMAGE)
    assert a.count(CHUNK) == b.count(CHUNK) == 1
    check_png(a, "a")


def spoil(text: str) -> bytes:
    body = CHUNK[4:-4].replace(b"trainedAlgorithmicMedia", text.encode())
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    "other",
    [
        spoil("patient 7 of ward three "),
        CHUNK + CHUNK,
        CHUNK[:-4] + b"ward",
    ],
    ids=["another text", "twice", "a checksum of its own"],
)
def test_any_other_packet_is_refused(other):
    with pytest.raises(SfumatoError, match="mark of synthetic pictures alone"):
        check_png(marked_png(IMAGE).replace(CHUNK, other), "a picture")


def test_the_card_says_that_pictures_are_marked_only_where_all_are(kit, tmp_path):
    source = kit.images(tmp_path / "s", n=4)
    bare = write_release(source, tmp_path / "bare", **kit.facts(settings=None))
    pngs = sorted(source.rglob("*.png"))
    for path in pngs[1:]:
        path.write_bytes(marked_png(np.asarray(Image.open(path))))
    some = write_release(source, tmp_path / "some", **kit.facts(settings=None))
    pngs[0].write_bytes(marked_png(np.asarray(Image.open(pngs[0]))))
    every = write_release(source, tmp_path / "every", **kit.facts(settings=None))
    cards = [(out / "README.md").read_text("utf-8") for out in (bare, some, every)]
    assert ["marked as synthetic" in card for card in cards] == [False, False, True]
    assert all(verify(out).ok for out in (bare, some, every))
