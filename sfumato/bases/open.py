"""From a name or a folder to a base.

Finds its family, checks everything before weights are read, and finds what `sfumato export` wrote.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..compute.device import device
from ..errors import ModelError, SfumatoError
from .adapters import LORA_FILE, load_lora
from .checks import INDEX_FILE, check_folder, digest_of_file, folder_digest
from .classes import NAMES, ClassBase
from .contents import blocks_of_files
from .dit import DiT
from .embeds import embeds_files, load_embeds
from .files import written_whole
from .flux import Flux
from .flux2 import Flux2Klein
from .interface import Base, BaseInfo, text_base
from .loading import loading
from .loda import LODA_FILE, load_loda
from .lumina_2 import Lumina2
from .pixart_sigma import PixArtSigma
from .population import POPULATION_FILE
from .prx import PRX
from .qwen_image import QwenImage
from .sana import Sana
from .scratch import scratch_folder, scratch_name
from .single import folder_from_file, is_single_file
from .stable_diffusion import StableDiffusion
from .stable_diffusion_3 import StableDiffusion3
from .stable_diffusion_xl import StableDiffusionXL
from .trial import try_forward
from .unet2d import LatentUNet, PixelUNet
from .unknown import is_refiner, what_it_is
from .weights import check_settings
from .z_image import ZImage

# The pipeline class that a folder's index names -> its family.
FAMILIES: dict[str, type[Base]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "PixArtSigmaPipeline": PixArtSigma,
    "FluxPipeline": Flux,
    "Flux2KleinPipeline": Flux2Klein,
    "SanaPipeline": Sana,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "DDPMPipeline": PixelUNet,
    "DDIMPipeline": PixelUNet,
    "LDMPipeline": LatentUNet,
    "DiTPipeline": DiT,
    "Lumina2Pipeline": Lumina2,
    "ZImagePipeline": ZImage,
    "QwenImagePipeline": QwenImage,
    "PRXPipeline": PRX,
}
BUNDLED = Path(__file__).parent.parent / "data" / "bases"
CERTIFICATES = ("privacy.json", "synthesis.json")


def base_info(name_or_path: str | Path) -> BaseInfo:
    """What a base is, its folder checked; of the weights only the headers are read.

    Args:
        name_or_path: A bundled base's name, a pipeline folder, or a folder of `sfumato export`: its
            pipeline, or its LoRA and tokens on the base that they name (`origin_of`).

    Raises:
        SfumatoError: Where there is no such base.
        ModelError: For a folder that is no pipeline of a known family, holds pickled weights, asks
            for custom code, or has components that cannot be adapted; and where the base that
            adapters were made for is neither bundled nor beside them.
    """
    folder = resolve_base(name_or_path)
    added = _added(folder)
    if not added:
        return _checked(str(name_or_path), folder)[1]
    info = base_info(_origin(folder))

    def digest() -> str:
        found = hashlib.sha256(info.digest.encode())
        for path in added:
            found.update(path.name.encode() + b"\0" + digest_of_file(path))
        return found.hexdigest()

    return replace(info, name=str(name_or_path), folder=folder, digest_of=digest)


def load_base(name_or_path: str | Path) -> Base:
    """Open a base on the device in use; its digest is that of the files as they were then.

    Args:
        name_or_path: As in `base_info`.

    Raises:
        SfumatoError: As `base_info`.
        ModelError: As `base_info`, and for weights that are missing, do not fit, or are not finite.
    """
    folder = resolve_base(name_or_path)
    if not _added(folder):
        return load_pipeline(name_or_path)
    origin = _origin(folder)
    base = open_adapted(folder, lambda: load_base(origin))
    base.info = base_info(name_or_path)
    _ = base.digest  # computed now: a file may be exchanged later
    return base


def load_pipeline(name_or_path: str | Path) -> Base:
    """Open a bundled base by name or a pipeline folder, without adapters; errors as `load_base`."""
    family, info = _checked(str(name_or_path), resolve_base(name_or_path))
    base = family.load(info)
    with loading(info.folder):
        base.move(device())
        try_forward(base)
    _ = base.digest
    return base


def open_adapted(folder: Path, original: Callable[[], Base]) -> Base:
    """Opens what a method saved in `folder`.

    A whole pipeline, or adapters and token vectors put into `original()` (a LoRA is merged: it
    samples faster). A LoRA file or tokens beside a pipeline, as earlier versions left them,
    are in it already.
    """
    whole = (folder / INDEX_FILE).exists()
    base = load_pipeline(folder) if whole else original()
    branches, tokens = (folder / LODA_FILE).exists(), bool(embeds_files(folder))
    if tokens and not whole:
        load_embeds(text_base(base), folder)
    if branches:
        load_loda(base, folder)
    elif (folder / POPULATION_FILE).exists():
        pass  # pictures, and no change of the base
    elif not whole and ((folder / LORA_FILE).exists() or not tokens):
        load_lora(base, folder)
    return base


def bundled_bases() -> dict[str, Path]:
    """Name -> folder of the bases that come with sfumato."""
    return {p.parent.name: p.parent for p in sorted(BUNDLED.glob(f"*/{INDEX_FILE}"))}


def own_name(name_or_path: str | Path) -> str | None:
    """The name by which sfumato itself has a base, bundled or of random numbers; None for a path.

    SfumatoError for random numbers of a size that there is not.
    """
    known = str(name_or_path)
    return known if known in bundled_bases() else scratch_name(known)


def resolve_base(name_or_path: str | Path) -> Path:
    """The folder of a bundled base's name, or of a path (the folder inside an exported pipeline).

    SfumatoError if there is neither.
    """
    bundled = bundled_bases()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if scratch := scratch_name(name_or_path):
        return scratch_folder(scratch)
    folder = Path(name_or_path)
    if is_single_file(folder):
        raise ModelError(_of_one_file(folder))
    if not folder.is_dir():
        names = ", ".join(bundled) or "none"
        raise SfumatoError(
            f"no base at {folder}: give a pipeline folder or a bundled name ({names})"
        )
    inner = folder / "model"
    return (
        inner if (inner / INDEX_FILE).is_file() and not (folder / INDEX_FILE).exists() else folder
    )


def _of_one_file(file: Path) -> str:
    return (
        f"{file} is a checkpoint in one file: make a folder of it with sfumato bases --copy"
        f" {file.name} FOLDER --base-config CONFIG, where CONFIG is a pipeline folder of the same"
        " model (without weights will do)"
    )


def weights_of_base(name_or_path: str | Path) -> frozenset[bytes]:
    """Contents (`blocks_of_files`) of all weights that a base is made of."""
    folder = resolve_base(name_or_path)
    found = blocks_of_files(folder)
    return found | weights_of_base(_origin(folder)) if _added(folder) else found


def origin_of(name_or_path: str | Path) -> str | None:
    """The base that an exported adapter was made for; None for a whole pipeline.

    A bundled name, or a path beside the export. ModelError as `base_info`.
    """
    folder = resolve_base(name_or_path)
    return _origin(folder) if _added(folder) else None


def copy_base(name: str, folder: str | Path, base_config: str | Path | None = None) -> str:
    """Copy a bundled base into a new folder, as any diffusers tool opens it; returns its digest.

    Args:
        name: A bundled name, or a checkpoint in one .safetensors file.
        folder: New.
        base_config: For a checkpoint: a pipeline folder with its settings (`folder_from_file`).

    Raises:
        SfumatoError: For a name that is not bundled, or a folder that is there already.
        ModelError: A checkpoint and settings that do not belong together.
        MachineError: Where it cannot be written.
    """
    folder, known = Path(folder), bundled_bases()
    if base_config is not None:
        return folder_from_file(Path(name), Path(base_config), folder, FAMILIES)
    if is_single_file(Path(name)):
        raise SfumatoError(_of_one_file(Path(name)))
    if name not in known and Path(name).is_dir():
        raise SfumatoError(f"{name} is a folder already: give it to --base as it is")
    if name not in known:
        raise SfumatoError(
            f"no bundled base {name}: choose {', '.join(known) or 'none'}, or name a checkpoint in"
            " one .safetensors file"
        )
    if folder.exists():
        raise SfumatoError(f"{folder} already exists: name a new folder (nothing is overwritten)")
    with written_whole(folder) as part:
        shutil.copytree(known[name], part)
    return folder_digest(folder)


def pipeline_class(folder: Path) -> str | None:
    """The diffusers class of a pipeline folder, if it is one of a known family.

    None, too, of adapters as a base, which lie in no such folder.
    """
    if not (folder / INDEX_FILE).is_file():
        return None
    kind = check_settings(folder / INDEX_FILE).get("_class_name")
    return kind if is_pipeline(kind) else None


def is_pipeline(kind: object) -> bool:
    """Whether this is the name of a diffusers class of a known family."""
    return isinstance(kind, str) and kind in FAMILIES


def reads_prompts(kind: str | None) -> bool:
    """Whether a diffusers class is of a family that is told in words what to draw."""
    family = FAMILIES.get(kind or "")
    return family is not None and family.prompted and not issubclass(family, ClassBase)


def told_classes(folder: Path) -> dict[str, int]:
    """First name of a class -> its row, as the pipeline in `folder` names them; most name none."""
    names = check_settings(folder / INDEX_FILE).get(NAMES)
    if not isinstance(names, dict):
        return {}
    return {str(name).split(",")[0]: int(row) for row, name in names.items() if name}


def parts_without(folder: Path) -> list[str]:
    """Parts that the pipeline in `folder` was saved without, and opens without only if told so."""
    family = FAMILIES.get(pipeline_class(folder) or "")
    index = check_settings(folder / INDEX_FILE)
    parts = () if family is None else family.dispensable
    return [name for name in parts if index.get(name) in (None, [None, None])]


def component_folders() -> list[str]:
    """Names of all folders that pipelines of the known families are made of."""
    return sorted({name for family in FAMILIES.values() for name in family.components})


def _checked(name: str, folder: Path) -> tuple[type[Base], BaseInfo]:
    """The family of a pipeline folder and what the base is."""
    index_file = folder / INDEX_FILE
    if not index_file.is_file():
        raise ModelError(f"{folder} is not a pipeline folder: it has no {INDEX_FILE}")
    index = check_settings(index_file)
    kind = index.get("_class_name")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None or is_refiner(index):
        raise ModelError(what_it_is(folder, index, FAMILIES))
    check_folder(folder, index, family)
    return family, family.read_info(name, folder)


def _added(folder: Path) -> list[Path]:
    """Files of adapters or tokens where there is no pipeline."""
    if (folder / INDEX_FILE).exists():
        return []
    return [
        path
        for path in (folder / LORA_FILE, folder / LODA_FILE, *embeds_files(folder))
        if path.is_file()
    ]


def _origin(folder: Path) -> str:
    """The base that an adapter's certificate names, if the digest agrees.

    Bundled, or in a folder of that name beside the adapter's.
    """
    if (folder / LODA_FILE).exists():
        raise ModelError(
            f"{folder} holds branches that do not merge into weights, and no method goes on from"
            " them: take its base"
        )
    for name in CERTIFICATES:
        try:
            facts = json.loads((folder / name).read_text("utf-8"))
            said = facts.get("certificate", facts)["conditions"]
            base, digest = said["base"], said["base_digest"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{name} in {folder} does not read: fetch the release again"
            ) from error
        if base in bundled_bases() and folder_digest(bundled_bases()[base]) == digest:
            return base
        return _beside(folder, str(base), digest)
    raise ModelError(
        f"{folder} holds an adapter alone, without the certificate that names its base: fetch the"
        " whole release"
    )


def _beside(folder: Path, name: str, digest: str) -> str:
    """The folder `name` beside an adapter's; ModelError if it is not the base of this digest."""
    plain = Path(name).name == name and name not in ("", "..")
    place = folder.resolve().with_name(name) if plain else None
    try:
        if (
            place
            and place != folder.resolve()
            and place.is_dir()
            and base_info(place).digest == digest
        ):
            return str(place)
    except RecursionError:
        pass  # certificates that name each other
    raise ModelError(
        f"{folder} holds an adapter alone, and the base it was made for ({name!r}, digest"
        f" {str(digest)[:12]}...) does not come with sfumato: put that base's folder beside"
        " this one, under that name"
    )
