"""Keywords of a verb put into their classes of options, and a verb's signature made from these."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import SfumatoError
from .arguments import checked, unknown
from .declare import Options, declared

T = TypeVar("T", bound=Options)
F = TypeVar("F", bound=Callable[..., Any])


def gather(
    groups: Mapping[str, type[Options]], keywords: Mapping[str, Any], own: Iterable[str] = ()
) -> dict[str, Any]:
    """One object per group, made of whole objects and single fields among `keywords`.

    Args:
        groups: Name of a group -> its class.
        keywords: Whole objects under their group's name, single fields under their own.
        own: The verb's other arguments, for the message about a misspelt name.

    Returns:
        Group -> object; the defaults for a group without keywords.

    Raises:
        SfumatoError: An unknown name, an object of another class, or a field that is given twice.
    """
    left: dict[str, Any] = dict(keywords)
    found: dict[str, Any] = {}
    for group, kind in groups.items():
        whole = left.pop(group, None)
        if whole is not None and not isinstance(whole, kind):
            raise SfumatoError(f"{group} takes a {kind.__name__} object: sfumato.{kind.__name__}()")
        fields = {one.name: left.pop(one.name) for one in declared(kind) if one.name in left}
        if whole is not None and fields:
            name = next(iter(fields))
            raise SfumatoError(f"{name} is given twice, as {name} and in {group}: give one of them")
        found[group] = whole if whole is not None else make(kind, fields)
    if left:
        known = [*own, *groups, *(one.name for kind in groups.values() for one in declared(kind))]
        raise SfumatoError(unknown(next(iter(left)), known))
    return found


def make(kind: type[T], fields: Mapping[str, Any]) -> T:
    """An object of `kind`; a field that is None and may not be keeps its default."""
    may_be_none = {one.name for one in declared(kind) if one.optional}
    return kind(**{k: v for k, v in fields.items() if v is not None or k in may_be_none})


def takes(**groups: type[Options] | tuple[type[Options], ...]) -> Callable[[F], F]:
    """Lets `help()` and editors show a verb's options, in its signature and in its docstring.

    Args:
        groups: Name of a group -> its class; the methods' classes come as one tuple.

    Returns:
        A decorator.
    """

    def decorate(verb: F) -> F:
        plain = inspect.signature(verb)
        shown = {
            name: parameter
            for name, parameter in plain.parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        lines: list[str] = []
        for group, kinds in groups.items():
            several = kinds if isinstance(kinds, tuple) else (kinds,)
            for kind in several:
                lines += _described(group, kind)
                for one in declared(kind):
                    known = shown.get(one.name)
                    same = known is None or known.default == one.default
                    # where methods differ, None stands for the method's own
                    shown[one.name] = _keyword(one.name, one.default if same else None, one.type)
            if not isinstance(kinds, tuple):
                shown.setdefault(group, _keyword(group, None, f"{kinds.__name__} | None"))
        found: Any = checked(verb)
        found.__signature__ = plain.replace(parameters=list(shown.values()))
        head = "\n\nOptions, as keywords or as one object for a group:\n"
        found.__doc__ = (inspect.getdoc(verb) or "") + head + "\n".join(lines)
        return found

    return decorate


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _described(group: str, kind: type[Options]) -> list[str]:
    """The options of a class for a docstring; nothing for one without options."""
    lines: list[str] = []
    for one in declared(kind):
        text = f"{one.name} ({one.type}): {one.line}"
        inner = " " * 12
        lines += textwrap.wrap(
            text, 96, initial_indent=" " * 8, subsequent_indent=inner, break_on_hyphens=False
        )
        if one.refused:
            lines.append(f"{inner}SfumatoError unless {one.refused}.")
    return [f"\n    {group} ({kind.__name__}):", *lines] if lines else []
