"""What of a finished release goes out, byte for byte: only what verifies and is on the list."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.errors import CheckFailed, SfumatoError
from sfumato.releases import verify_privacy
from sfumato.releases.contents import SUMS, Contents, inspect_source, public_words
from sfumato.releases.draft import CERTIFICATE, PAGES
from sfumato.releases.verify import verify
from sfumato.releases.writing import digest

# written by `release`, with the hashes that come last
OWN = frozenset({*PAGES, CERTIFICATE, SUMS})


@dataclass(frozen=True)
class Item:
    """One file that goes out.

    Attributes:
        name: Its path in the repository.
        source: Its path here, or its bytes.
        size: Bytes.
        sha256: Of its content, in hex.
    """

    name: str
    source: Path | bytes
    size: int
    sha256: str

    @property
    def git(self) -> str:
        """The name that git gives to this content, in hex."""
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise SfumatoError(f"{self.name} was changed while it was sent: verify and push again")
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Parcel:
    """A verified release.

    Attributes:
        folder: Where it lies.
        kind: "dataset" or "model", as a hub calls it.
        items: Its files, those that name all others last.
        certificate: privacy.json.
        contents: What its pictures or its model are.
    """

    folder: Path
    kind: str
    items: tuple[Item, ...]
    certificate: dict[str, Any]
    contents: Contents


def pack(folder: Path) -> Parcel:
    """Verifies a finished release, and lists what of it may leave: its files on the allow-list.

    Args:
        folder: A folder of `release`.

    Returns:
        Every file with the digest that it was verified with.

    Raises:
        CheckFailed: A check failed.
        SfumatoError: It is not finished, or holds a file that no release may hold.
    """
    report = verify(folder)
    if not report.ok:
        name, _, detail = report.failed[0]
        raise CheckFailed(
            f"{folder.absolute().name} does not verify ({name}: {detail}), so nothing of it goes"
            " out: run `sfumato verify` on it, then release again"
        )
    facts = verify_privacy.load(folder)
    listed = {name: known for name, known in facts["artefacts"].items()}
    images = any(name.startswith(("train/", "data/")) for name in listed)
    contents = inspect_source(
        folder,
        "images" if images else "model",
        **public_words(facts),
        beside=OWN,
    )
    stray = sorted(set(listed) - set(contents.files) - OWN)
    if stray:
        raise SfumatoError(f"{stray[0]} is on no list of files of a release: release again")
    listed |= {name: digest(folder / name) for name in (CERTIFICATE, SUMS)}
    order = sorted(listed, key=lambda name: (name in (CERTIFICATE, SUMS), name == SUMS, name))
    items = tuple(
        Item(name, folder / name, (folder / name).stat().st_size, listed[name]) for name in order
    )
    return Parcel(folder, "dataset" if images else "model", items, facts, contents)
