"""What a run starts from, and where the files of a project are: what `sfumato.toml` remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .declare import Options, option


@dataclass(frozen=True)
class Start(Options):
    """What a run starts from."""

    panel = "Method"

    method: str | None = option(None, "See `sfumato methods` (default attention).")
    base: str | None = option(
        None,
        "Bundled base (see `sfumato bases`) or the folder of a diffusers pipeline; required.",
        flags=("--base", "--pretrained-model-name-or-path"),
        metavar="NAME|FOLDER",
        path=True,
    )
    public_data: str | None = option(
        None, "Images that need no protection.", metavar="IMAGES", path=True
    )
    seed: int | None = option(None, "Public seed: how adapters start. It never reaches the noise.")


@dataclass(frozen=True)
class Project(Start):
    """What a run starts from, and where the project's files are, so that no verb asks again."""

    panel = "Project"

    images: str | None = option(None, "The private images.", path=True)
    test: str | None = option(None, "Held-out real images, for `evaluate` and `select`.", path=True)
    run: str | None = option(
        None, "Run folder: `adapt` makes it, the other verbs read it.", path=True
    )
    release: str | None = option(None, "Folder of `synthesize`, finished by `release`.", path=True)
    model: str | None = option(None, "Folder of `export`.", path=True)
    ledger: str | None = option(None, "Your ledger of everything spent.", path=True)
    number: int | None = option(None, "How many images `synthesize` draws.", least=1)
    title: str | None = option(None, "Public title of the release.")
    licence: str | None = option(None, "Licence that you give the release.")


# Verb -> its own argument -> the field of a project that stands in where it is not given.
PLACES: Mapping[str, Mapping[str, str]] = {
    "inspect": {"images": "images", "base": "base", "public_data": "public_data"},
    "split": {"images": "images"},
    "match": {"images": "images", "ledger": "ledger"},
    "plan": {"images": "images", "ledger": "ledger"},
    "adapt": {"images": "images", "output": "run", "ledger": "ledger"},
    "resume": {"images": "images", "output": "run", "ledger": "ledger"},
    "audit": {"run": "run", "ledger": "ledger"},
    "synthesize": {"run": "run", "n": "number", "output": "release", "ledger": "ledger"},
    "export": {"run": "run", "output": "model", "ledger": "ledger"},
    "evaluate": {"run": "run", "release": "release", "test": "test", "ledger": "ledger"},
    "select": {"data": "test", "ledger": "ledger"},
    "release": {"folder": "release", "title": "title", "licence": "licence", "ledger": "ledger"},
    "verify": {"folder": "release", "ledger": "ledger"},
    "push": {"release": "release"},
    "ledger": {"images": "images", "path": "ledger"},
    "ledger show": {"ledger": "ledger"},
    "ledger cap": {"images": "images", "ledger": "ledger"},
    "ledger reset": {"ledger": "ledger"},
    "ledger export": {"ledger": "ledger"},
}
# Verb -> groups, or options, that a config says nothing about: a run remembers how its images were
# read, a split is not made of another, and what leaves is said each time.
SILENT: Mapping[str, tuple[str, ...]] = {
    "evaluate": ("reading",),
    "split": ("split",),
    "push": ("sharing",),
}
# An option of a config -> the flag that says the same in another way, and goes first.
INSTEAD = {"time": "steps", "steps": "time", "value_range": "window", "window": "value_range"}
# What a verb makes: everything else that it is given must be there.
MADE = {"adapt": "run", "synthesize": "release", "export": "model"}
