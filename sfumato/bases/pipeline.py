"""A public base: a local StableDiffusionPipeline folder, checked before anything in it is
opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..errors import ModelError, SfumatoError
from .files import base_files, check_kinds, weight_files
from .weights import check_extent, check_settings, check_weights

BUNDLED = Path(__file__).parent.parent / "data" / "bases"
COMPONENTS = {
    "unet": {"UNet2DConditionModel"},
    "vae": {"AutoencoderKL"},
    "text_encoder": {"CLIPTextModel"},
    "tokenizer": {"CLIPTokenizer", "CLIPTokenizerFast"},
    "scheduler": None,  # any diffusers scheduler
}
TRAIN_TIMES = 1000  # Stable Diffusion's; the loop draws its diffusion times from 0 to 999
OPTIONAL = {"safety_checker", "feature_extractor", "image_encoder"}
# Up to this side the plain attention product trains 1.5 times faster than the fused one on CPUs
# (measured at 8).
SMALL_LATENT = 16


@dataclass
class Base:
    """The public model that a method adapts.

    `digest` is the SHA-256 over the folder's files; `resolution` the picture side in pixels.
    """

    name: str
    folder: Path
    digest: str
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any  # the base's own; its noise schedule is the one that training uses

    @property
    def denoiser(self) -> nn.Module:
        """What predicts noise or velocity: the model that methods train."""
        return self.unet

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one latent."""
        return (
            self.unet.config.in_channels,
            self.unet.config.sample_size,
            self.unet.config.sample_size,
        )

    @property
    def resolution(self) -> int:
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def word_vectors(self) -> torch.Tensor:
        """One row for every token of the vocabulary, [V, D], without a gradient."""
        return self.text_encoder.get_input_embeddings().weight.detach()

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Rows of `word_vectors` for words that are tokens of their own."""
        return self.tokenizer.convert_tokens_to_ids(list(words))

    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(noisy latent, what the denoiser is to predict), both [R, C, h, w], at diffusion times
        int64 [R].
        """
        alpha = self.scheduler.alphas_cumprod[time].view(-1, 1, 1, 1).to(latent.dtype)
        noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        return noisy, alpha.sqrt() * noise - (1 - alpha).sqrt() * latent if velocity else noise

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """The denoiser's prediction [R, C, h, w] for noisy latents at `time` [R] under prompt
        embeddings [R, L, D].
        """
        return self.unet(noisy, time, condition).sample


def around(denoiser: nn.Module, alphas: torch.Tensor) -> Base:
    """A base that is nothing but a denoiser of noise, with its own schedule [times]: for the
    audit's small models.
    """
    schedule = SimpleNamespace(
        alphas_cumprod=alphas, config=SimpleNamespace(prediction_type="epsilon")
    )
    return Base("made-up", Path("."), "", denoiser, None, None, None, schedule)


def bundled_bases() -> dict[str, Path]:
    """Name -> folder of the bases that come with sfumato."""
    return {p.parent.name: p.parent for p in sorted(BUNDLED.glob("*/model_index.json"))}


