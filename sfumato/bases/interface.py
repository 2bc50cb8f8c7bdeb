"""A public model as the rest of the package sees it: `BaseInfo`, `Base` and `TextBase`.

`TextBase` is for bases that take prompts. A model family is a subclass of `Base` in a folder of its
own and a line of `open.FAMILIES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from ..compute.device import device
from ..compute.precision import Formats, mixed_precision
from ..errors import ModelError
from .conditioning import Conditioning

TRIAL = 32  # sides of latents that are tried when a base is opened
Condition = Literal["none", "class", "text"]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
PROMPTS = 64  # that are embedded together: more take memory and no less time
Denoise = Callable[[torch.Tensor, torch.Tensor, Conditioning, dict[str, Any]], torch.Tensor]


@dataclass(frozen=True)
class BaseInfo:
    """A base's properties, read from its folder's settings and the headers of its weight files.

    Attributes:
        name: As the user gave it: a bundled name or a path.
        family: The model family, such as "stable-diffusion".
        folder: The folder of the files.
        resolution: Side of an image, in pixels.
        latent_shape: (channels, height, width) of the denoiser's input for one image.
        condition: What the denoiser is conditioned on: nothing, a class, or a text.
        prediction: What it predicts: the noise, the velocity (Salimans and Ho, arXiv 2202.00512),
            the picture, or the direction of a flow (Lipman et al., 2210.02747).
        licence: As the folder's model card states it; None if it does not.
        parameters: Numbers in all weights, frozen ones included.
        size: Bytes of all files.
        digest_of: Computes `digest`.
        unread: Names of files with weights in other formats, which nothing opens.
    """

    name: str
    family: str
    folder: Path
    resolution: int
    latent_shape: tuple[int, int, int]
    condition: Condition
    prediction: Prediction
    licence: str | None
    parameters: int
    size: int
    digest_of: Callable[[], str] = field(repr=False, compare=False)
    unread: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files, computed when it is first asked for."""
        return self.digest_of()


