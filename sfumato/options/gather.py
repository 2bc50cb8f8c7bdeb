"""Keywords of a verb put into their classes of options, and a verb's signature made from these."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import SfumatoError
from .declare import Options, declared

F = TypeVar("F", bound=Callable[..., Any])


def gather(
    groups: Mapping[str, type[Options]], keywords: Mapping[str, Any], own: Iterable[str] = ()
) -> dict[str, Options]:
    """One object per group, made of whole objects and single fields among `keywords`.

    Args:
        groups: Name of a group -> its class.
        keywords: Whole objects under their group's name, single fields under their own.
        own: What the verb takes beside these, for the message about a misspelt name.

    Returns:
        Group -> object; the defaults where nothing was said.

    Raises:
        SfumatoError: An unknown name, an object of another class, or a field that is said twice.
    """
    left, found = dict(keywords), {}
    for group, kind in groups.items():
        whole = left.pop(group, None)
        if whole is not None and not isinstance(whole, kind):
            raise SfumatoError(f"{group} takes a {kind.__name__} object: sfumato.{kind.__name__}()")
        fields = {one.name: left.pop(one.name) for one in declared(kind) if one.name in left}
        if whole is not None and fields:
            name = next(iter(fields))
            raise SfumatoError(f"{name} is said twice, as {name} and in {group}: give one of them")
        found[group] = whole if whole is not None else make(kind, fields)
    if left:
        known = [*own, *groups, *(one.name for kind in groups.values() for one in declared(kind))]
        raise SfumatoError(unknown(next(iter(left)), known))
    return found


def make(kind: type[Options], fields: Mapping[str, Any]) -> Options:
    """An object of `kind`; a field that is None and may not be keeps its default."""
    may_be_none = {one.name for one in declared(kind) if one.optional}
    return kind(**{k: v for k, v in fields.items() if v is not None or k in may_be_none})


def unknown(name: str, known: list[str]) -> str:
    """The refusal of a name that no option has."""
    like = difflib.get_close_matches(name, known, 1)
    return f"there is no option {name!r} here" + (f": did you mean {like[0]!r}?" if like else "")


def takes(**groups: type[Options] | tuple[type[Options], ...]) -> Callable[[F], F]:
    """Let `help()` and editors show a verb's options: in its signature and under "Options"."""

    def decorate(verb: F) -> F:
        own = [
            parameter
            for parameter in inspect.signature(verb).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        shown, lines, seen = [], [], {p.name for p in own}
        for group, kinds in groups.items():
            for kind in kinds if isinstance(kinds, tuple) else (kinds,):
                lines.append(f"\n    {group} ({kind.__name__}):")
                for one in declared(kind):
                    lines.append(f"        {one.name}: {one.line}")
                    if one.name not in seen:
                        seen.add(one.name)
                        note = inspect.get_annotations(kind).get(one.name, "Any")
                        shown.append(
                            inspect.Parameter(
                                one.name,
                                inspect.Parameter.KEYWORD_ONLY,
                                default=one.default,
                                annotation=note,
                            )
                        )
            if group not in seen and not isinstance(kinds, tuple):
                seen.add(group)
                shown.append(
                    inspect.Parameter(
                        group,
                        inspect.Parameter.KEYWORD_ONLY,
                        default=None,
                        annotation=f"{kinds.__name__} | None",
                    )
                )
        verb.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*own, *shown], return_annotation=inspect.signature(verb).return_annotation
        )
        text = inspect.getdoc(verb) or ""
        head = "\n\nOptions, as keywords or as one object for a group:\n"
        verb.__doc__ = text + head + "\n".join(lines)
        return verb

    return decorate
