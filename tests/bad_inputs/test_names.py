"""Odd names, and archives that reach out or burst (BA)."""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.cli import main
from sfumato.records import load_records

from .making import encoded, folder_of
from .reading import (
    arrays,
    each,
    ends,
    loads,
    named,
    stay_small,
    table,
    tarred,
    zipped,
)


def shown_escaped(name: str):
    def act(kit) -> str:
        (folder_of(kit.tmp / "d") / name).mkdir()
        for words, code in ((["inspect"], 0), (["plan", "--base", "icons", "--epsilon", "1"], 10)):
            assert main([words[0], str(kit.tmp / "d"), *words[1:]]) == code
            shown = "".join(kit.said.readouterr())
            assert name not in shown and repr(name)[1:-1] in shown
        return named(name + ".png")(SimpleNamespace(tmp=kit.tmp / "named"))

    return act


def links(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (kit.tmp / "out.png").write_bytes(encoded())
    (root / "a" / "link.png").symlink_to(kit.tmp / "out.png")
    # inside a folder, a hard link is just a file
    os.link(root / "a" / "0.png", root / "a" / "hard.png")
    records = load_records(root)
    assert records.n == 9 and records.facts.ignored == {"symbolic link out of the folder": 1}
    return tarred(tarfile.SYMTYPE, "x.png", "/etc/passwd")(SimpleNamespace(tmp=kit.tmp / "t"))


def bombs(kit) -> str:
    def packed(root: Path) -> Path:
        root.mkdir()
        with zipfile.ZipFile(root / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
            with file.open("images.npy", "w") as member:
                for _ in range(300):
                    member.write(bytes(2**20))
        return root / "x.npz"

    def many(root: Path) -> Path:
        root.mkdir()
        with zipfile.ZipFile(root / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for number in range(3):
                file.writestr(f"{number}.npy", bytes(120 * 2**20))
        return root / "x.npz"

    def idx(root: Path) -> Path:
        root.mkdir()
        for name, head in (
            ("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 1_000_000, 28, 28)),
            ("train-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 10)),
        ):
            with gzip.open(root / f"{name}.gz", "wb") as stream:
                stream.write(head + bytes(1000))
        return root / "train-images-idx3-ubyte.gz"

    return each(loads(packed), loads(many), loads(idx))(kit)


def million(kit) -> str:
    """A million records as arrays, and an archive of as many members, which is not even opened."""
    for name, head, body in (
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 10**6, 8, 8), 64 * 10**6),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 10**6), 10**6),
    ):
        with open(kit.tmp / name, "wb") as stream:
            stream.write(head)
            stream.truncate(len(head) + body)
    records = load_records(kit.tmp)
    return f"read {records.n}"


INPUTS = (
    (
        "BA01",
        "NFC/NFD twin names",
        named(*(unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))),
        "read 10",
    ),
    ("BA02", "emoji name", named("\N{GRINNING FACE}.png"), "read 9"),
    ("BA03", "right-to-left override", shown_escaped("a\N{RIGHT-TO-LEFT OVERRIDE}gnp"), "read 9"),
    ("BA04", "newline in name", shown_escaped("new\nline"), "read 9"),
    ("BA05", "255-byte name", named("n" * 251 + ".png"), "read 9"),
    ("BA06", "leading dash", named("-rf.png"), "read 9"),
    (
        "BA07",
        "`..` member",
        each(
            *(
                table(f"file_name,label\na/0.png,a\n{name},b\n")
                for name in ("../x.png", "a/../../x.png")
            )
        ),
        "refuse 10: .*outside its folder",
    ),
    (
        "BA08",
        "absolute member",
        table("file_name,label\na/0.png,a\n/etc/passwd,b\n"),
        "refuse 10: .*outside its folder",
    ),
    # beside pictures such a member is a missing file: tests/records/test_archives.py
    ("BA09", "symlink out", links, "refuse 10: no records found"),
    (
        "BA10",
        "hard link member",
        tarred(tarfile.LNKTYPE, "x.png", "/etc/passwd"),
        "refuse 10: no records found",
    ),
    ("BA11", "zip bomb", bombs, "refuse 10: .*grows more than"),
    ("BA12", "a million entries", million, "read 1000000"),
    (
        "BA13",
        "duplicate member names",
        arrays(doubled=True, images=np.zeros((4, 9, 9), np.uint8), labels=[0, 1, 0, 1]),
        "refuse 10: ",
    ),
    ("BA14", "case-only twins", named("X.PNG", "x.png"), "read 10"),
    (
        "BA08 elsewhere",
        "absolute member of another machine",
        each(
            *(
                table(f"file_name,label\na/0.png,a\n{name},b\n")
                for name in ("\\\\server\\x.png", "C:\\x.png", "/nowhere/x.png")
            )
        ),
        "read 2, zero 1: missing file",
    ),
    ("BA07 zip", "`..` in an archive", zipped("../x.png"), "refuse 10: .*a file outside itself"),
)


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    ends(act(kit), what, expected)


def test_all_14_are_here():
    assert [row[0] for row in INPUTS][:14] == [f"BA{i:02d}" for i in range(1, 15)]


def test_they_all_stay_small():
    stay_small()