def load_pipeline(name_or_path: str | Path) -> Base:
    """Open a bundled base by name or any local StableDiffusionPipeline folder (SD 1.x and 2.x
    layouts).

    Weights are read as safetensors only and on the CPU, in single precision. Raises ModelError for
    a folder that is no such pipeline, holds pickled weights, asks for custom code, or has
    components that cannot be adapted.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = resolve_base(name_or_path)
    _check_folder(folder)
    import diffusers
    from diffusers import AutoencoderKL, UNet2DConditionModel

    index = json.loads((folder / "model_index.json").read_text())
    try:
        options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        unet, *found = UNet2DConditionModel.from_pretrained(
            folder / "unet", dtype=torch.float32, **options
        )
        vae, more = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32, **options)
        text_encoder, most = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, **options
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        scheduler_class = getattr(diffusers, index["scheduler"][1])
        scheduler = scheduler_class.from_pretrained(folder / "scheduler", local_files_only=True)
    except Exception as error:
        # Foreign loaders raise a dozen types; a user needs one line that says which folder and why.
        reason = (
            str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        )
        raise ModelError(f"the base {folder} does not load: {reason}") from error
    # A loader would fill these with random numbers and say so only in its log.
    missing = sorted(name for info in (*found, more, most) for name in info["missing_keys"])
    if missing:
        raise ModelError(
            f"the base {folder} is incomplete: it has no weights for {missing[0]} ({len(missing)}"
            " such)"
        )
    try:
        _check_models(folder, unet, vae, text_encoder, scheduler)
    except (TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"the settings of the base {folder} are not those of such models: fetch it again"
        ) from error
    for model in (unet, vae, text_encoder):
        model.requires_grad_(False).eval()
    if unet.config.sample_size <= SMALL_LATENT:
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())
    return Base(
        str(name_or_path),
        folder,
        folder_digest(folder),
        unet,
        vae,
        text_encoder,
        tokenizer,
        scheduler,
    )


def resolve_base(name_or_path: str | Path) -> Path:
    """The folder of a bundled base's name or of a path (of an exported pipeline, the folder
    inside); SfumatoError if there is neither.
    """
    bundled = bundled_bases()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    folder = Path(name_or_path)
    if not folder.is_dir():
        names = ", ".join(bundled) or "none"
        raise SfumatoError(
            f"no base at {folder}: give a StableDiffusionPipeline folder or a bundled name"
            f" ({names})"
        )
    inner = folder / "model"
    return (
        inner
        if (inner / "model_index.json").is_file() and not (folder / "model_index.json").exists()
        else folder
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, in name order."""
    digest = hashlib.sha256()
    for path in (p for p in base_files(folder) if p.name != "README.md"):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def make_scheduler(base: Base, name: str):
    """A diffusers scheduler by class name, configured from the base's own; SfumatoError for one
    that does not fit.
    """
    # Left out: one whose noise comes from a generator of its own, and one for another
    # parametrisation.
    unfit = {"DPMSolverSDEScheduler", "EDMEulerScheduler"}
    family = (type(base.scheduler), *base.scheduler.compatibles)
    fitting = {cls.__name__: cls for cls in family if cls.__name__ not in unfit}
    if name not in fitting:
        raise SfumatoError(f"--scheduler {name}: choose one of {', '.join(sorted(fitting))}")
    extra = {"timestep_spacing": "trailing"} if "timestep_spacing" in base.scheduler.config else {}
    try:
        return fitting[name].from_config(base.scheduler.config, **extra)
    except (ImportError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SfumatoError(f"--scheduler {name} does not work with this base: {reason}") from error


def _check_folder(folder: Path) -> None:
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise ModelError(f"{folder} is not a pipeline folder: it has no model_index.json")
    index = check_settings(index_file)
    kind = index.get("_class_name")
    if kind == "StableDiffusionXLPipeline" or "text_encoder_2" in index:
        raise ModelError(
            f"{folder} has the layout of Stable Diffusion XL, two text encoders: sfumato adapts"
            " bases with one (SD 1.x and 2.x)"
        )
    if kind != "StableDiffusionPipeline":
        raise ModelError(
            f"{folder} is a {str(kind)[:60]}: sfumato adapts StableDiffusionPipeline folders"
        )
    check_kinds(folder, set(COMPONENTS))
    for path in weight_files(folder):
        check_weights(path)
    for path in (p for p in base_files(folder) if p.name.endswith("config.json")):
        if path.parent.name in ("unet", "vae", "text_encoder", "scheduler"):
            check_extent(path)
        if {"auto_map", "custom_pipelines", "trust_remote_code"} & set(check_settings(path)):
            raise ModelError(
                f"{path.relative_to(folder)} of {folder} asks for code of its own: sfumato runs"
                " none of it"
            )
        if "transformers_weights" in check_settings(path):
            raise ModelError(
                f"{path.relative_to(folder)} of {folder} names another file for its weights: save"
                " the base again"
            )
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        library, cls = (value + [None, None])[:2]
        if cls is None or name in OPTIONAL:
            continue
        if not isinstance(cls, str) or not isinstance(library, str):
            raise ModelError(
                f"{folder} names no class for its component {name}: fetch the base again"
            )
        if name not in COMPONENTS or library not in ("diffusers", "transformers"):
            raise ModelError(
                f"{folder} has a component {name} ({library}.{cls}) that sfumato does not know"
            )
        allowed = COMPONENTS[name]
        if allowed is not None and cls not in allowed:
            raise ModelError(
                f"{name} of {folder} is a {cls}; sfumato takes {' or '.join(sorted(allowed))}"
            )
        if allowed is None and not (library == "diffusers" and cls.endswith("Scheduler")):
            raise ModelError(f"{name} of {folder} is a {library}.{cls}, not a diffusers scheduler")
    for name in COMPONENTS:
        if not (folder / name).is_dir() or name not in index:
            raise ModelError(
                f"{folder} has no {name}: a StableDiffusionPipeline folder holds"
                f" {', '.join(COMPONENTS)}"
            )


def _check_models(folder: Path, unet, vae, text_encoder, scheduler) -> None:
    if unet.config.in_channels != vae.config.latent_channels:
        raise ModelError(
            f"the denoiser of {folder} takes {unet.config.in_channels} channels and its autoencoder"
            f" gives {vae.config.latent_channels}: in-painting and video bases are not supported"
        )
    if type(unet.config.sample_size) is not int or unet.config.sample_size < 1:
        raise ModelError(f"{folder}: the denoiser's sample_size is no number: fetch the base again")
    if unet.config.cross_attention_dim != text_encoder.config.hidden_size:
        raise ModelError(
            f"{folder}: the text encoder's width does not fit the denoiser's cross-attention"
        )
    if len(getattr(scheduler, "alphas_cumprod", ())) != TRAIN_TIMES:
        raise ModelError(
            f"the scheduler of {folder} has no variance-preserving schedule of {TRAIN_TIMES} times"
        )
    if scheduler.config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        raise ModelError(
            f"{folder} predicts {scheduler.config.prediction_type}; sfumato takes epsilon or"
            " v_prediction"
        )
    for name, model in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise ModelError(f"{name} of {folder} holds weights that are not finite")