class Base(ABC):
    """A public model that methods adapt; one subclass per model family.

    Latents are float32 [R, C, h, w] with the shape `info.latent_shape`; a diffusion time is an
    integer from 0 to `times - 1`, and a larger one means more noise. No function of a base couples
    two rows: what it computes for an image depends on that image alone.
    """

    family: ClassVar[str]
    # Component folders that a pipeline must have -> the classes it may name; None: any scheduler.
    components: ClassVar[Mapping[str, Collection[str] | None]]
    # Component folders that may lie beside them and are not opened.
    optional: ClassVar[Collection[str]] = ()
    # Components that a folder may do without: its index names no class for them.
    dispensable: ClassVar[Collection[str]] = ()
    # Whether it is told in words what to draw.
    prompted: ClassVar[bool] = False
    # Name of the denoiser in checkpoints, ledger notes and the addresses of noise. Never changed:
    # a run folder goes on only with the names that it started with.
    prefix: ClassVar[str]
    # Whether the family's pipelines load adapters (`as_pipeline`, `write_lora`).
    adapters: ClassVar[bool] = False
    # The scheduler that draws unless another is named; the base's own where it does not fit.
    default_sampler: ClassVar[str] = "DPMSolverMultistepScheduler"
    # Whether the longest text of a pass sets the shape in which all its rows are computed. Rounding
    # would then tell of who else is in it, so that units are trained one at a time.
    ragged: ClassVar[bool] = False
    # Whether the denoiser takes the guidance scale itself, so that no empty prompt is drawn beside.
    embeds_guidance: bool = False

    # Whether the denoiser takes latents of any height and width, so that `buckets` can be declared.
    any_size: ClassVar[bool] = False

    info: BaseInfo
    # Public sizes (width, height) in place of the square; set by `use_buckets`.
    buckets: tuple[tuple[int, int], ...] = ()
    # Where the denoiser will be, of a base whose denoiser waits on the host to be shared.
    goes_to: torch.device | None = None
    # Of its products, stage by stage; a run sets what it has chosen (`methods.formats`).
    formats: Formats = Formats()

    @classmethod
    @abstractmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Describe the base in `folder`, whose files have been checked, without reading weights.

        Raises:
            ModelError: For settings that this package cannot adapt.
        """

    @classmethod
    @abstractmethod
    def load(cls, info: BaseInfo) -> Base:
        """Open the base on the CPU, in single precision, frozen.

        Raises:
            ModelError: For weights that are missing, do not fit, or are not finite.
        """

    @property
    def name(self) -> str:
        """The name by which the base is opened and which certificates state."""
        return self.info.name

    @property
    def digest(self) -> str:
        """SHA-256 over the base's files."""
        return self.info.digest

    @property
    def resolution(self) -> int:
        """Height and width of its images, in pixels."""
        return self.info.resolution

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) in pixels of the pictures that it sees and draws: its square or more."""
        return self.buckets or ((self.info.resolution, self.info.resolution),)

    @property
    def largest(self) -> tuple[int, int]:
        """That of `sizes` with the most pixels: what time and memory are reckoned for."""
        return max(self.sizes, key=lambda size: size[0] * size[1])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of its latents; of several sizes of the first."""
        return self.latent_shapes[0]

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, h, w) of its latents for each of `sizes`."""
        channels, height, width = self.info.latent_shape
        side = self.info.resolution
        return tuple((channels, height * h // side, width * w // side) for w, h in self.sizes)

    def use_buckets(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Sees and draws pictures of these sizes instead of its square.

        Args:
            sizes: (width, height) in pixels, public; none for the square.

        Raises:
            ModelError: A base that takes its square alone, or a size that it does not take.
        """
        if sizes and not self.any_size:
            raise ModelError(
                f"--buckets: a {self.family} base takes its own size alone: leave it out"
            )
        unit = self.info.resolution // self.info.latent_shape[1] * self.size_unit
        for width, height in sizes:
            if width % unit or height % unit:
                raise ModelError(
                    f"--buckets {width}x{height}: this base takes multiples of {unit} pixels"
                )
        self.buckets = tuple(sizes)

    @contextmanager
    def seeing(self, size: tuple[int, int]) -> Generator[None]:
        """Inside the block the base has this one of its `sizes`: for checks and dummy rows."""
        before = self.buckets
        self.buckets = before and (size,)
        try:
            yield
        finally:
            self.buckets = before

    @property
    def size_unit(self) -> int:
        """Numbers of a latent's side that its height and width are multiples of."""
        return 1

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """What predicts noise or velocity: the model that methods train."""

    @property
    def device(self) -> torch.device:
        """Where the denoiser is, and with it all that computes."""
        first = next(self.denoiser.parameters(), None)
        return device() if first is None else first.device

    @property
    def told_on(self) -> torch.device:
        """Where conditions go: to the denoiser, or where it will be once ranks share it."""
        return self.goes_to or self.device

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Put every part that computes onto a device; latents and images stay in host memory.

        Here: the denoiser. A family with other parts moves them too.

        Args:
            where: The device.
            denoiser: The denoiser, too; False leaves it where it is.
        """
        if denoiser:
            self.denoiser.to(where)

    def checkpoint_gradients(self) -> None:
        """Computes the denoiser's activations again in the backward pass instead of keeping them.

        Raises:
            ModelError: For a denoiser that cannot.
        """
        denoiser: Any = self.denoiser
        if not getattr(denoiser, "_supports_gradient_checkpointing", False):
            raise ModelError(
                f"--gradient-checkpointing: a {type(denoiser).__name__} has none: leave it out, and"
                " take a smaller --micro-batch-size"
            )
        denoiser.enable_gradient_checkpointing()

    def park(self, *, prompts: bool) -> None:  # noqa: B027
        """Takes what training does not use off the device, into host memory.

        Here: nothing, as a denoiser alone is all in use.

        Args:
            prompts: Whether prompts are read no more, because their conditions are known.
        """

    def learnable(self) -> dict[str, nn.Parameter]:
        """The denoiser's tensors by name, but for those that no loss depends on."""
        return dict(self.denoiser.named_parameters())

    def rows_of(self, prompts: Sequence[str]) -> list[int]:
        """Rows of a class table that learn with the whole denoiser, one per prompt; else none."""
        return []

    @property
    @abstractmethod
    def times(self) -> int:
        """Number of diffusion times."""

    @property
    @abstractmethod
    def own_sampler(self) -> str:
        """Class name of the scheduler that the base came with."""

    @property
    def trial_shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of the latents of `try_forward`; None for no trial.

        Here: those of small bases. A family whose larger ones take smaller latents answers itself.
        """
        return self.latent_shape if max(self.latent_shape[1:]) <= TRIAL else None

    @torch.no_grad()
    def try_forward(self) -> None:
        """Tells the denoiser one row of zeros, as its family does.

        A folder may say a class that it is not, and settings may ask for what no caller gives.

        Raises:
            ModelError: The denoiser cannot be called so, or answers in another shape.
        """
        if self.trial_shape is None:
            return
        latents = torch.zeros(1, *self.trial_shape, device=self.device)
        time = torch.zeros(1, dtype=torch.int64, device=self.device)
        name = type(self.denoiser).__name__
        try:
            found = self.predict(latents, time, self.condition([""])).shape
        except (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError,
                RuntimeError, TypeError, ValueError) as error:  # fmt: skip
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise ModelError(
                f"the {name} of {self.info.folder} does not work as in a {self.family} base:"
                f" {reason}"
            ) from error
        if found != latents.shape:
            raise ModelError(
                f"the {name} of {self.info.folder} gives {found[1]} channels for"
                f" {latents.shape[1]}: it is not that of a {self.family} base"
            )

    @abstractmethod
    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images to latents: a public function of one image at a time.

        Args:
            images: uint8 [B, R, R, 3].

        Returns:
            Mean and standard deviation of the latent's posterior, float32 [B, C, h, w] each in host
            memory, so that it can be sampled anew in every draw. The deviation is zero where
            latents are pixels.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, h, w] to images, uint8 [B, R, R, 3]."""

    @abstractmethod
    def condition(self, prompts: Sequence[str]) -> Conditioning:
        """The denoiser's condition for each prompt, with one row per prompt, on its device.

        One tensor, or several by name (`conditioning`), all of a shape that no prompt changes.

        The empty prompt is the unconditional one. For a class-conditional base a prompt is the name
        of one of its classes; an unconditional base has no condition.

        Args:
            prompts: Public texts.

        Returns:
            Each tensor [len(prompts), ...].
        """

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuses prompts that `condition` would refuse.

        Args:
            prompts: Public texts, perhaps many.

        Raises:
            SfumatoError: One of them is too long, or none of a base's classes.
        """
        with torch.no_grad():
            for start in range(0, len(prompts), PROMPTS):
                self.condition(prompts[start : start + PROMPTS])

    # Captions of images (`captions.caption_base` refuses a family that leaves these two out).

    def caption_tokens(self, captions: Sequence[str]) -> np.ndarray:
        """Token ids of captions, int32 [n, L]: at least 0, L fixed, cut and padded by a fixed rule.

        It is called after the charge, so it raises for no text (`captions.plain`, `cut_tokens`);
        a family with several encoders writes their ids side by side.

        Args:
            captions: Any strings.
        """
        raise NotImplementedError

    def condition_of_tokens(self, ids: torch.Tensor) -> Conditioning:
        """What `condition` says of the same texts, one row for each, without a gradient.

        Args:
            ids: int64 [rows, L] of `caption_tokens`, on any device.
        """
        raise NotImplementedError

    @abstractmethod
    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents, and what the denoiser is to predict of them.

        Args:
            latent: [R, C, h, w].
            noise: Standard normal, [R, C, h, w].
            time: int64 [R].

        Returns:
            Two tensors [R, C, h, w].
        """

    @abstractmethod
    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The denoiser's prediction [R, C, h, w] for `noisy` at `time`, given `condition`.

        Args:
            noisy: Noisy latents [R, C, h, w].
            time: Diffusion times [R].
            condition: One row for each.

        Returns:
            What `corrupt` calls the target, as the model predicts it.
        """

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """The denoiser as a sampler calls it, from any thread.

        Args:
            guidance_scale: For a family that `embeds_guidance`.

        Returns:
            denoise(latents [B, C, h, w], time, condition, memory) -> prediction float32
            [B, C, h, w], at one time of the scheduler's. `memory` is a dict of the caller's, empty
            at first and one for each condition: a family may keep in it what does not change from
            step to step.
        """

        @torch.no_grad()
        def denoise(
            latents: torch.Tensor,
            time: torch.Tensor,
            condition: Conditioning,
            memory: dict[Any, Any],
        ) -> torch.Tensor:
            with mixed_precision(self.formats.sample, latents):
                return self.predict(latents, time, condition).float()

        return denoise

    def guide(self, empty: torch.Tensor, told: torch.Tensor, scale: float) -> torch.Tensor:
        """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) of two predictions."""
        return empty + scale * (told - empty)

    @abstractmethod
    def sampler(self, name: str, steps: int) -> Any:
        """A diffusers scheduler by class name, with the base's noise schedule and `steps` steps.

        Raises:
            SfumatoError: For a scheduler that does not fit the base.
        """

    @abstractmethod
    def blocks(self) -> list[str]:
        """Full names of the denoiser's attention blocks, in the family's order."""

    @property
    @abstractmethod
    def targets(self) -> Mapping[str, Sequence[str]]:
        """Name of a set of layers -> the endings of their names.

        "attention" and "residual" are the defaults of LoRA and LoDA.
        """

    @abstractmethod
    def layer_of(self, matrix: str) -> str:
        """The layer of a matrix: one attention, one feed-forward, one residual block."""

    @abstractmethod
    def block_of(self, matrix: str) -> str:
        """The attention or residual block that a matrix belongs to."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the whole base in half precision, as a folder that `load_base` opens."""

    def as_pipeline(self) -> Any:
        """The base as a diffusers pipeline that shares its modules.

        Only for families with `adapters`.
        """
        raise NotImplementedError

    def write_lora(
        self, folder: Path, layers: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Writes LoRA `layers` (diffusers' names -> tensors) as the family's pipelines load them.

        Only for families with `adapters`.
        """
        raise NotImplementedError


class TextBase(Base):
    """A base that reads prompts, and can learn new tokens."""

    prompted: ClassVar[bool] = True

    @property
    @abstractmethod
    def word_vectors(self) -> torch.Tensor:
        """One row for every token of the vocabulary, [V, D], without a gradient, in host memory.

        What is made of words, such as where a token starts, is then the same on every device.
        """

    @property
    def token_parts(self) -> Mapping[str, int]:
        """Name of a text encoder in token files -> its width, in the order of `word_vectors`.

        Empty for one encoder, whose file holds the token's own name.
        """
        return {}

    @abstractmethod
    def learn_token(self, word: str, vectors: torch.Tensor) -> None:
        """Add a token with vectors [V, D] as the family's pipeline reads a token file.

        Raises:
            ValueError: It does not fit.
        """

    @abstractmethod
    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Rows of `word_vectors` for words that are tokens of their own."""

    @abstractmethod
    def tokens_of(self, text: str) -> list[int]:
        """Rows of `word_vectors` for the tokens of a text."""

    @abstractmethod
    def has_token(self, word: str) -> bool:
        """Whether the vocabulary holds `word` as a token."""

    @abstractmethod
    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """Words that are no single token of the vocabulary, so that the base does not know them."""

    @abstractmethod
    def add_tokens(self, words: Sequence[str], initializers: Sequence[str | None]) -> list[int]:
        """Add `words` to the vocabulary; each starts from its initializer's embedding.

        Args:
            words: New tokens.
            initializers: For each a text whose tokens' embeddings are averaged (a public
                look-alike); None starts from the mean over the vocabulary.

        Returns:
            The new token ids.

        Raises:
            SfumatoError: If a token exists already.
        """

    @abstractmethod
    def write_embeddings(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """Put `rows` [len(ids), D] into the table of `word_vectors`."""

    @abstractmethod
    def token_encoder(self, prompts: Sequence[str], ids: Sequence[int | None]) -> nn.Module:
        """A module from labels int64 [B] to conditions [B, ...], with one vector per token.

        Its `tokens`, an Embedding [tokens, D], holds the vectors in the order of the classes; each
        replaces the token `ids[class]` in `prompts[class]`.

        Args:
            prompts: One per class.
            ids: The placeholder's token id for each class; None where the prompt is read as it is.

        Returns:
            The module.
        """

    @abstractmethod
    def vector_encoder(
        self, prompts: Sequence[str], placeholders: Sequence[str], vectors: int
    ) -> Callable[[torch.Tensor, torch.Tensor], Conditioning]:
        """A function from vectors [B, V, D] and labels int64 [B] to conditions [B, ...].

        Every row has its own vectors at its prompt's placeholder.
        """

    @abstractmethod
    def freeze_text(self) -> None:
        """Freezes everything that reads prompts."""


def text_base(base: Base) -> TextBase:
    """The base, if it reads prompts and can be taught tokens.

    Args:
        base: Any base.

    Returns:
        `base` itself.

    Raises:
        ModelError: It cannot.
    """
    if not isinstance(base, TextBase):
        why = (
            "has no tokens that can be taught: use a method without them, and no class tokens"
            if base.prompted
            else "reads no prompts, so it cannot be taught tokens: take one that does"
        )
        raise ModelError(f"a {base.family} base {why}")
    return base
