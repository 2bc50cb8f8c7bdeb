"""`sfumato methods` and `sfumato bases`: what there is to choose from."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from ..errors import SfumatoError

if TYPE_CHECKING:
    from ..bases import BaseInfo
    from ..verbs import BaseReport

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
    base: Annotated[
        str | None, Argument(metavar="[FOLDER]", help="A pipeline folder, or a bundled name.")
    ] = None,
    copy: Annotated[
        tuple[str, str] | None,
        Option(
            "--copy",
            metavar="NAME DIR",
            help="Copy a base into a new folder, for whoever gets a LoRA made for it; or make a"
            " folder of a checkpoint in one .safetensors file.",
        ),
    ] = None,
    base_config: Annotated[
        str | None,
        Option(
            metavar="FOLDER",
            help="With --copy FILE: a pipeline folder of the same model, for its settings.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        Option("--json", help="Print one JSON object; of the bundled bases, with the methods."),
    ] = False,
) -> None:
    """The bundled public bases, or what a folder is: size, licence, and what trains on it.

    Any pipeline folder of a known family serves as well: --base FOLDER.

    \b
    sfumato bases
    sfumato bases ./stable-diffusion-xl
    sfumato bases --copy letters ./base
    sfumato bases --copy model.safetensors ./base --base-config ./stable-diffusion-v1-5
    """
    from .. import verbs

    if base_config is not None and copy is None:
        raise SfumatoError("--base-config goes with --copy FILE FOLDER")
    if copy is not None:
        if base is not None or as_json:
            raise SfumatoError("--copy NAME DIR copies and describes nothing: give it alone")
        name, folder = copy
        digest = verbs.copy_base(name, folder, base_config=base_config)
        print(f"{folder}: {name}, digest {digest}")
        return
    if base is not None:
        report = verbs.describe_base(base)
        print(json.dumps(as_object(report), indent=1) if as_json else "\n".join(lines_of(report)))
        return
    if as_json:
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


def lines_of(report: BaseReport) -> list[str]:
    """What a base is, as lines for the terminal."""
    info, unread = report.info, report.info.unread
    channels, height, width = info.latent_shape
    told = {"none": "nothing", "class": "a class", "text": "a text"}[info.condition]
    target = {
        "epsilon": "the noise",
        "v_prediction": "the velocity",
        "sample": "the picture",
        "flow": "the direction of a flow",
    }[info.prediction]
    facts = {
        "folder": str(info.folder),
        "family": f"{info.family} ({report.pipeline})",
        "pictures": f"{info.resolution}x{info.resolution} pixels, latents"
        f" {channels}x{height}x{width}",
        "told": told,
        "predicts": f"{target}; its own scheduler is {report.scheduler}",
        "parameters": f"{info.parameters / 1e6:,.1f} million, {info.size / 1e6:,.1f} MB on disk",
        "memory": f"{report.weights_bytes / 2**30:.2f} GB of weights as they are held; the"
        " pictures of a step come on top, and plan measures them",
        "licence": info.licence or "not stated",
        "training data": report.training_data or "its card says nothing of it",
        "digest": info.digest,
    }
    if unread:
        facts["not opened"] = ", ".join(unread)
    lines = [f"{name:<14} {value}" for name, value in facts.items()]
    lines += ["", f"{'method':<14} {'trains':>16} {'memory':>10}"]
    for name, numbers in report.trains.items():
        lines.append(f"{name:<14} {numbers:>16,} {report.bytes_for(name) / 2**30:>7.2f} GB")
    lines += [f"{name:<14} refused: {why}" for name, why in report.refused.items()]
    return lines


def as_object(report: BaseReport) -> dict[str, Any]:
    """What a base is, for a script: plain numbers and bytes under their names in Python."""
    info = report.info
    plain = {one.name: getattr(info, one.name) for one in fields(info) if one.name != "digest_of"}
    rest = {one.name: getattr(report, one.name) for one in fields(report) if one.name != "info"}
    memory = {name: report.bytes_for(name) for name in report.trains}
    made = {"folder": str(info.folder), "digest": info.digest, "bytes": memory}
    return plain | rest | made


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
