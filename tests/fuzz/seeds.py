"""Whole files to start from, and how they are spoilt: bytes for any format, values for JSON,
headers for safetensors.
"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# A HEIC picture of 24x16 pixels, the left half red and the right half blue.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAALQAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEA"
    "GEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAAD"
    "AIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAGAAAAAEA"
    "AAAQAAAAAf///9gAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAvG1k"
    "YXQAAACwKAGvBjIeUhOwiQBmQhwTZHstGsde1aFZ2L1DzTsR+0O2fQv1T+DH8W5vweju89oy5JV6H30hvVt+HXTYfb/P"
    "/w/6wI7GaeLrFDJCrErfJwFiCO/QPZfu+Kvn5f0goouGEofeypXuqiBqn+qb44P/SHI+utQDFE+Fcrc5F/MyXGhC1nNj"
    "9ZZt0S65hJLeGNCX/zcV0jHatC+S/jjFNJCxQPyy+d3puY96ui0d61RDsfg="
)
NASTY = [
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    -0.0,
    1e-300,
    True,
    None,
    "",
    "x" * 70_000,
    "\x00",
    "\u202e",
    "../../etc/passwd",
    "/",
    "__class__",
    [],
    {},
    [[]] * 50,
    {"a": {"a": {}}},
    "999999999999",
    "1e400",
    "\ud800",
]
WORDS = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"IHDR",
    b"IDAT",
    b"acTL",
    b"iCCP",
    b"VP8X",
    b"ANMF",
    b"PAR1",
    b"\n",
    b'"',
    b",",
    b"\r",
    b"\0",
    b"{" * 300,
    b"[" * 3000,
]


def encoded(rng: np.random.Generator, form: str, mode: str, **options) -> bytes:
    side = rng.integers(9, 40, 2)
    image = Image.fromarray(rng.integers(0, 255, (*side, 3), np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pictures(form: str) -> list[bytes]:
    rng = np.random.default_rng(7)
    if form == "PNG":
        modes = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")
        return [encoded(rng, form, mode) for mode in modes] + [
            encoded(rng, form, "RGB", save_all=True, append_images=[Image.new("RGB", (9, 9))])
        ]
    if form == "JPEG":
        return [
            *(encoded(rng, form, mode) for mode in ("RGB", "L", "CMYK")),
            encoded(rng, form, "RGB", progressive=True),
            encoded(rng, form, "RGB", exif=Image.Exif(), icc_profile=b"x" * 200, quality=5),
        ]
    if form == "WEBP":
        out = io.BytesIO()
        frames = [Image.fromarray(rng.integers(0, 255, (12, 12, 4), np.uint8)) for _ in range(3)]
        frames[0].save(out, form, save_all=True, append_images=frames[1:], lossless=True)
        return [
            encoded(rng, form, "RGB"),
            encoded(rng, form, "RGBA", lossless=True),
            out.getvalue(),
        ]
    if form == "TIFF":
        pages = [Image.fromarray(rng.integers(0, 255, (12, 12), np.uint8)) for _ in range(3)]
        return [
            *(encoded(rng, form, mode) for mode in ("RGB", "L", "P", "1", "CMYK", "I;16")),
            *(encoded(rng, form, "RGB", compression=c) for c in ("tiff_lzw", "jpeg", "packbits")),
            encoded(rng, form, "L", save_all=True, append_images=pages),
        ]
    if form == "HEIC":
        return [base64.b64decode(HEIC)]
    modes = {"AVIF": ("RGB", "L"), "GIF": ("L", "P")}.get(form, ("RGB", "L", "P", "1"))
    return [encoded(rng, form, mode) for mode in modes]


def scans() -> list[bytes]:
    """Small DICOM files that pydicom ships, in every kind of transfer syntax, and volumes."""
    from pathlib import Path

    import nibabel
    import pydicom

    files = Path(pydicom.__file__).parent / "data" / "test_files"
    names = (
        *("MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"),
        *("MR_small_bigendian", "MR_small_implicit", "SC_rgb_jpeg_gdcm", "SC_rgb_rle_2frame"),
        *("JPEGLSNearLossless_16", "693_J2KI", "rtdose_rle", "image_dfl", "examples_palette"),
        *("liver_1frame", "test-SR"),
    )
    rng = np.random.default_rng(7)
    voxels = rng.integers(0, 255, (9, 10, 4)).astype(np.uint8)
    volume = nibabel.Nifti1Image(voxels, np.diag([1.0, -1, 2, 1])).to_bytes()
    packed = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return [
        *((files / f"{name}.dcm").read_bytes() for name in names),
        volume,
        packed.compress(volume) + packed.flush(),
    ]


def spoilt(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to six wounds: bits, numbers, words, cuts, copies, a piece of another file."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 512))
        wound = rng.randrange(9)
        if wound == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif wound == 1:
            data[at : at + 4] = struct.pack(
                rng.choice("<>") + "i", rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 65535, 65536))
            )
        elif wound == 2:
            data[at : at + size] = rng.randbytes(size)
        elif wound == 3:
            data[at:at] = rng.choice(WORDS)
        elif wound == 4:
            del data[at : at + size]
        elif wound == 5:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif wound == 6:
            del data[at:]
        elif wound == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            data[at:] = other[start : start + rng.choice((64, 4096))]
        else:  # a number near the front, where headers say how much is to come
            front = min(len(data), 80)
            data[rng.randrange(front + 1) :][:1] = b""
            place = rng.randrange(front + 1)
            data[place : place + 1] = rng.choice((b"\xff", b"\x00", b"\x7f"))
    return bytes(data)


def spoilt_png(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Half of the time with checksums made right again, so that what is inside is read, too."""
    data = bytearray(spoilt(rng, data, others))
    at = 8 if rng.random() < 0.5 else len(data)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def spoilt_json(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A value, a key or a whole branch replaced, doubled or taken away; now and then bytes
    instead.
    """
    if rng.random() < 0.25:
        return spoilt(rng, data, others)
    body = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        inner = body
        while isinstance(inner, (dict, list)) and inner:
            key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
            if isinstance(inner[key], (dict, list)) and inner[key] and rng.random() < 0.8:
                inner = inner[key]
                continue
            wound = rng.randrange(5)
            if wound == 0:
                del inner[key]
            elif wound == 1 and isinstance(inner[key], (int, float)):
                inner[key] = inner[key] * rng.choice((-1, 10**6, 1e-9, 2**40))
            elif wound == 2 and isinstance(inner, list):
                inner.extend(inner[:1] * rng.choice((1, 500)))
            elif wound == 3 and isinstance(inner, dict):
                inner[rng.choice(("x", "", "trust_remote_code", "type", "steps"))] = rng.choice(
                    NASTY
                )
            else:
                inner[key] = rng.choice(NASTY)
            break
    return json.dumps(body).encode("utf-8", "surrogatepass")


def spoilt_weights(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A safetensors file whose header or bytes are spoilt."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.4:
        return spoilt(rng, data, others)
    head = spoilt_json(rng, data[8 : 8 + size], others)
    said = rng.choice((len(head), len(head), len(head), 2**63, len(head) + 7, 0))
    return said.to_bytes(8, "little") + head + data[8 + size :]


def tables() -> dict[str, list[bytes]]:
    rows = [
        {
            "file_name": f"{i}.png",
            "label": "ab"[i % 2],
            "patient": f"p{i // 2}",
            "caption": 'a "b", c\n' * (i == 3),
        }
        for i in range(8)
    ]
    text = "file_name,label,patient,caption\r\n" + "".join(
        ",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()) + "\r\n"
        for row in rows
    )
    return {"csv": [text.encode()], "jsonl": ["\n".join(map(json.dumps, rows)).encode()]}


def parquet(folder: Path) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = (pictures("PNG")[:4] + pictures("JPEG")[:2]) * 2
    rows = {"label": ["a", "b"] * 6, "patient": list("aabbccddeeff")}
    found = []
    for number, (column, more) in enumerate(
        (
            ([{"bytes": data, "path": None} for data in images], {"compression": "zstd"}),
            (images, {"compression": "none", "row_group_size": 5, "use_dictionary": False}),
        )
    ):
        pq.write_table(pa.table({"image": column, **rows}), folder / f"{number}.parquet", **more)
        found.append((folder / f"{number}.parquet").read_bytes())
    return found


def arrays() -> dict[str, list[bytes]]:
    rng, found = np.random.default_rng(3), []
    for save, pixels in (
        (np.savez, rng.integers(0, 255, (8, 9, 9), np.uint8)),
        (np.savez_compressed, rng.random((8, 9, 9, 3), np.float32)),
    ):
        out = io.BytesIO()
        save(out, images=pixels, labels=np.arange(8) % 2, unit=np.arange(8) // 2)
        found.append(out.getvalue())
    idx = b"\0\0\x08\x03" + struct.pack(">3I", 8, 9, 9) + rng.bytes(8 * 81)
    return {"npz": found, "idx": [idx]}


def packed(kind: str) -> list[bytes]:
    """Files that hold or name pictures: a zip of class folders, WebDataset, Arrow, COCO."""
    import tarfile
    import zipfile

    images, out = pictures("PNG")[:4] * 2, io.BytesIO()
    if kind == "zip":
        found = []
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(out := io.BytesIO(), "w", method) as archive:
                for i, data in enumerate(images):
                    archive.writestr(f"{'ab'[i % 2]}/p{i // 2}/{i}.png", data)
            found.append(out.getvalue())
        return found
    if kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            for i, data in enumerate(images):
                held = {"png": data, "cls": b"ab"[i % 2 : i % 2 + 1], "txt": b"a caption"}
                held["json"] = json.dumps({"patient": f"p{i // 2}"}).encode()
                for suffix, text in held.items():
                    info = tarfile.TarInfo(f"{i}.{suffix}")
                    info.size = len(text)
                    archive.addfile(info, io.BytesIO(text))
        return [out.getvalue()]
    if kind == "arrow":
        import pyarrow as pa

        columns = {"label": ["a", "b"] * 4, "patient": list("aabbccdd")}
        rows = pa.table({"image": images, **columns})
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=3)
        with pa.ipc.new_file(other := io.BytesIO(), rows.schema) as file:
            file.write_table(rows)
        return [out.getvalue(), other.getvalue()]
    named = [{"id": i, "file_name": f"{i}.png", "patient": f"p{i // 2}"} for i in range(8)]
    boxes = [
        {"id": i, "image_id": i // 2, "category_id": i % 2, "bbox": [1, 1, 9 + i, 9], "area": i}
        for i in range(16)
    ]
    kinds = [{"id": i, "name": "ab"[i]} for i in range(2)]
    body = {"images": named, "annotations": boxes, "categories": kinds}
    return [json.dumps(body).encode()]
