"""Records that come as arrays: idx pairs (MNIST and its relatives) and npz files."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError

# bytes; unpacked size / packed size that is still believed above it
PLENTY, MOST_EXPANSION = 256 * 2**20, 50
_BAD_NPZ = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    MemoryError,
)
IDX_NAMES = {"train": ("train",), "test": ("t10k", "test")}


def find_idx(path: Path, split: str) -> tuple[Path, Path] | None:
    """The (images, labels) files of an idx pair in a folder or named by either file.

    None when it is not idx.
    """
    if path.is_file():
        for one, other in (("images", "labels"), ("labels", "images")):
            if f"{one}-idx" in path.name or f"{one}.idx" in path.name:
                twin = _twin(path, one, other)
                return (path, twin) if one == "images" else (twin, path)
        return None
    pairs = [
        p
        for p in sorted(path.iterdir())
        if p.is_file() and ("images-idx3" in p.name or "images.idx3" in p.name)
    ]
    if not pairs:
        return None
    wanted = [
        p for p in pairs if any(name in p.name.split("images")[0] for name in IDX_NAMES[split])
    ]
    plain = [p for p in wanted if p.suffix != ".gz"]
    wanted = plain or wanted
    if len(wanted) != 1:
        raise DataError(
            f"{len(wanted)} idx image files for the {split} split: "
            f"name one file, or keep one {IDX_NAMES[split][0]}-images-idx3-ubyte"
        )
    return wanted[0], _twin(wanted[0], "images", "labels")


def _twin(path: Path, one: str, other: str) -> Path:
    dims = {"images": "idx3", "labels": "idx1"}
    name = path.name.replace(one, other).replace(dims[one], dims[other])
    stem = name.removesuffix(".gz")
    for candidate in (name, stem, stem + ".gz"):
        if (path.parent / candidate).is_file():
            return path.parent / candidate
    raise DataError(f"incomplete idx pair: put {stem} beside {path.name}")


def read_idx(path: Path) -> np.ndarray:
    """One idx file as uint8 array; memory-mapped unless it is gzipped.

    Raises DataError for a wrong or cut file.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                head = stream.read(64)
                shape, offset = _idx_header(head, path.name)
                size = offset + math.prod(shape)
                check_expansion(path.stat().st_size, size)
                return parse_idx(head + stream.read(max(0, size + 1 - len(head))), path.name)
        with open(path, "rb") as stream:
            shape, offset = _idx_header(stream.read(64), path.name)
        if path.stat().st_size != offset + math.prod(shape):
            raise DataError(
                f"{path.name} is shorter or longer than its idx header states: copy it again"
            )
        return np.memmap(path, np.uint8, "r", offset, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name} cannot be read as idx ({type(error).__name__}): copy it again"
        ) from None


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """The uint8 array in the bytes of one idx file. Raises DataError for a wrong or cut file."""
    shape, offset = _idx_header(data[:64], name)
    if len(data) != offset + math.prod(shape):
        raise DataError(f"{name} is shorter or longer than its idx header states: copy it again")
    return np.frombuffer(data, np.uint8, offset=offset).reshape(shape)


def _idx_header(head: bytes, name: str) -> tuple[tuple[int, ...], int]:
    if (
        len(head) < 8
        or head[:3] != b"\0\0\x08"
        or head[3] not in (1, 3, 4)
        or len(head) < 4 + 4 * head[3]
    ):
        raise DataError(
            f"{name} is not an idx file of unsigned bytes: give MNIST-style idx3 images and idx1"
            " labels"
        )
    return struct.unpack(f">{head[3]}I", head[4 : 4 + 4 * head[3]]), 4 + 4 * head[3]


def read_npz(path: Path, split: str) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name.

    `images` and `labels` also under the names of MedMNIST and Keras. Stored (uncompressed) members
    are memory-mapped. Raises DataError for pickled, cut or missing arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise ValueError("a name stands twice")
            # Each, and together: many small bombs are one.
            for packed, size in [(e.compress_size, e.file_size) for e in entries] + [
                (
                    path.stat().st_size,
                    sum(e.file_size for e in entries if e.compress_type != zipfile.ZIP_STORED),
                )
            ]:
                check_expansion(packed, size)
            for entry in entries:
                _check_header(archive, entry)
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            images = _first(names, ("images", f"{split}_images", f"x_{split}"))
            labels = _first(names, ("labels", f"{split}_labels", f"y_{split}"))
            if images is None:
                raise DataError(
                    "the npz file has no array `images`: save one with np.savez(file, images=...,"
                    " labels=...)"
                )
            arrays = {
                name: file[name]
                for name in names - {images}
                if not name.endswith(("_images", "_labels")) and name[:2] not in ("x_", "y_")
            }
            if labels is not None:
                arrays["labels"] = file[labels]
            mapped = _map_stored(path, images)
            arrays["images"] = file[images] if mapped is None else mapped
            return arrays
    except _BAD_NPZ as error:
        cause = "pickled objects" if "pickle" in str(error) else type(error).__name__
        raise DataError(
            f"{path.name} cannot be read as npz ({cause}): save plain arrays with np.savez"
        ) from None


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """ValueError for an array that claims to be larger than its file.

    numpy would allocate memory for it first.
    """
    with archive.open(entry) as stream:
        magic = stream.read(8)
        if entry.file_size < 10 or magic[:6] != b"\x93NUMPY":
            raise ValueError("not an array")
        stream.seek(0)
        read_header = {1: np.lib.format.read_array_header_1_0}.get(
            magic[6], np.lib.format.read_array_header_2_0
        )
        np.lib.format.read_magic(stream)
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError("pickled objects")
        if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError("an array larger than its file")


def check_expansion(packed: int, unpacked: int) -> None:
    """DataError for a file that would fill the memory when unpacked.

    Sizes in bytes, as declared.
    """
    if unpacked > max(PLENTY, MOST_EXPANSION * packed):
        raise DataError(
            f"the file grows more than {MOST_EXPANSION} times when decompressed: if that is"
            " correct, store it uncompressed"
        )


def _first(names: set[str], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _map_stored(path: Path, name: str) -> np.ndarray | None:
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name + ".npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
    with open(path, "rb") as stream:
        stream.seek(entry.header_offset)
        local = stream.read(30)
        stream.seek(entry.header_offset + 30 + sum(struct.unpack("<HH", local[26:30])))
        major, _ = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(stream)
        if fortran or dtype.hasobject:
            return None
        return np.memmap(path, dtype, "r", stream.tell(), shape)
