"""How an option is declared: one field of a frozen class, from which all else is derived."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union, cast

from ..errors import SfumatoError


def option(
    default: Any,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    metavar: str | None = None,
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
        least: Smallest number that is accepted.
        most: Largest number that is accepted.
        words: What the command line calls the values, if it differs.
        parse: Makes a value of the text on the command line.
        repeated: Whether the flag may be given several times; `parse` gets the list.
        path: Whether it is a place on disk, which a config names relative to its own folder.

    Returns:
        A dataclass field.
    """
    said = {"help": help, "flags": flags, "metavar": metavar, "least": least, "most": most}
    more = {"words": words, "parse": parse, "repeated": repeated, "path": path}
    return dataclasses.field(default=default, metadata=said | more)


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
        limits = [f"at least {self.least:g}"] if self.least is not None else []
        return " and ".join(limits + ([f"at most {self.most:g}"] if self.most is not None else []))

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
            if one.optional and getattr(self, one.name) is None:
                continue
            value: Any = getattr(self, one.name)
            if one.choices and value not in one.choices:
                known = ", ".join(map(str, one.words or one.choices))
                raise SfumatoError(f"{one.flag} {value}: choose {known}")
            if one.kind in (int, float) and not _is_number(value, one.kind):
                what = "an integer" if one.kind is int else "a number"
                raise SfumatoError(f"{one.flag} {value!r}: must be {what}")
            if one.least is not None and not value >= one.least:
                raise SfumatoError(f"{one.flag} {value}: must be at least {one.least:g}")
            if one.most is not None and not value <= one.most:
                raise SfumatoError(f"{one.flag} {value}: must be at most {one.most:g}")

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, numbers.Integral if kind is int else numbers.Real)
