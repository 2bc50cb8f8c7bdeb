"""What families of transformers share: parts under the names of a diffusers pipeline.

`PipelineBase` opens, moves, saves and joins them; `FlowPipeline` adds rectified flow. A family says
which parts there are, what conditions are, and how its denoiser is called.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ..compute.device import HOST
from ..compute.stored import halved
from ..errors import ModelError
from .captions import plain
from .checks import INDEX_FILE
from .conditioning import Conditioning
from .dropped import Parts
from .flow import FlowBase, training_sigmas
from .interface import Base, BaseInfo
from .latents import AutoencoderBase, latent_scale
from .loading import loading, read_models, read_scheduler, require_finite
from .saving import write_pipeline
from .text import embed
from .transformers import TransformerNames
from .weights import check_settings

TRANSFORMER = "transformer"
# Classes as older folders name them -> as the library calls them now.
RENAMED = {"Transformer2DModel": "PixArtTransformer2DModel"}


class PipelineBase(TransformerNames, AutoencoderBase, Base):
    """A base of the parts of a diffusers pipeline whose denoiser is a transformer.

    Attributes:
        pipeline: The pipeline's class in diffusers.
        encoders: Names of the parts that read prompts.
        heeds: What of its autoencoder's settings a family's latents heed (`latent_scale`).
    """

    prefix: ClassVar[str] = TRANSFORMER
    prompted: ClassVar[bool] = True
    pipeline: ClassVar[str]
    encoders: ClassVar[Sequence[str]] = ()
    heeds: ClassVar[Mapping[str, bool]] = {}

    def __init__(self, info: BaseInfo, parts: Parts):
        self.info, self.parts = info, parts
        self.scheduler = parts["scheduler"]
        self.set_up()

    def set_up(self) -> None:
        """What follows from the parts; ModelError for parts that do not fit together."""
        self.scale = latent_scale(self.parts["vae"], **self.heeds)

    @classmethod
    def load(cls, info: BaseInfo) -> PipelineBase:
        """Opens every part that the folder's index names."""
        folder = info.folder
        index = check_settings(folder / INDEX_FILE)
        with loading(folder):
            parts, models = _read(folder, index, cls)
        require_finite(folder, {name: parts[name] for name in models})
        try:
            return cls(info, parts)
        except (TypeError, AttributeError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"the settings of the base {folder} are not those of such models: fetch it again"
            ) from error

    @classmethod
    def class_for(cls, library: str, name: str) -> Any:
        """What opens a part that the index calls a class of this library."""
        return getattr(import_module(library), RENAMED.get(name, name))

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        return self.parts[TRANSFORMER]

    @property
    def trial_shape(self) -> tuple[int, int, int]:
        """At most 16 by 16: transformers take any whole number of patches."""
        channels, height, width = self.latent_shape
        return channels, min(height, 16), min(width, 16)

    @property
    def size_unit(self) -> int:
        """The side of a patch."""
        return self.parts[TRANSFORMER].config.patch_size

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts all models onto a device."""
        for name, part in self.parts.held().items():
            if isinstance(part, nn.Module) and (denoiser or name != TRANSFORMER):
                part.to(where)

    def park(self, *, prompts: bool) -> None:
        """Takes the autoencoder, and with `prompts` the text encoders, off the device."""
        for name in ("vae", *(self.encoders if prompts else ())):
            if isinstance(part := self.parts.held().get(name), nn.Module):
                part.to(HOST)

    def drop_encoders(self) -> None:
        """Lets go of the text encoders until a prompt is read again, or the base is saved."""
        for name in self.encoders:
            self.parts.drop(name)

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.parts["vae"]

    @abstractmethod
    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """The conditions of a few prompts, on the text encoders' device.

        Args:
            prompts: Texts.
            cut: Cut those that are longer than what is read, in place of refusing them.
        """

    def condition(self, prompts: Sequence[str]) -> Conditioning:
        """Conditions of prompts, read piece by piece, on the denoiser's device."""
        return embed(self.read, prompts, self.told_on)

    def condition_of_captions(self, captions: Sequence[str]) -> Conditioning:
        """The same of captions, cut as the pipeline cuts long prompts."""
        texts = [plain(caption) for caption in captions]
        return embed(partial(self.read, cut=True), texts, self.told_on)

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision."""
        halves = {
            name: halved(part) if isinstance(part, nn.Module) else part
            for name, part in self.parts.items()
        }
        write_pipeline(self._joined(halves), folder)

    def as_pipeline(self) -> Any:
        """The base as its diffusers pipeline, which shares its modules."""
        return self._joined(self.parts)

    def _joined(self, parts: Mapping[str, Any]) -> Any:
        import diffusers

        missing = dict.fromkeys((*self.components, *self.optional))
        return getattr(diffusers, self.pipeline)(**{**missing, **parts, **self.settings()})

    def settings(self) -> Mapping[str, Any]:
        """What the pipeline is given beside its parts."""
        return {}

    def write_lora(
        self, folder: Path, layers: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Writes LoRA layers of the transformer in diffusers' format."""
        import diffusers

        getattr(diffusers, self.pipeline).save_lora_weights(
            folder,
            transformer_lora_layers=layers,
            transformer_lora_adapter_metadata=metadata,
            safe_serialization=True,
        )


class FlowPipeline(PipelineBase, FlowBase):
    """A `PipelineBase` whose denoiser predicts the direction of a rectified flow."""

    adapters: ClassVar[bool] = True

    def set_up(self) -> None:
        """Also the shares of noise; ModelError for a scheduler of another kind."""
        super().set_up()
        if not type(self.scheduler).__name__.startswith("FlowMatch"):
            raise ModelError(
                f"the scheduler of {self.info.folder} is a {type(self.scheduler).__name__}:"
                f" {self.family} bases come with a FlowMatchEulerDiscreteScheduler"
            )
        self.sigmas = training_sigmas(self.scheduler)

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts all models and the shares of noise onto a device."""
        super().move(where, denoiser=denoiser)
        self.sigmas = self.sigmas.to(where)


def _read(
    folder: Path, index: Mapping[str, Any], family: type[PipelineBase]
) -> tuple[Parts, list[str]]:
    """All parts by name, and the names of the models among them."""
    # a part that the index leaves out, such as the third text encoder of some
    named = {name: index[name] for name in family.components if index.get(name, [None])[0]}
    classes = {name: family.class_for(library, cls) for name, (library, cls) in named.items()}
    tokenizers = {name for name in classes if name.startswith("tokenizer")}
    models = {n: cls for n, cls in classes.items() if n not in tokenizers and n != "scheduler"}
    found = {"scheduler": read_scheduler(folder), **read_models(folder, models)}
    droppable = {n: cls for n, cls in models.items() if n in family.encoders}
    parts = Parts(found, folder, droppable)
    for name in tokenizers:
        parts[name] = classes[name].from_pretrained(folder / name, local_files_only=True)
    return parts, list(models)


def patch_count(shape: tuple[int, int, int], side: int) -> int:
    """Patches of a latent (C, h, w)."""
    return (shape[1] // side) * (shape[2] // side)


def size_shift(scheduler: Any, patches: int, most: float = 1.15) -> float:
    """The shift `mu` of a picture of so many patches, by the scheduler's settings.

    On a line through its base and largest size, as the pipelines of Stable Diffusion 3 and FLUX.1
    compute it; `most` is their default for `max_shift`.
    """
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least = config.get("base_shift", 0.5)
    slope = (config.get("max_shift", most) - least) / (high - low)
    offset = least - slope * low
    return patches * slope + offset
