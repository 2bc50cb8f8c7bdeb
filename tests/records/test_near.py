"""Near-copies: what is found, what is not called one, and that only the owner is told."""

from __future__ import annotations

import csv
import io
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

import sfumato
from sfumato.bases import bundled_bases
from sfumato.bases.checks import BESIDE, folder_digest
from sfumato.cli import main
from sfumato.errors import DataError, ModelError, SfumatoError
from sfumato.records import bundled_digits, load_records, looks, near, near_copies, pairs_sheet
from sfumato.records.looks import looks_of
from sfumato.records.near import CLEAR, STRICT, Tally, search

FLIP = Image.Transpose.FLIP_LEFT_RIGHT


def picture(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Soft blobs in colour; those of two seeds have nothing in common."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


CHANGES = {
    "re-encoded": jpeg,
    "smaller": lambda i: i.resize((40, 40), Image.Resampling.BICUBIC),
    "larger": lambda i: i.resize((200, 200), Image.Resampling.BICUBIC),
    "brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.1),
    "darker": lambda i: ImageEnhance.Brightness(i).enhance(0.8),
    "cropped a little": lambda i: i.crop((1, 1, 95, 95)),
    "mirrored": lambda i: i.transpose(FLIP),
    "mirrored, smaller and re-encoded": lambda i: jpeg(i.transpose(FLIP).resize((50, 50))),
    "grey": lambda i: i.convert("L").convert("RGB"),
}


def pairs_of(images: list, others: list | None = None) -> set[tuple[int, int]]:
    """Places of near-copies by CLEAR."""
    first = looks_of(map(np.asarray, images), len(images))
    second = None if others is None else looks_of(map(np.asarray, others), len(others))
    return {
        (int(a), int(b))
        for found in search(first, second)
        for a, b, likeness in zip(found.first, found.second, found.likeness)
        if likeness >= CLEAR
    }


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_other_pictures_are_not(change):
    images = [picture(seed) for seed in range(12)]
    changed = [CHANGES[change](image) for image in images]
    assert pairs_of(images) == set()
    assert pairs_of(images, changed) == {(i, i) for i in range(12)}
    assert pairs_of([*images, changed[3]]) == {(3, 12)}


def test_a_square_cut_from_a_wide_picture_and_a_squeezed_one_are_found():
    wide = [picture(seed, (150, 96)) for seed in range(6)]
    squares = [image.crop((27, 0, 123, 96)) for image in wide]
    squeezed = [image.resize((96, 96)) for image in wide]
    assert pairs_of(wide, squares) == {(i, i) for i in range(6)} == pairs_of(squares, wide)
    assert pairs_of(wide, squeezed) == {(i, i) for i in range(6)} == pairs_of(squeezed, wide)
    mixed = [squares[0], wide[1], wide[0]]  # the first wide one comes after squares
    assert pairs_of(mixed) == {(0, 2)}


def test_plain_pictures_are_no_copies_of_each_other():
    plain = [Image.new("RGB", (32, 32), (shade, shade, shade)) for shade in (10, 90, 90, 250)]
    assert pairs_of(plain) == set()
    found = looks_of([None, *map(np.asarray, plain)], 5)
    assert found.plain.all() and found.views == 1


def test_blocks_change_nothing(monkeypatch):
    images = [picture(seed) for seed in range(11)]
    images += [jpeg(images[9]), images[0].transpose(FLIP), images[4].crop((1, 0, 96, 95))]
    whole = pairs_of(images), pairs_of(images[:7], images[7:])
    for block in (1, 3, 13):
        monkeypatch.setattr(near, "BLOCK", block)
        assert (pairs_of(images), pairs_of(images[:7], images[7:])) == whole
    assert whole == ({(9, 11), (0, 12), (4, 13)}, {(0, 5), (4, 6)})


def test_the_most_alike_pairs_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(near, "MOST", 5)
    images = [jpeg(picture(1), quality) for quality in range(60, 90)]
    tally = Tally(np.arange(30), within=True)
    for found in search(looks_of(map(np.asarray, images), 30)):
        tally.add(found.at(found.first < 15))
        tally.add(found.at(found.first >= 15))
    assert len(tally.pairs) <= 10 and tally.clear[0].all()


@pytest.mark.parametrize("n", [300, 2000])
def test_digits_are_too_much_alike_and_nobody_cries_wolf(n):
    """Digits of different writers; two of them written again as JPEG."""
    array = bundled_digits("test").array[:n].copy()
    for at, of in ((n - 10, 7), (n - 5, 21)):
        array[at] = np.asarray(jpeg(Image.fromarray(array[of]).convert("RGB"), 80))[..., 0]
    records = replace(
        bundled_digits("test"),
        **{name: getattr(bundled_digits("test"), name)[:n] for name in ("labels", "usable")},
        unit=np.arange(n),
        array=array,
    )
    found = near_copies(records)
    assert found.strict
    assert found.copies == 4 and {(p.slot, p.other) for p in found.pairs} == {
        (7, n - 10),
        (21, n - 5),
    }
    assert "only those that agree nearly pixel by pixel count" in "\n".join(found.lines())
    first = "note: 4 of 300" if n == 300 else "few, perhaps by chance: 4 of 2,000"
    assert first in "\n".join(found.lines())


@pytest.fixture
def people(tmp_path):
    """Ten people with two pictures each; p0 and p1 share one, p2 has one twice, and p3 and p4 share
    equal bytes.
    """
    root = tmp_path / "set"
    for person in range(10):
        (root / f"p{person}").mkdir(parents=True)
        for k in range(2):
            picture(100 + 2 * person + k).save(root / f"p{person}" / f"{k}.png")
    jpeg(picture(100)).save(root / "p1" / "again.png")
    picture(104).transpose(FLIP).save(root / "p2" / "again.png")
    (root / "p4" / "again.png").write_bytes((root / "p3" / "0.png").read_bytes())
    return root


def read(root: Path, unit: str | None = "folder"):
    return load_records(root, unit=unit, unlabelled=True)


def test_copies_across_units_are_counted_by_units(people):
    found = near_copies(read(people))
    assert not found.strict and found.pictures == 23
    assert found.copies == 6 and (found.apart.pictures, found.apart.units) == (4, 4)
    kinds = {(p.file, p.other_file): p.kind for p in found.pairs}
    assert kinds == {
        ("p0/0.png", "p1/again.png"): "across units",
        ("p2/0.png", "p2/again.png"): "within a unit",
        ("p3/0.png", "p4/again.png"): "across units",
    }
    assert [p.mirror for p in found.pairs if p.kind == "within a unit"] == [True]
    said = "\n".join(found.lines())
    assert "note: 4 units by 'folder' share a picture with another unit (4 of 23" in said
    alone = near_copies(read(people, unit=None))
    assert (alone.apart.pictures, alone.apart.units) == (6, 6)
    assert "each record is a unit" in "\n".join(alone.lines())
    assert {p.kind for p in alone.pairs} == {"between records"}  # nobody has named a unit


def test_public_pictures_and_the_bases_are_compared(people, tmp_path):
    public = tmp_path / "public"
    public.mkdir()
    for name, image in (
        ("a.jpg", picture(110).resize((60, 60))),
        ("b.png", picture(112)),
        ("c.png", picture(900)),
    ):
        image.save(public / name)
    kept = looks.save_known(
        tmp_path / looks.KNOWN,
        [np.asarray(i) for i in (jpeg(picture(114)), picture(901), picture(901))],
    )
    known = looks.load_known(tmp_path)
    assert kept == 2 and known is not None and len(known) == 2
    found = near_copies(read(people), read(public, unit=None), known)
    assert found.public is not None and found.base is not None
    assert (found.public.pictures, found.public.units) == (2, 2)
    assert (found.base.pictures, found.base.units) == (1, 1)
    assert {(p.file, p.other_file) for p in found.pairs if p.kind == "public data"} == {
        ("p5/0.png", "a.jpg"),
        ("p6/0.png", "b.png"),
    }
    said = "\n".join(found.lines())
    assert "note: 2 of 23 pictures (8.7%) of 2 units are also in --public-data" in said
    assert "nothing protects these units" in said and "--public-may-overlap" in said
    assert "1 of 23 pictures (4.3%) of 1 units look like pictures that the base was" in said
    sheet = pairs_sheet(read(people), read(public, unit=None), found.pairs, 32)
    assert sheet.width >= 640 and np.asarray(sheet)[8:24].min() < 200  # the mark is there


def test_equal_pictures_are_public_even_where_they_are_plain(tmp_path):
    for name in ("set", "public"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / name / f"{name}.png")
        picture(3 if name == "set" else 4).save(tmp_path / name / "other.png")
    found = near_copies(*(read(tmp_path / name, None) for name in ("set", "public")))
    assert found.public is not None and found.public.pictures == 1 and found.plain == 1


def test_lists_of_training_pictures_are_small_and_outside_the_digest(tmp_path):
    assert looks.KNOWN in BESIDE
    for name in ("icons", "things"):
        file = bundled_bases()[name] / looks.KNOWN
        assert file.stat().st_size <= looks.LARGEST == 2**20
        known = looks.load_known(file.parent)
        assert known is not None and len(known) > 20_000
    for name in ("letters", "glyphs"):
        assert looks.load_known(bundled_bases()[name]) is None
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    before = folder_digest(tmp_path)
    looks.save_known(tmp_path / looks.KNOWN, [np.asarray(picture(1))])
    assert folder_digest(tmp_path) == before


@pytest.mark.parametrize("what", ["text", "cut", "wrong", "pickle", "large"])
def test_a_bad_list_is_refused_in_one_line(tmp_path, what):
    file = tmp_path / looks.KNOWN
    if what == "wrong":
        np.savez(file, bits=np.zeros((4, 2), np.uint64))
    elif what == "pickle":
        np.savez(file, bits=np.array([{}], dtype=object))
    elif what == "large":
        np.savez(file, bits=np.zeros((60_000, 3), np.uint64))
    else:
        looks.save_known(file, [np.asarray(picture(1))])
        file.write_bytes(b"hashes" if what == "text" else file.read_bytes()[:-60])
    with pytest.raises(ModelError, match="does not hold hashes of training pictures"):
        looks.load_known(tmp_path)


def test_too_many_hashes_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "LARGEST", 4096 + 24)
    with pytest.raises(ValueError, match="leave pictures out"):
        looks.save_known(tmp_path / looks.KNOWN, [np.asarray(picture(k)) for k in range(3)])


