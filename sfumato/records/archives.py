"""Where the members of a zip or tar lie in it: read in the bounded process, nothing unpacked."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from ..errors import DataError
from .arrays import check_expansion
from .decode import MAX_BYTES, BadImage

MEMBER, OTHER = 0, 1  # a plain file; a link, device or sparse file
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
LOCAL = 30  # bytes of the header before a member of a zip, without its name
_BAD = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


def of_zip(paths: list[Path]) -> dict[str, Any]:
    """`members`: (name, header's offset, packed and unpacked bytes, method) of each file.

    DataError for a zip that is damaged, encrypted, packed in another way, or would unfold to many
    times its size.
    """
    (path,) = paths
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except _BAD:
        raise DataError(f"{path.name} cannot be read as zip: copy or pack it again") from None
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError(f"{path.name} is encrypted: unpack it with its password, give the folder")
    if any(entry.compress_type not in (STORED, DEFLATED) for entry in entries):
        raise DataError(
            f"{path.name} is packed by a method other than deflate: pack it again, or unpack it"
        )
    check_expansion(path.stat().st_size, sum(entry.file_size for entry in entries))
    return {
        "members": [
            (e.filename, e.header_offset, e.compress_size, e.file_size, e.compress_type)
            for e in entries
        ]
    }


def unzip(path: Path, start: int, packed: int, size: int, how: int) -> bytes:
    """One member of a zip. BadImage if it is damaged, or unfolds to more than was declared."""
    if size > MAX_BYTES or packed > MAX_BYTES:
        raise BadImage("too large")
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            head = stream.read(LOCAL)
            if head[:4] != b"PK\3\4":
                raise ValueError
            stream.seek(sum(struct.unpack("<HH", head[26:30])), 1)
            data = stream.read(packed)
        if how == DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except FileNotFoundError:
        raise BadImage("missing file") from None
    except _BAD:
        raise BadImage("truncated or damaged") from None
    if len(data) != size:
        raise BadImage("truncated or damaged")
    return data


def of_tar(paths: list[Path]) -> dict[str, Any]:
    """`members`: (name, offset, bytes, whether it is a plain file) of each member of a tar.

    DataError for a tar that is damaged or cut.
    """
    (path,) = paths
    found: list[tuple[str, int, int, int]] = []
    files: dict[str, tuple[int, int, int]] = {}
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                vars(archive)["members"].clear()  # it would keep all of them, a kB each
                if member.isdir():
                    continue
                if member.islnk() and member.linkname in files:  # the same file, packed once
                    found.append((member.name, *files[member.linkname]))
                    continue
                plain = MEMBER if member.isreg() and not member.issparse() else OTHER
                if plain == MEMBER and member.offset_data + member.size > length:
                    raise EOFError
                files[member.name] = member.offset_data, member.size, plain
                found.append((member.name, *files[member.name]))
            end = archive.offset
        with open(path, "rb") as stream:  # tarfile takes a damaged header for the end
            stream.seek(end)
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0") or end + tarfile.BLOCKSIZE > length:
                raise EOFError
    except _BAD:
        raise DataError(f"{path.name} is damaged or cut: copy or pack it again") from None
    return {"members": found}
