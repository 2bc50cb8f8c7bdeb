"""Where the data of a JPEG begin and end, and how many scans they are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sfumato.records.decode import decode
from sfumato.records.jpeg import scans

from .sources import pixels


def jpeg(side: int = 32, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(1, side)).save(out, "JPEG", **options)
    return out.getvalue()


def test_bytes_that_are_not_the_pictures_say_nothing_of_its_scans():
    plain, progressive = jpeg(), jpeg(progressive=True)
    assert scans(plain) == (1, True) and scans(progressive).count > 3
    noise = b"\xff\xda" * 500
    behind = plain + noise  # the film of a telephone
    exif = plain[:2] + b"\xff\xe1" + (len(noise) + 2).to_bytes(2, "big") + noise + plain[2:]
    for data in (behind, exif, plain + progressive):
        assert scans(data) == (1, True)
        np.testing.assert_array_equal(decode(data)[0], decode(plain)[0])
    end = b"\xff\xd9"
    assert not scans(plain[:-2]).complete and not scans(progressive[:-2]).complete
    at = progressive.rindex(b"\xff\xda")
    assert not scans(progressive[:at] + b"\xff\xe1\x00\x04" + end).complete
