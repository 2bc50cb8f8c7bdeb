"""`sfumato.toml`: what a project asks of its verbs, written once."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import MachineError, SfumatoError
from ..methods import DEFAULT, METHODS
from ..options import (
    PLACES,
    SILENT,
    Judging,
    Matching,
    Options,
    Project,
    Reading,
    Sampling,
    Selecting,
    declared,
    toml,
)
from .task import GROUPS

NAME = "sfumato.toml"
HEADING = """PRIVATE: it may name private folders and columns. Keep it on this machine.

The options of this project. Every verb of sfumato that runs in this folder reads it; a flag on the
command line goes first. Paths are relative to this file. docs/options.md lists all options."""
# Table -> its class: the groups of the verbs under the names that these have in Python, and each
# method under its own.
TABLES: Mapping[str, type[Options]] = {
    "project": Project,
    **GROUPS,
    "sampling": Sampling,
    "judging": Judging,
    "selecting": Selecting,
    "matching": Matching,
    **METHODS,
}


@dataclass(frozen=True)
class Config:
    """The options of a project.

    Attributes:
        path: The file; its paths are relative to the folder that it lies in.
        tables: Name of a table -> options; what is left out has its defaults.
    """

    path: Path
    tables: Mapping[str, Options]

    @classmethod
    def of(cls, path: str | Path = NAME, **tables: Options) -> Config:
        """A config of objects, such as `project=Project(base="icons"), privacy=Privacy(epsilon=4)`.

        SfumatoError for a table that there is not, or an object of another class.
        """
        for name, found in tables.items():
            if type(found) is not TABLES.get(name):
                raise SfumatoError(f"{name} is no table of a config: choose {', '.join(TABLES)}")
        _require_named(Path(path), tables)
        return cls(Path(path), tables)

    @classmethod
    def read(cls, path: str | Path = NAME) -> Config:
        """The config in a file; SfumatoError, in one line, for whatever is wrong with it."""
        tables = toml.read(Path(path), TABLES, _version())
        _require_named(Path(path), tables)
        return cls(Path(path), tables)

    def write(self, *, force: bool = False) -> None:
        """Write the file, all of it or nothing, for the owner's eyes only.

        SfumatoError if it is there already, unless `force`.
        """
        text = toml.text_of(self.tables, _version(), HEADING)
        temporary: Path | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            temporary = Path(name)  # readable by its owner alone
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(handle)
            if not force and self.path.exists():
                raise _there(self.path)
            os.replace(temporary, self.path)
        except OSError as error:
            raise MachineError(
                f"cannot write {self.path.name}: {error.strerror}; free some space or choose"
                " another disk"
            ) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def table(self, name: str) -> Mapping[str, Any]:
        """What a table says, by option; nothing for one that is not there."""
        found = self.tables.get(name)
        if found is None:
            return {}
        given = found.given()
        places = {one.name for one in declared(type(found)) if one.path}
        return {n: self._placed(n, v) if n in places else v for n, v in given.items()}

    def method(self, named: str | None = None) -> Mapping[str, Any]:
        """What it says about the method that was named, else about its own."""
        name = named or self.table("project").get("method") or DEFAULT
        return self.table(name) if name in METHODS else {}

    def moved(self, table: str, field: str) -> bool:
        """Whether it names a place where nothing is."""
        found = self.tables[table]
        places = {one.name for one in declared(type(found)) if one.path}
        value = self.table(table).get(field)
        if value is None or field not in places or Path(value).exists():
            return False
        return not (field == "base" and _bundled(value))

    def keywords(self, verb: Callable[..., Any]) -> dict[str, Any]:
        """All that it says of a verb's arguments.

        Args:
            verb: A verb of the package, such as `sfumato.plan`.

        Returns:
            Keywords for it: `sfumato.plan(**config.keywords(sfumato.plan) | {"epsilon": 2})`.
        """
        known, project = inspect.signature(verb).parameters, self.table("project")
        places = PLACES.get(verb.__name__, {})
        found = {p: project[f] for p, f in places.items() if p in known and f in project}
        apart = {"project", *METHODS, *SILENT.get(verb.__name__, ())}
        groups = [name for name in TABLES if name in known and name not in apart]
        for name in groups:
            found |= self.table(name)
        found = {n: value for n, value in found.items() if n not in apart}
        if "method" in known:
            start = ("method", "base", "public_data", "seed")
            found |= {name: project[name] for name in start if name in project}
            found |= self.method()
        return found

    def _placed(self, name: str, value: str) -> str:
        if name == "base" and _bundled(value):
            return value
        return str(self.path.parent / Path(value).expanduser())


def _require_named(path: Path, tables: Mapping[str, Options]) -> None:
    """SfumatoError for a yes to whatever classes are found: it would hold for later ones, too."""
    reading = tables.get("reading")
    if isinstance(reading, Reading) and reading.yes_public is True:
        raise SfumatoError(
            f"{path.name}, [reading] yes_public: true would declare class names public that nobody"
            ' has seen yet: write the names (yes_public = ["a", "b"]), or say --yes-public to the'
            " verb"
        )


def _bundled(base: str) -> bool:
    from ..bases import own_name  # here: the command line asks before torch is loaded

    return own_name(base) is not None


def require_new(path: Path, force: bool) -> None:
    """SfumatoError if a config is there that nobody said to replace."""
    if path.exists() and not force:
        raise _there(path)


def _there(path: Path) -> SfumatoError:
    return SfumatoError(
        f"{path.name} is there already: edit it, or replace it with --force (the verbs read it)"
    )


def _version() -> str:
    try:
        return version("sfumato")
    except PackageNotFoundError:
        return "0"
