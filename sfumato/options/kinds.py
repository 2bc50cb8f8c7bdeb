"""Values by the kind that an option is declared with: refused by a rule, or made plain Python.

A number may come as a scalar of numpy or torch, a list as an array; what is kept, written as JSON
and compared is the same as if it had been typed.
"""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, Union, cast

LONGEST, MOST = 60, 6  # signs of a refused value that a message shows, and members of a list
WIDEST = 2**63  # whole numbers from here on fit no tensor and no database


class Unfit(ValueError):
    """A value that a kind does not accept. Its text is the rule: what there must be instead."""


def fitted(kind: Any, value: Any) -> Any:
    """The value as `kind` keeps it.

    Args:
        kind: A type as an annotation names it, without None.
        value: What was given.

    Returns:
        A value of builtin types for numbers, texts, lists (as tuples) and mappings (as dicts); the
        value itself for paths, functions and objects.

    Raises:
        Unfit: It is not of that kind.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value)
    if origin is Literal:
        return _choice(inner, value)
    if origin is tuple and ... not in inner:
        return _several(inner, value)
    if origin in (Sequence, tuple, list):
        return _listed(inner[0], value)
    if origin in (Mapping, dict):
        return _mapped(inner[0], inner[1], value)
    if kind is Callable or origin is Callable:
        return _kept(callable(value), value, "a function")
    simple = {bool: _truth, int: _whole, float: _number, str: _text, Path: _path}
    if kind in simple:
        return simple[kind](value)
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return value
    return _kept(isinstance(value, kind), value, _a(kind))


def shown(value: Any) -> str:
    """A refused value for a message: short, on one line.

    Never the pixels of an array or a list, nor the bytes of a file.

    Returns:
        At most `LONGEST` signs; the type's name for what may be private.
    """
    value = scalar(value)
    if isinstance(value, int) and abs(value) >= WIDEST:
        return f"(a number of {value.bit_length()} bits)"
    members = _inside(value)
    if len(members) > MOST or not all(_speaks(scalar(member)) for member in members):
        return f"(an object of type {type(value).__name__})"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def scalar(value: Any) -> Any:
    """A numpy or torch scalar as a number of Python; anything else as it is."""
    if isinstance(value, str):
        return str(value)
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return value.item()
    return value


def _inside(value: Any) -> list[Any]:
    """What a list, a set or a mapping holds; anything else alone."""
    if isinstance(value, dict):
        named = cast("dict[Any, Any]", value)
        return [*named.keys(), *named.values()]
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple | set) else [value]


def _speaks(value: Any) -> bool:
    plain = value is None or type(value) in (str, bool, float)
    return plain or (type(value) is int and abs(value) < WIDEST) or isinstance(value, Path)


def _kept(right: bool, value: Any, rule: str) -> Any:
    if not right:
        raise Unfit(rule)
    return value


def _one_of(kinds: Sequence[Any], value: Any) -> Any:
    rules: list[str] = []
    if Path in kinds:  # a text is a path there
        kinds = [kind for kind in kinds if kind is not str]
    # a whole number stays one where both are accepted
    for kind in sorted(kinds, key=lambda kind: kind is float):
        if kind is type(None):
            if value is None:
                return None
            continue
        try:
            return fitted(kind, value)
        except Unfit as unfit:
            rules += [str(unfit)] if str(unfit) not in rules else []
    raise Unfit(", or ".join(rules))


def _choice(choices: Sequence[Any], value: Any) -> Any:
    value = scalar(value)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    raise Unfit("one of " + ", ".join(map(str, choices)))


def _truth(value: Any) -> bool:
    value = scalar(value)
    return _kept(isinstance(value, bool), value, "True or False")


def _whole(value: Any) -> int:
    value = scalar(value)
    right = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    value = int(_kept(right, value, "an integer"))
    return _kept(abs(value) < WIDEST, value, "an integer of less than 64 bits")


def _number(value: Any) -> float:
    value = scalar(value)
    right = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        found = float(_kept(right, value, "a number"))
    except OverflowError as error:
        raise Unfit("a finite number") from error
    return _kept(math.isfinite(found), found, "a finite number")


def _text(value: Any) -> str:
    value = str(_kept(isinstance(value, str), value, "a text"))
    _kept(bool(value.strip()), value, "a text that is not empty")
    _kept("\0" not in value, value, "a text without a zero byte")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unfit("a text that is valid Unicode") from error
    return value


def _path(value: Any) -> Any:
    if not isinstance(value, str | Path):
        raise Unfit("a path, as a text or a Path")
    text = str(value) if isinstance(value, Path) else value
    if text == "" or "\0" in text:
        raise Unfit("a path that is not empty" if text == "" else "a path without a zero byte")
    return value


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _members(value: Any) -> Sequence[Any]:
    if getattr(value, "ndim", None) == 1 and callable(getattr(value, "tolist", None)):
        value = value.tolist()
    if not _is_list(value):
        raise Unfit("a list")
    return value


def _listed(kind: Any, value: Any) -> tuple[Any, ...]:
    example = {str: ", such as ['a', 'b']", int: ", such as [0, 1]"}.get(kind, "")
    try:
        return tuple(fitted(kind, member) for member in _members(value))
    except Unfit as unfit:
        raise Unfit(f"a list of {_many(kind)}{example}") from unfit


def _several(kinds: Sequence[Any], value: Any) -> tuple[Any, ...]:
    rule = f"{len(kinds)} {_many(kinds[0])}"
    try:
        members = _members(value)
        _kept(len(members) == len(kinds), members, rule)
        return tuple(fitted(kind, member) for kind, member in zip(kinds, members, strict=True))
    except Unfit as unfit:
        raise Unfit(rule) from unfit


def _mapped(key: Any, kind: Any, value: Any) -> dict[Any, Any]:
    rule = f"a mapping from {_many(key)} to {_many(kind)}"
    if not isinstance(value, Mapping):
        raise Unfit(rule)
    try:
        named = cast("Mapping[Any, Any]", value)
        return {fitted(key, k): fitted(kind, v) for k, v in named.items()}
    except Unfit as unfit:
        raise Unfit(rule) from unfit


def _many(kind: Any) -> str:
    """The kind of a list's members in words."""
    known = {str: "texts", int: "integers", float: "numbers"}
    return known.get(kind, "values of the right kind")


def _a(kind: type) -> str:
    return f"a {kind.__name__} object"
