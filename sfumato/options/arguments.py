"""A verb's own arguments, checked by their annotations before the verb does anything."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from ..errors import SfumatoError
from .kinds import Unfit, fitted, shown

F = TypeVar("F", bound=Callable[..., Any])


def checked(verb: F) -> F:
    """The verb, with arguments refused by rule where they would be a TypeError later.

    Numbers and texts arrive as builtin types, lists as tuples. What is in `**options` is left to
    the classes of options.

    Args:
        verb: A function with annotated arguments.

    Returns:
        A function with the same signature; SfumatoError for an argument that it does not take, that
        is missing, or whose value is of another kind.
    """
    plain = inspect.signature(verb)

    @functools.wraps(verb)
    def run(*args: Any, **keywords: Any) -> Any:
        bound = _bound(verb.__name__, plain, args, keywords)
        for name, value in bound.arguments.items():
            parameter = plain.parameters[name]
            if parameter.kind is parameter.VAR_KEYWORD:
                _require_names(value, plain, _kind(verb, parameter.annotation))
                continue
            if value is parameter.default:
                continue
            try:
                bound.arguments[name] = fitted(_kind(verb, parameter.annotation), value)
            except Unfit as unfit:
                raise SfumatoError(f"{name} {shown(value)}: must be {unfit}") from unfit
        return verb(*bound.args, **bound.kwargs)

    return cast(F, run)


def unknown(name: str, known: Iterable[str]) -> str:
    """The refusal of a name that no option has."""
    like = difflib.get_close_matches(name, list(known), 1)
    return f"there is no option {name!r} here" + (f": did you mean {like[0]!r}?" if like else "")


def _require_names(given: Iterable[str], plain: inspect.Signature, options: Any) -> None:
    """Refuse a name that is no option and nearly one of the verb's own arguments.

    What else is no option is left to `gather`, which knows the options of a method that is not in
    the package.

    Raises:
        SfumatoError: There is one; it is said what was meant.
    """
    known = {name for kind in typing.get_args(options) for name in kind.__annotations__}
    for name in given:
        like = difflib.get_close_matches(name, [*plain.parameters, *known], 1)
        if name not in known and set(like) & set(plain.parameters):
            raise SfumatoError(unknown(name, like))


def _bound(
    verb: str, plain: inspect.Signature, args: tuple[Any, ...], keywords: dict[str, Any]
) -> inspect.BoundArguments:
    try:
        return plain.bind(*args, **keywords)
    except TypeError as error:
        known, kinds = plain.parameters, [p.kind for p in plain.parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            for name in keywords:
                if name not in known:
                    raise SfumatoError(unknown(name, known)) from error
        # of names only, never of values
        raise SfumatoError(f"{verb}() {error}: see help(sfumato.{verb})") from error


def _kind(verb: Callable[..., Any], annotation: Any) -> Any:
    """The type that an annotation names; one that is imported for checkers only, by its name."""
    if not isinstance(annotation, str):
        return annotation
    names = dict(vars(sys.modules[verb.__module__]))
    while True:
        try:
            return eval(annotation, names)
        except NameError as error:
            name = str(error.name)
            names[name] = _Named(name, (), {})


class _Named(type):
    """A class that is known by its name alone."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return any(kind.__name__ == cls.__name__ for kind in type(instance).__mro__)
