"""Files that stand for what people have."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (20, 24, 3), np.uint8)


def encoded(form: str = "PNG", pixels=PIXELS, mode: str | None = None, **options) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def fresh() -> bytes:
    return encoded(pixels=RNG.integers(0, 255, (16, 16, 3), np.uint8))


def declared(
    width: int, height: int, rows: bytes | None = None, depth: bytes = b"\x08\x02"
) -> bytes:
    """A PNG whose header says how large it is; with `rows` its data say so too."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = chunk(b"IHDR", struct.pack(">II", width, height) + depth + bytes(3))
    body = chunk(b"IDAT", zlib.compress(rows if rows is not None else bytes(1000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    return encoded("JPEG", exif=exif)


def polyglot() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ward7.txt", "secret")
    return encoded("JPEG") + out.getvalue()


def animation(form: str) -> bytes:
    more = {"lossless": True} if form == "WEBP" else {}
    return encoded(
        form, save_all=True, append_images=[Image.fromarray(255 - PIXELS)], duration=50, **more
    )


def scans(count: int) -> bytes:
    data = encoded("JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    return data[:at] + data[at:-2] * count + data[-2:]


def noted(size: int) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("x", "y" * size, zip=True)
    return encoded(pnginfo=note)


def cut(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


def folder_of(root: Path, **extra: bytes) -> Path:
    """Two classes of four good pictures each; `extra` files go into the first."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            (root / name / f"{number}.png").write_bytes(fresh())
    for name, data in extra.items():
        (root / "a" / name).write_bytes(data)
    return root


ROWS = "".join(f"{c}/{i}.png,{c}\n" for c in "ab" for i in range(4))
TABLE = "file_name,label\n" + ROWS
