"""Classes of options as tables of a TOML file: written, and read back with every value checked."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, cast

from ..errors import MachineError, SfumatoError
from .declare import Declared, Options, declared
from .kinds import Unfit, fitted

FORMAT = 1
LARGEST = 2**20  # bytes
KNOWN = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def text_of(objects: Mapping[str, Options], version: str, heading: str) -> str:
    """A file of all that differs from the defaults, one table for each object.

    Args:
        objects: Name of a table -> options.
        version: Of sfumato.
        heading: Comment lines at its top.

    Returns:
        TOML, as `read` reads it.
    """
    import tomli_w  # here: no verb that only reads waits for it

    body: dict[str, Any] = {"format": FORMAT, "sfumato": version}
    body |= {name: _plain(found.given()) for name, found in objects.items() if found.given()}
    comment = "".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())
    return comment + "\n" + tomli_w.dumps(body)


def read(path: Path, tables: Mapping[str, type[Options]], version: str) -> dict[str, Options]:
    """The tables of a file as objects.

    Args:
        path: The file.
        tables: Name of a table -> its class.
        version: Of this sfumato, for the message about a newer file.

    Returns:
        Name of a table -> options, for the tables that are there.

    Raises:
        SfumatoError: It is not there, no TOML, of a format that is not known, or says what no
            option has; the message names file, table and cure.
        MachineError: It cannot be read.
    """
    name = path.name
    body = _parsed(path)
    number, by = body.pop("format", None), body.pop("sfumato", None)
    if number != FORMAT or isinstance(number, bool):
        said = "has no format number" if number is None else f"has the format {number!r}"
        made = f", written by sfumato {by}" if isinstance(by, str) else ""
        raise SfumatoError(
            f"{name} {said}{made}, and sfumato {version} reads format {FORMAT}: take the version"
            " that wrote it, or write a new one with `sfumato start --force`"
        )
    other = isinstance(by, str) and by != version
    hint = f" (the file is of sfumato {by}, this is {version})" if other else ""
    found: dict[str, Options] = {}
    for table, fields in body.items():
        if table not in tables:
            raise SfumatoError(f"{name}: {_no_table(table, tables)}{hint}")
        if not isinstance(fields, dict):
            raise SfumatoError(f"{name}: {table} must be a table: write [{table}]")
        found[table] = _object(name, table, cast("dict[str, Any]", fields), tables, hint)
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as handle:
            blob = handle.read(LARGEST + 1)
    except FileNotFoundError:
        raise SfumatoError(
            f"no config at {path}: write one with `sfumato start FOLDER`, or leave --config out"
        ) from None
    except OSError as error:
        raise MachineError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(blob) > LARGEST:
        raise SfumatoError(f"{path.name} is larger than 1 MB: it is no config of sfumato")
    try:
        return tomllib.loads(blob.decode("utf-8"))
    except UnicodeDecodeError:
        raise SfumatoError(f"{path.name} is not UTF-8: save it again as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else str(error)
        raise SfumatoError(
            f"{path.name} is not TOML: {why}; correct it, or write a new one with `sfumato start"
            " --force`"
        ) from None


def _no_table(name: str, tables: Mapping[str, type[Options]]) -> str:
    """The refusal of a top-level name, with where it belongs."""
    homes = [
        table for table, kind in tables.items() if name in (one.name for one in declared(kind))
    ]
    if homes:
        return f"{name!r} stands outside its table: put it under [{homes[0]}]"
    like = difflib.get_close_matches(name, tables, 1)
    return f"there is no table [{name}]" + (
        f": did you mean [{like[0]}]?" if like else f": there are {', '.join(tables)}"
    )


def _homes(name: str, tables: Mapping[str, type[Options]]) -> list[str]:
    """The tables that have an option of this name."""
    return [t for t, kind in tables.items() if name in (one.name for one in declared(kind))]


def _object(
    file: str, table: str, fields: dict[str, Any], tables: Mapping[str, type[Options]], hint: str
) -> Options:
    known = {one.name: one for one in declared(tables[table])}
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            raise SfumatoError(f"{file}, [{table}]: {_no_option(name, table, tables)}{hint}")
        try:
            values[name] = value_of(known[name], value)
        except SfumatoError as error:
            raise SfumatoError(f"{file}, [{table}] {name}: {error}") from error
    try:
        return tables[table](**values)
    except SfumatoError as error:
        raise SfumatoError(f"{file}, [{table}]: {error}") from error


def _no_option(name: str, table: str, tables: Mapping[str, type[Options]]) -> str:
    own = [one.name for one in declared(tables[table])]
    plain = name.lstrip("-").replace("-", "_")
    flags = {flag: one.name for one in declared(tables[table]) for flag in one.flags}
    known = plain if plain in own else flags.get("--" + plain.replace("_", "-"))
    homes = [] if known else _homes(plain, tables)
    like = [known] if known else difflib.get_close_matches(plain, own, 1)
    if like and not homes:
        return f"there is no option {name!r}: did you mean {like[0]!r}?"
    cure = f"it belongs under [{homes[0]}]" if homes else "docs/options.md lists all"
    return f"there is no option {name!r} here: {cure}"


def value_of(one: Declared, value: Any) -> Any:
    """A value of a file as the option takes it in Python.

    It may also be the text that the command line takes, such as "4GB".

    Args:
        one: The option.
        value: What the file says.

    Returns:
        The value; arrays are tuples.

    Raises:
        SfumatoError: It is of another type.
    """
    if isinstance(value, list):
        value = tuple(cast("list[Any]", value))
    if one.words and isinstance(value, str) and value in one.words:
        return one.words[value]
    if one.choices:
        return value  # what is no choice, the class refuses by name
    try:
        return fitted(one.kind, value)
    except Unfit:
        pass
    words = isinstance(value, tuple) and all(isinstance(v, str) for v in cast(Any, value))
    if one.parse and (isinstance(value, str) or (one.repeated and words)):
        given = [value] if isinstance(value, str) else list(cast(Any, value))
        return one.parse(given if one.repeated else value)
    raise SfumatoError(f"must be {_expected(one.kind)}, not {_said(value)}")


def _expected(kind: Any) -> str:
    """A declared type in the words of TOML."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(part) for part in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is not None and issubclass(origin, Mapping):
        return "a table of texts"
    if origin is tuple and Ellipsis not in inner:
        return f"an array of {len(inner)} values"
    if inner:
        return f"an array of {MANY.get(inner[0], 'values')}"
    return KNOWN.get(kind, str(kind))


def _said(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 40 else text[:40] + "..."
    if isinstance(value, tuple):
        return "such an array"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {str(name): _plain(inner) for name, inner in found.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in cast("Sequence[Any]", value)]
    return value
