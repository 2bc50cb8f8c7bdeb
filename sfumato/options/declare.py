"""How an option is declared: one field of a frozen class, from which all else is derived."""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, cast

from ..errors import SfumatoError
from .kinds import Unfit, fitted, shown


def option(
    default: Any,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    metavar: str | None = None,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    words: Mapping[str, Any] | None = None,
    parse: Callable[[Any], Any] | None = None,
    repeated: bool = False,
    path: bool = False,
) -> Any:
    """A field of a class of options.

    Args:
        default: The value if none is given.
        help: One line: what it is and its unit. The default is added where it is shown.
        flags: Names on the command line; without any, the field's own name.
        metavar: How the value is written on the command line.
        above: Numbers must be larger than this.
        least: Smallest number that is accepted.
        most: Largest number that is accepted.
        words: What the command line calls the values, if it differs.
        parse: Makes a value of the text on the command line.
        repeated: Whether the flag may be given several times; `parse` gets the list.
        path: Whether it is a place on disk, which a config names relative to its own folder.

    Returns:
        A dataclass field.
    """
    said = {"help": help, "flags": flags, "metavar": metavar}
    limits = {"above": above, "least": least, "most": most}
    more = {"words": words, "parse": parse, "repeated": repeated, "path": path}
    return dataclasses.field(default=default, metadata=said | limits | more)


@dataclass(frozen=True)
class Declared:
    """One option as declared. `kind`: its type without None; `choices`: of a Literal."""

    name: str
    kind: Any
    optional: bool
    default: Any
    help: str
    flags: tuple[str, ...]
    metavar: str | None
    above: float | None
    least: float | None
    most: float | None
    words: Mapping[str, Any] | None
    parse: Callable[[Any], Any] | None
    repeated: bool
    path: bool

    @property
    def flag(self) -> str:
        """Its name in messages."""
        return self.flags[0] if self.flags else "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal, else nothing."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    @property
    def type(self) -> str:
        """The type in words, for help."""
        if self.choices:
            text = " | ".join(repr(choice) for choice in self.choices)
        else:
            named = getattr(self.kind, "__name__", None) if not typing.get_args(self.kind) else None
            text = named or re.sub(r"\b(typing|collections\.abc)\.", "", str(self.kind))
        return f"{text} | None" if self.optional else text

    @property
    def refused(self) -> str:
        """What is accepted, as stated when anything else is refused."""
        limits = (("above", self.above), ("at least", self.least), ("at most", self.most))
        return " and ".join(f"{what} {limit:g}" for what, limit in limits if limit is not None)

    def fitted(self, value: Any) -> Any:
        """The value as it is kept: checked.

        Returns:
            It, of builtin types.

        Raises:
            SfumatoError: It is not accepted; the message names flag, value and rule.
        """
        try:
            if value is None and self.optional:
                return None
            if self.path and isinstance(value, Path):
                value = str(value)
            value = fitted(self.kind, value)
        except Unfit as unfit:
            if self.choices and isinstance(value, str):
                known = ", ".join(map(str, self.words or self.choices))
                raise SfumatoError(f"{self.flag} {value}: choose {known}") from unfit
            rule = f"{unfit} {self.refused}".strip()
            raise SfumatoError(f"{self.flag} {shown(value)}: must be {rule}") from unfit
        if value in ((), {}):
            raise SfumatoError(f"{self.flag} is empty: name at least one, or leave it out")
        if self.refused:
            self._require_limits(value)
        return value

    def _require_limits(self, value: Any) -> None:
        low, least, most = self.above, self.least, self.most
        rule = ""
        if low is not None and not value > low:
            rule = f"above {low:g}"
        elif least is not None and not value >= least:
            rule = f"at least {least:g}"
        elif most is not None and not value <= most:
            rule = f"at most {most:g}"
        if rule:
            raise SfumatoError(f"{self.flag} {value:g}: must be {rule}")

    @property
    def line(self) -> str:
        """Help and default."""
        return f"{self.help[:-1]} {self.said_default}." if self.said_default else self.help

    @property
    def said_default(self) -> str:
        """The default in words for help and docs, empty if there is none worth showing."""
        if self.default is None or self.default is False or "default" in self.help.lower():
            return ""
        back = {value: word for word, value in (self.words or {}).items()}
        value: Any = back.get(self.default, self.default) if self.words else self.default
        if isinstance(value, tuple):
            value = ",".join(str(one) for one in cast("tuple[Any, ...]", value))
        return f"(default {value})"


def declared(kind: type) -> tuple[Declared, ...]:
    """The options of a class, in order."""
    types_ = typing.get_type_hints(kind)
    found: list[Declared] = []
    for field in dataclasses.fields(kind):
        own: Any = types_[field.name]
        parts: tuple[Any, ...] = (
            typing.get_args(own) if typing.get_origin(own) in (Union, types.UnionType) else (own,)
        )
        rest = tuple(part for part in parts if part is not type(None))
        joined: Any = functools.reduce(lambda one, other: one | other, rest)
        optional = len(rest) < len(parts)
        found.append(Declared(field.name, joined, optional, field.default, **field.metadata))
    return tuple(found)


@dataclass(frozen=True)
class Options:
    """A frozen class of options. `panel`: its heading in help and docs.

    Raises:
        SfumatoError: A value that is not accepted; the message names the flag.
    """

    panel: ClassVar[str] = "Options"

    def __post_init__(self) -> None:
        for one in declared(type(self)):
            # frozen for everybody else
            object.__setattr__(self, one.name, one.fitted(getattr(self, one.name)))

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