def test_hashes_are_the_same_for_ever():
    """Lists that are kept beside bases were made with these directions."""
    ramp = np.arange(256, dtype=np.uint8)
    found = looks.bits_of(np.stack([ramp, ramp.reshape(16, 16).T.reshape(-1)]))
    assert [[f"{word:016x}" for word in row] for row in found.tolist()] == FIXED


FIXED = [
    "72c5365bae423ffb eb124b44dd7cfbbf 138f3ccdeb9544a1".split(),
    "30c983c5a924ebc3 cb2fec30fa935d0e 398b86a644dd82bd".split(),
]


def test_pictures_are_kept_at_the_correlation_that_bits_stand_for():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (400, 256)).astype(np.uint8)
    noise = rng.normal(0, 74 * 0.25, small.shape)  # leaves a correlation of about 0.97
    other = np.clip(small + noise, 0, 255).astype(np.uint8)
    apart = np.bitwise_count(looks.bits_of(small) ^ looks.bits_of(other)).sum(1)
    real = (looks.unit(small) * looks.unit(other)).sum(1)
    assert abs(apart.mean() / looks.BITS - np.arccos(real).mean() / np.pi) < 0.01


def test_inspect_tells_the_owner_alone(people, tmp_path, capsys):
    public = tmp_path / "public"
    public.mkdir()
    jpeg(picture(110)).save(public / "a.jpg")
    listed, shown = tmp_path / "pairs.csv", tmp_path / "pairs.png"
    command = ["inspect", str(people), "--unlabelled", "--unit", "folder"]
    files = ["--near-list", str(listed), "--near-sheet", str(shown)]
    assert main([*command, "--public-data", str(public), *files]) == 0
    said = capsys.readouterr()
    assert "also in --public-data" in said.out and "across" not in said.err
    assert "again.png" not in said.out + said.err and "a.jpg" not in said.out + said.err
    rows = list(csv.DictReader(listed.open()))
    assert [row["kind"] for row in rows].count("public data") == 1 and len(rows) == 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in (listed, shown)} == {0o600}
    assert Image.open(shown).width >= 640
    assert main([*command, *files]) == 2 and "exists: name a new file" in capsys.readouterr().err
    inside = ["--near-list", str(people / "pairs.csv")]
    assert main([*command, *inside]) == 2 and not (people / "pairs.csv").exists()
    assert main([*command, "--no-near"]) == 0
    assert "near-copies" not in capsys.readouterr().out


