"""A Space: a small page on a hub's machine that fetches a release and verifies it again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sfumato.releases import verify_privacy
from sfumato.releases.cards import render
from sfumato.releases.draft import VERIFIER
from sfumato.releases.parcel import Item

PROGRAM = Path(__file__).parent / "templates" / "space"
AS_THEY_ARE = ("Dockerfile", "app.py", "requirements.txt")


def space_items(repository: str, kind: str, revision: str) -> tuple[Item, ...]:
    """Every file of the Space.

    Args:
        repository: Of the release, ORG/NAME.
        kind: "dataset" or "model".
        revision: The commit of the release that it verifies.

    Returns:
        A Docker Space: program, verifier, and what to fetch. No file of the release is in it.
    """
    about = {"repository": repository, "kind": kind, "revision": revision}
    title = f"Is {repository} what it says?"
    made = {
        "README.md": render("space/README.md.j2", title=title, **about).encode(),
        "release.json": (json.dumps(about, indent=2) + "\n").encode(),
        VERIFIER: Path(verify_privacy.__file__).read_bytes(),
        **{name: (PROGRAM / name).read_bytes() for name in AS_THEY_ARE},
    }
    return tuple(
        Item(name, made[name], len(made[name]), hashlib.sha256(made[name]).hexdigest())
        for name in sorted(made)
    )
