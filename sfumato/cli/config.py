"""`sfumato.toml` beneath the flags: a verb reads it, says what it took, and lets flags go first."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, get_args

from typer import Option
from typer.models import ParameterInfo

from ..errors import SfumatoError
from ..methods import DEFAULT, METHODS
from ..options import INSTEAD, MADE, PLACES, SILENT, Declared, Options, Project, declared
from .options import BENEATH, given

if TYPE_CHECKING:
    from ..planning.config import Config

FILE = "sfumato.toml"
LONGEST = 60  # characters of a value that are said
PANEL = "Config"
_IN_USE: ContextVar[Config | None] = ContextVar("config", default=None)
EVERYTHING: Mapping[str, str] = {}

ConfigFile = Annotated[
    Path | None,
    Option(
        "--config",
        metavar="FILE",
        rich_help_panel=PANEL,
        help=f"Read the options of this file (default: ./{FILE}, where there is one).",
    ),
]
NoConfig = Annotated[
    bool,
    Option("--no-config", rich_help_panel=PANEL, help="Read no config; flags and defaults alone."),
]


@dataclass
class Taken:
    """What a verb took from a config: (flag, name in words, value)."""

    file: str
    values: list[tuple[str, str, Any]]

    def say(self) -> None:
        """One line on stderr, from the first of several processes."""
        if self.values and os.environ.get("RANK", "0") == "0":
            said = ", ".join(f"{name} {_short(value)}".strip() for _, name, value in self.values)
            print(f"from {self.file}: {said}", file=sys.stderr)

    def blamed(self, message: str) -> str:
        """A refusal, with what of it the file said."""
        names = [
            flag
            for flag, _, _ in self.values
            if flag and re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", message)
        ]
        if not names:
            return message
        come = "come" if len(names) > 1 else "comes"
        return f"{message} ({' and '.join(names)} {come} from {self.file})"


def from_config(
    verb: str,
    *,
    but: Mapping[str, str] = EVERYTHING,
    only: Mapping[str, str] = EVERYTHING,
    arrange: Callable[[dict[str, Any]], None] = lambda values: None,
) -> Callable:
    """Lets a command take from a config what was not given.

    Args:
        verb: Its name in `PLACES`.
        but: Group -> the switch with which the config says nothing about it.
        only: Argument -> the switch without which the config says nothing about it.
        arrange: Puts the words of a command line in order before that.
    """

    def decorate(command: Callable) -> Callable:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        places = PLACES[verb]
        needed = {p.name: p for p in own if p.default is p.empty and p.name in places}

        def run(config: Path | None = None, no_config: bool = False, **values: Any) -> Any:
            found = _opened(config, no_config)
            arrange(values)
            _IN_USE.set(found)
            taken = Taken(FILE if found is None else found.path.name, [])
            if found is not None:
                _fill_places(verb, found, values, taken, only)
                groups = getattr(command, "groups", {})
                quiet = {
                    *SILENT.get(verb, ()),
                    *(g for g, switch in but.items() if values.get(switch)),
                }
                asked = {name: kinds for name, kinds in groups.items() if name not in quiet}
                beneath = _beneath(verb, asked, found, values, taken)
                values |= {BENEATH: beneath} if groups else {}
            for name, parameter in needed.items():
                if values.get(name) is None:
                    raise SfumatoError(_missing(verb, name, parameter))
            taken.say()
            try:
                return command(**values)
            except SfumatoError as error:
                error.args = (taken.blamed(str(error)),)
                raise

        optional = [_optional(p) if p.name in needed else p for p in own]
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [p.replace(kind=kind) for p in optional]
        parameters += [
            inspect.Parameter("config", kind, default=None, annotation=ConfigFile),
            inspect.Parameter("no_config", kind, default=False, annotation=NoConfig),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def in_use() -> tuple[Mapping[str, Any], str]:
    """What the config that the command reads says of the project, and the flag that names it."""
    found = _IN_USE.get()
    if found is None:
        return {}, ""
    return found.table("project"), "" if str(found.path) == FILE else (
        f" --config {quote(str(found.path))}"
    )


def _opened(config: Path | None, no_config: bool) -> Config | None:
    if config is not None and no_config:
        raise SfumatoError("--config and --no-config exclude each other: give one of them")
    if no_config or (config is None and not os.path.lexists(FILE)):
        return None
    from ..planning.config import Config  # here: without a config nothing is read

    return Config.read(config or FILE)


def _fill_places(
    verb: str, config: Config, values: dict[str, Any], taken: Taken, only: Mapping[str, str]
) -> None:
    project = config.table("project")
    kinds = {one.name: one for one in declared(Project)}
    for name, field in PLACES[verb].items():
        if name not in values or given(values[name]) or field not in project:
            continue
        if name in only and not values.get(only[name]):
            continue
        if field == "release" and config.moved("project", field) and _stands(config, "model"):
            field = "model"  # a style hands over its token, not pictures
        value, one = project[field], kinds[field]
        if field not in (MADE.get(verb), "ledger"):
            _require_there(verb, config, "project", field)
        values[name] = Path(value) if one.path else value
        taken.values.append((one.flag if name == field else "", field.replace("_", " "), value))


def _stands(config: Config, field: str) -> bool:
    return field in config.table("project") and not config.moved("project", field)


def _require_there(verb: str, config: Config, table: str, field: str) -> None:
    """SfumatoError for a place that the file names and that is not there."""
    if not config.moved(table, field):
        return
    maker = next((verb for verb, made in MADE.items() if made == field), None)
    made = f"run `sfumato {maker}` first, or " if maker else ""
    value = str(config.tables[table].given()[field])
    raise SfumatoError(
        f"{config.path.name} names {value!r} as [{table}] {field}, and nothing is there: {made}if"
        f" it was moved, correct the file or name the new place (see `sfumato {verb} --help`)"
    )


def _beneath(
    verb: str,
    groups: dict[str, tuple[type[Options], ...]],
    config: Config,
    values: dict[str, Any],
    taken: Taken,
) -> dict[str, dict[str, Any]]:
    """Group -> what the config says about its classes, where no flag does."""
    from ..planning.config import TABLES

    tables = {kind: name for name, kind in TABLES.items()}
    project = config.table("project")
    method = values.get("method") or project.get("method") or DEFAULT
    found: dict[str, dict[str, Any]] = {}
    for group, kinds in groups.items():
        own: dict[str, tuple[Declared, Any]] = {}
        for kind in kinds:
            table = "project" if issubclass(Project, kind) else tables.get(kind)
            if table is None:  # of machines and signing keys no project's file says anything
                continue
            if table in METHODS and table != method:
                continue
            said = config.table(table)
            for one in declared(kind):
                silent = one.name in SILENT.get(verb, ())
                flags = (one.name, INSTEAD.get(one.name, one.name))
                if one.name in said and not silent and not any(given(values.get(f)) for f in flags):
                    _require_there(verb, config, table, one.name)
                    own[one.name] = one, said[one.name]
        found[group] = {name: value for name, (_, value) in own.items()}
        taken.values += [(one.flag, name.replace("_", " "), v) for name, (one, v) in own.items()]
    return found


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    """A required argument that a config may stand in for."""
    kind, *more = get_args(parameter.annotation)
    return parameter.replace(default=None, annotation=Annotated[kind | None, *more])


def _missing(verb: str, name: str, parameter: inspect.Parameter) -> str:
    found: list[Any] = [x for x in get_args(parameter.annotation) if isinstance(x, ParameterInfo)]
    # typer takes the first flag for a default
    words = [found[0].default, *(found[0].param_decls or ())] if found else []
    flags = [word for word in words if isinstance(word, str) and word.startswith("-")]
    said = " / ".join(flags) or str(getattr(found[0], "metavar", None) or name)
    return (
        f"{said} is missing: give it, or write [project] {PLACES[verb][name]} into {FILE}"
        f" (`sfumato start` does; see `sfumato {verb} --help`)"
    )


def _short(value: Any) -> str:
    if value is True:
        return ""
    if isinstance(value, dict):
        text = ", ".join(f"{name}={inner}" for name, inner in value.items())
    elif isinstance(value, tuple):
        text = ",".join(map(str, value))
    else:
        text = "no" if value is False else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