def test_inspect_refuses_what_does_not_go_together(people, tmp_path):
    with pytest.raises(SfumatoError, match="--no-near looks for no near-copies"):
        sfumato.inspect(people, near=False, public_data=people)
    with pytest.raises(DataError, match="no such folder"):
        sfumato.inspect(people, unlabelled=True, public_data=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no image in it can be used"):
        sfumato.inspect(people, unlabelled=True, public_data=tmp_path / "empty")


def test_the_bundled_list_knows_a_drawing_of_its_base(tmp_path):
    """A hash that is in the list, turned back into a picture's place in it."""
    known = looks.load_known(bundled_bases()["icons"])
    assert known is not None
    found = looks_of([np.asarray(picture(k)) for k in range(300)], 300)
    own = looks.bits_of(found.small[:, 0])
    both = np.concatenate([known, own[:5]])
    (pairs,) = near.search_known(found, both)
    assert set(pairs.first[pairs.likeness >= STRICT].tolist()) == set(range(5))
    assert not any(len(p) for p in near.search_known(found, known))  # none is a drawing of theirs


def test_pairs_are_named_by_key_or_file_where_there_is_one(tmp_path):
    """Not by row: a tar has keys, a table of pictures their file names, some columns name them."""
    two = [("cat-1", picture(1)), ("dog-2", picture(2)), ("cat-1b", picture(1))]
    data = {}
    for key, image in two:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        data[key] = stream.getvalue()
    with tarfile.open(tmp_path / "set.tar", "w") as file:
        for key, png in data.items():
            for name, content in ((f"{key}.png", png), (f"{key}.cls", b"0")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    rows = {"image": [{"bytes": png, "path": f"{key}.png"} for key, png in data.items()]}
    pq.write_table(pa.table(rows), tmp_path / "paths.parquet")
    rows = {"image": list(data.values()), "filename": [f"{key}.png" for key in data]}
    pq.write_table(pa.table(rows), tmp_path / "column.parquet")
    pq.write_table(pa.table({"image": list(data.values())}), tmp_path / "plain.parquet")
    for name, pair in (
        ("set.tar", ("cat-1", "cat-1b")),
        ("paths.parquet", ("cat-1.png", "cat-1b.png")),
        ("column.parquet", ("cat-1.png", "cat-1b.png")),
        ("plain.parquet", ("row 1", "row 3")),
    ):
        found = sfumato.inspect(tmp_path / name, unlabelled=True)
        assert found.near is not None
        assert [(p.file, p.other_file) for p in found.near.pairs] == [pair], name
