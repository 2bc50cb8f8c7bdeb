"""Zip, tar, Arrow and parquet: what is damaged or hostile is refused, and the bounded process alone
opens them.
"""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.records import archives, load_records, unpacked
from sfumato.records.decode import BadImage

from .sources import coco, pictures, png, put, refused


def zip_of(place: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(place, "w", method) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i))
    return place


def test_a_zip_that_unfolds_without_end_is_refused(tmp_path):
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(40):
            archive.writestr(f"a/{i}.bmp", bytes(2**24))
    refused("grows more than 50 times", place)


def test_a_member_that_unfolds_to_more_than_it_says_is_a_zero_slot(tmp_path):
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    endless = packed.compress(png(0) + bytes(2**27)) + packed.flush()
    assert len(endless) < 2**18
    # the size of a picture is declared for that picture and 128 MiB behind it
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        for i, name in enumerate(f"{c}/{i}.png" for c in "ab" for i in range(4)):
            archive.writestr(name, endless if i == 0 else png(i))
        archive.infolist()[0].compress_type = zipfile.ZIP_DEFLATED
        archive.infolist()[0].file_size = len(png(0))
    records = load_records(tmp_path / "y.zip", max_bad=0.5)
    assert records.usable.sum() == 7 and not records.usable[0]
    _, *place = archives.of_zip([tmp_path / "y.zip"])["members"][0]
    tracemalloc.start()
    with pytest.raises(BadImage, match="truncated or damaged"):
        archives.unzip(tmp_path / "y.zip", *place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22, "what is declared is unfolded, and no more"


@pytest.mark.parametrize(
    "names,why",
    [
        (("a/1.png", "a/1.png"), "holds a member twice"),
        (("a/1.png", "../1.png"), "names a file outside itself"),
        (("a/1.png", "/etc/1.png"), "names a file outside itself"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bad_names_in_a_zip(tmp_path, names, why):
    refused(why, zip_of(tmp_path / "x.zip", *names))


def test_other_bad_archives(tmp_path):
    good = zip_of(tmp_path / "x.zip", "a/1.png", "b/2.png").read_bytes()
    refused("cannot be read as zip", put(tmp_path / "cut.zip", good[: len(good) // 2]))
    flags = good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    refused("is encrypted", put(tmp_path / "locked.zip", flags))
    other = zip_of(tmp_path / "y.zip", "a/1.png", method=zipfile.ZIP_BZIP2)
    refused("a method other than deflate", other)
    refused("decompress it", put(tmp_path / "x.tar.gz", b"\x1f\x8b"))
    refused("is damaged or cut", put(tmp_path / "x.tar", b"x" * 2000))
    only = tmp_path / "only"
    zip_of(put(only / "x.zip", ""), "a/1.png")
    refused("give a zip or tar as the path", only)


def tar_of(place: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(place, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return place


def test_bad_tars(tmp_path):
    one = [("k.png", png(0)), ("k.cls", b"0")]
    refused("holds a member twice", tar_of(tmp_path / "a.tar", *one, *one))
    refused("several images", tar_of(tmp_path / "b.tar", *one, ("k.jpg", png(1))))
    whole = tar_of(tmp_path / "c.tar", *one, ("l.png", png(2)), ("l.cls", b"1"))
    data = whole.read_bytes()
    for cut in (100, 700, 1024, len(png(0)) + 1300, data.rindex(b"l.cls")):
        refused("is damaged or cut", put(tmp_path / "d.tar", data[:cut]))
    records = load_records(whole, classes=["0", "1"])
    whole.write_bytes(bytes(len(data)))
    assert not records.load([0, 1], 16)[1].any()
    late = [(f"{i}.png", png(i)) for i in range(8)] + [("7.cls", b"a"), ("7.json", b"[1")]
    found = load_records(tar_of(tmp_path / "e.tar", *late), max_bad=0.9, classes=["a"])
    assert found.labels.tolist() == [-1] * 7 + [0], "the first samples decide nothing"


def test_an_archive_of_one_folder_and_links_in_a_tar(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("cat", "dog"):
            for i in range(3):
                archive.writestr(f"set\\{name}\\{i}.png", png(i))
    assert load_records(tmp_path / "x.zip").classes == ("cat", "dog")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in range(3):
            info = tarfile.TarInfo(f"cat/{i}.png")
            info.size = len(png(i))
            archive.addfile(info, io.BytesIO(png(i)))
        for name, kind, to in (
            ("same", tarfile.LNKTYPE, "cat/0.png"),
            ("out", tarfile.SYMTYPE, "/etc/passwd"),
        ):
            info = tarfile.TarInfo(f"cat/{name}.png")
            info.type, info.linkname = kind, to
            archive.addfile(info)
    found = load_records(tmp_path / "x.tar", max_bad=0.5)
    assert found.n == 5 and found.facts.bad == {"missing file": 1}


# ---------------------------------------------------------------- Arrow


def saved(root: Path, n: int = 4) -> Path:
    rows = pa.table({"image": [png(i) for i in range(n)], "label": ["a", "b"] * (n // 2)})
    root.mkdir(parents=True)
    with pa.OSFile(str(root / "data-0.arrow"), "wb") as out:
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=3)
    put(root / "state.json", json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    return root


@pytest.mark.parametrize(
    "state,why",
    [
        ("{", "state.json of the data set is damaged"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "lacks a file that it names"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names files outside its folder"),
        ('{"_data_files": [], "_indices_data_files": [1]}', "flatten_indices()"),
        ('{"_data_files": []}', "no records found"),
    ],
)
def test_bad_states_of_a_saved_data_set(tmp_path, state, why):
    put(saved(tmp_path / "s") / "state.json", state)
    put(tmp_path / "x.arrow", "")
    refused(why, tmp_path / "s")


def test_damaged_arrow_files(tmp_path):
    root = saved(tmp_path / "s")
    file = root / "data-0.arrow"
    records = load_records(root, classes=["a", "b"])
    assert records.load(range(4), 16)[1].all() and records.load([0], 16)[1].all()
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert not records.load([3], 16)[1].any()
    refused("not a readable arrow file", root)
    file.write_bytes(b"ARROW1" + bytes(99))
    refused("not a readable arrow file", root)


def test_the_feather_form_is_read(tmp_path):
    rows = pa.table({"image": [png(i) for i in range(4)], "label": ["a", "b"] * 2})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_file(out, rows.schema) as to:
        to.write_table(rows)
    assert load_records(tmp_path / "x.arrow", classes=["a", "b"]).load(range(4), 16)[1].all()


# ---------------------------------------------------------------- the bounded process


def zipped(root: Path) -> Path:
    return zip_of(root, "a/1.png", "b/2.png")


def tabled(root: Path) -> Path:
    rows = pa.table({"image": [png(i) for i in range(4)], "label": ["a", "b"] * 2})
    pq.write_table(rows, root.with_suffix(".parquet"), row_group_size=3)
    return root.with_suffix(".parquet")


@pytest.mark.parametrize("make", [saved, zipped, tabled])
def test_only_the_other_process_opens_what_holds_pictures(tmp_path, monkeypatch, make: Callable):
    place = make(tmp_path / ("s" if make is saved else "s.zip"))

    def here(*args, **options):
        raise AssertionError("opened beside the keys")

    monkeypatch.setattr(pa.ipc, "open_stream", here)
    monkeypatch.setattr(pa.ipc, "open_file", here)
    monkeypatch.setattr(pq, "ParquetFile", here)
    monkeypatch.setattr(zipfile, "ZipFile", here)
    monkeypatch.setattr(zlib, "decompressobj", here)
    records = load_records(place, classes=["a", "b"])
    assert records.load(range(records.n), 16)[1].all()


def test_a_reader_that_takes_too_long_is_a_refusal(tmp_path, monkeypatch):
    pictures(tmp_path, 2)
    coco(tmp_path, bad=[[]] * 1_000_000)
    monkeypatch.setattr(unpacked, "SECONDS", 1e-6)
    monkeypatch.setattr(unpacked, "BYTES_PER_SECOND", 1e12)
    refused("to read: write it in smaller parts", tmp_path)
    monkeypatch.undo()
    assert load_records(coco(tmp_path, n=2), objects="largest", yes_public=True).n == 2
