"""What a folder is that no family opens, in one true sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

# Word in a pipeline's class name -> why it is none of ours, whatever the model.
_KINDS = {
    "Inpaint": "a model for in-painting, which is told the rest of a picture",
    "Img2Img": "a pipeline that begins with a picture",
    "Upscale": "an upscaler, which is told a small picture",
    "ControlNet": "a pipeline that is told a control picture",
    "Adapter": "a pipeline that is told a control picture",
    "InstructPix2Pix": "an editor, which is told the picture to edit",
    "Edit": "an editor, which is told the picture to edit",
    "Kontext": "an editor, which is told the picture to edit",
    "Depth": "a model that is told a depth map",
    "Video": "a model of videos",
    "Audio": "a model of sounds",
    "Prior": "the prior of another model, which draws no pictures",
    "Flux2Pipeline": "FLUX.2 dev, whose prompts are read by a processor that needs torchvision,"
    " which sfumato does without",
}


def what_it_is(folder: Path, index: Mapping[str, object], known: Iterable[str]) -> str:
    """One sentence on a pipeline folder that no family opens, with the list of those that do.

    Args:
        folder: The folder.
        index: Its model index.
        known: Pipeline classes that are opened.
    """
    kind = index.get("_class_name")
    name = kind[:60] if isinstance(kind, str) and kind[:60].isprintable() else "no pipeline"
    takes = f"sfumato adapts folders of {', '.join(sorted(known))}"
    why = next((words for part, words in _KINDS.items() if part in name), None)
    if is_refiner(index):
        return (
            f"{folder} is the refiner of Stable Diffusion XL, which finishes pictures that another"
            f" model began: take the SDXL base"
        )
    if why is not None:
        return f"{folder} is a {name}, {why}: {takes}"
    return f"{folder} is a {name}, a family that is not among those known: {takes}"


def is_refiner(index: Mapping[str, object]) -> bool:
    """Whether a pipeline is SDXL's refiner: it is told an aesthetic score, or by one encoder."""
    kind = str(index.get("_class_name"))
    first = index.get("text_encoder")
    lacks = isinstance(first, list) and not any(first)
    return kind.startswith("StableDiffusionXL") and bool(
        index.get("requires_aesthetics_score") or lacks
    )
