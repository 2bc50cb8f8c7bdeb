"""What several verbs share: positional arguments, the group of reading options, and how a verb
takes a group.
"""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from ..errors import SfumatoError

READ, PRIVACY = "Reading", "Privacy"

Images = Annotated[
    Path,
    Argument(
        metavar="IMAGES",
        help="Class folders, folder with metadata.csv or .jsonl, parquet, idx or npz.",
    ),
]
Output = Annotated[
    Path, Option("--output", "-o", "--output-dir", help="A new folder; an existing one is refused.")
]


Ledger = Annotated[
    Path | None,
    Option(
        "--ledger",
        metavar="FILE",
        rich_help_panel=PRIVACY,
        help=(
            "Your ledger of all that was spent (default: $SFUMATO_LEDGER, or in your data folder)."
        ),
    ),
]

AllowFileSystem = Annotated[
    bool,
    Option(
        "--allow-file-system",
        rich_help_panel=PRIVACY,
        help=(
            "Keep the ledger on what is not known to be a local disk. It is recorded, and every"
            " later certificate shows it."
        ),
    ),
]


def options(**groups: Callable[..., dict]) -> Callable:
    """Give a command all options of its groups; each group arrives as one dict under its
    keyword.
    """

    def decorate(command: Callable) -> Callable:
        members = {
            name: inspect.signature(group, eval_str=True).parameters
            for name, group in groups.items()
        }
        own = {
            n: p
            for n, p in inspect.signature(command, eval_str=True).parameters.items()
            if n not in groups
        }

        def run(**values: Any) -> Any:
            split = {
                name: groups[name](**{k: values.pop(k) for k in found})
                for name, found in members.items()
            }
            return command(**values, **split)

        parameters = [
            p.replace(kind=p.KEYWORD_ONLY)
            for found in (own, *members.values())
            for p in found.values()
        ]
        run.__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def reading(
    *,
    labels: Annotated[
        str | None,
        Option("--labels", metavar="COLUMN", rich_help_panel=READ, help="Column of the class."),
    ] = None,
    classes: Annotated[
        str | None,
        Option(
            "--classes",
            metavar="A,B,..",
            rich_help_panel=READ,
            help=(
                "The public list of classes (a name with a comma in double quotes); default: those"
                " found."
            ),
        ),
    ] = None,
    yes_public: Annotated[
        bool,
        Option(
            "--yes-public",
            rich_help_panel=READ,
            help=(
                "The classes found are public, as `inspect` shows them, however few units have one."
                " Recorded."
            ),
        ),
    ] = False,
    caption_column: Annotated[
        str | None,
        Option(
            "--caption-column",
            "--captions",
            metavar="COLUMN",
            rich_help_panel=READ,
            help="Column of the captions.",
        ),
    ] = None,
    unit: Annotated[
        str | None,
        Option(
            "--unit",
            metavar="COLUMN",
            rich_help_panel=READ,
            help="Column of the patient or person who is protected.",
        ),
    ] = None,
    max_bad: Annotated[
        float | None,
        Option(
            "--max-bad",
            rich_help_panel=READ,
            help="Share of unreadable images that is accepted (default 0.01).",
        ),
    ] = None,
    unlabelled: Annotated[
        bool,
        Option(
            "--unlabelled", rich_help_panel=READ, help="There are no classes: all images are one."
        ),
    ] = False,
) -> dict:
    """Arguments of `records.load_records`."""
    listed = None if classes is None else names(classes)
    given = {
        "labels": labels,
        "classes": listed,
        "caption_column": caption_column,
        "unit": unit,
        "max_bad": max_bad,
    }
    flags = {"unlabelled": unlabelled, "yes_public": yes_public}
    return {k: v for k, v in given.items() if v is not None} | {k: v for k, v in flags.items() if v}


def names(listed: str) -> list[str]:
    """Names between commas; one that holds a comma stands in double quotes."""
    try:
        (found,) = csv.reader([listed], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise SfumatoError(
            '--classes does not read: write a,b or "a, with a comma",b on one line'
        ) from error
    return [name.strip() for name in found if name.strip()]


def pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    """CLASS=TEXT words as a mapping; SfumatoError for a word without "=" or a class named twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise SfumatoError(f"{flag} {word!r}: write CLASS=TEXT")
        if name.strip() in found:
            raise SfumatoError(
                f"{flag} names the class {name.strip()!r} twice: give one text per class"
            )
        found[name.strip()] = text.strip()
    return found
