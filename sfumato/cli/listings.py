"""`sfumato methods` and `sfumato bases`: what there is to choose from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from typer import Option

if TYPE_CHECKING:
    from ..bases import BaseInfo

HEADS = ("base", "image", "parameters", "on disk", "prompted by", "licence")


def methods() -> None:
    """The methods, one line each.

    \b
    sfumato methods
    """
    from .. import verbs

    found = verbs.methods()
    width = max((len(name) for name in found), default=0)
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")


def bases(
    copy: Annotated[
        tuple[str, str] | None,
        Option(
            "--copy",
            metavar="NAME DIR",
            help="Copy a base into a new folder, for whoever gets a LoRA made for it.",
        ),
    ] = None,
    as_json: Annotated[
        bool, Option("--json", help="Print one JSON object, of methods too.")
    ] = False,
) -> None:
    """The bundled public bases: image size, parameters, disk space, licence, and where they are.

    Any StableDiffusionPipeline folder serves as well: --base FOLDER.

    \b
    sfumato bases
    sfumato bases --copy letters ./base
    """
    if copy is not None:
        from .. import verbs

        name, folder = copy
        print(f"{folder}: {name}, digest {verbs.copy_base(name, folder)}")
        return
    if as_json:
        from .. import verbs
        from ..bases import base_info

        found = {
            name: dict(zip(HEADS, row(base_info(name)))) | {"says": said}
            for name, said in verbs.bases().items()
        }
        print(json.dumps({"bases": found, "methods": verbs.methods()}, indent=1))
        return
    for line in table_of_bases():
        print(line)


def table_of_bases() -> list[str]:
    """The bundled bases as lines: figures, a sentence, and the folder of each."""
    from .. import verbs
    from ..bases import base_info

    said = verbs.bases()
    facts = {name: base_info(name) for name in said}
    rows = [HEADS, *(row(info) for info in facts.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for place, cells in enumerate(rows):
        lines.append("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
        if place:
            lines += [f"    {said[cells[0]]}", f"    {facts[cells[0]].folder}"]
    return lines


def row(info: BaseInfo) -> tuple[str, ...]:
    """One base's cells under HEADS."""
    return (
        info.name,
        f"{info.resolution}x{info.resolution} px",
        f"{info.parameters / 1e6:.1f} million",
        f"{info.size / 1e6:.1f} MB",
        {"none": "nothing", "class": "class", "text": "text"}[info.condition],
        info.licence or "not stated",
    )
