"""Whether a base suits a kind of picture, tried on public pictures that the user names.

Three figures, of the base as it came, on at most `IMAGES` pictures at a public seed. No private
picture is looked at. Measured: docs/results.md, "The fit of the base".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..bases import Base, load_base, text_base
from ..bases.conditioning import rows
from ..compute.device import on_host, to_device
from ..methods import Prompts
from ..options import Sampling, parse
from ..records import RecordSet
from ..synthesis.dataset import class_of_each
from ..synthesis.sampler import pictures

GOOD, POOR, NONE = "good", "poor", "none"
# The autoencoder's squared error over the pictures' variance, and the denoiser's loss over its loss
# on its own pictures: up to the first a base reaches the pictures, from the second on it does not.
ERROR, LOSS = (0.1, 0.5), (1.5, 2.0)
# Rise of the loss with the wrong class words; below it the words say nothing to the base.
WORDS = 0.05
# By how much the noise counts more for a base that has to learn the pictures, too.
HARDER = {GOOD: 1, POOR: 3, NONE: 10}
IMAGES, DRAWS, SAMPLER_STEPS, PART, SEED = 128, 4, 10, 64, 0
# Of a base with so many parameters fewer pictures: one pass of it takes seconds on a processor.
LARGE, FEW_IMAGES = 100_000_000, 16


@dataclass(frozen=True)
class Fit:
    """How far a base reaches a kind of picture.

    Attributes:
        word: `GOOD`, `POOR` or `NONE`.
        why: The figures behind it, in words.
        error: Squared error of the autoencoder over the variance of the pixels.
        loss: Denoising loss on the stand-in over that on the base's own pictures.
        words: Rise of the loss with the prompt of another class, as a share; None where the
            stand-in's classes are not the plan's, or words are new tokens.
        images: Pictures of the stand-in that were tried.
    """

    word: str
    why: str
    error: float
    loss: float
    words: float | None
    images: int

    @property
    def sentence(self) -> str:
        """Word and reason, on one line."""
        return f"fit of the base: {self.word}, because {self.why}"

    def to_json(self) -> dict[str, Any]:
        """As a run keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Fit | None:
        """What `to_json` gave."""
        return None if body is None else cls(**body)


def fit_of(
    name: str,
    classes: Sequence[str],
    prompts: Prompts,
    stand_in: RecordSet,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Fit:
    """Tries a base on public pictures.

    Args:
        name: Of the base.
        classes: The plan's.
        prompts: One for each class; new tokens are at their public start.
        stand_in: Public pictures; those of a class of the plan are shown to the base with its
            prompt, others with none.
        on_stage: Called with a line for every part that begins.

    Returns:
        The verdict, the same for the same arguments.
    """
    base = load_base(name)
    if prompts.tokens:
        text_base(base).add_tokens(list(prompts.tokens), list(prompts.tokens.values()))
    most = FEW_IMAGES if base.info.parameters >= LARGE else IMAGES
    usable = np.flatnonzero(stand_in.usable)
    use = np.sort(np.random.default_rng(SEED).permutation(usable)[:most])
    own = {name: i for i, name in enumerate(classes)}
    otherwise = 0 if len(classes) == 1 else -1
    label = np.array([own.get(stand_in.classes[i], otherwise) for i in stand_in.labels[use]])
    images = stand_in.images(use, base.resolution)
    on_stage(f"trying the base on {len(use)} pictures of the stand-in")
    # a new token without public words to start from can say nothing before it is trained
    taught = None not in prompts.tokens.values()
    error, loss, other = _tried(base, prompts.prompts, images, label, words=taught)
    on_stage("trying the base on pictures of its own")
    labels = class_of_each(len(use), [1.0] * len(classes))
    sampling = Sampling(steps=SAMPLER_STEPS, seed=SEED)
    parts = pictures(base, prompts.prompts, labels, np.arange(len(use)), sampling)
    drawn = np.concatenate([part for _, part in parts])
    _, of_own, _ = _tried(base, prompts.prompts, drawn, labels, words=False)
    words = None if other is None else other / loss - 1
    return judged(error, loss / of_own, words, len(use))


def judged(error: float, loss: float, words: float | None, images: int) -> Fit:
    """The verdict on three figures, as `Fit` has them."""
    reaches = error <= ERROR[0] and loss <= LOSS[0]
    lost = error >= ERROR[1] or loss >= LOSS[1]
    silent = words is not None and words < WORDS
    word = NONE if lost else GOOD if reaches and not silent else POOR
    parts = [
        f"its autoencoder errs by {100 * error:.0f} % of the pictures' variance",
        f"its denoiser errs {parse.rounded(loss)} times as much on them as on its own",
    ]
    if words is not None:
        said = f"{100 * words:.0f} % more with the words of another class"
        parts.append(f"{said}: the words say nothing to it" if silent else said)
    return Fit(word, ", ".join(parts), error, loss, words, images)


@torch.no_grad()
def _tried(
    base: Base,
    prompts: Sequence[str],
    images: np.ndarray,
    label: np.ndarray,
    *,
    words: bool = True,
) -> tuple[float, float, float | None]:
    """Error of the autoencoder, loss with each picture's own prompt, and with another class's.

    The last is over pictures that have a class, and None without two classes among them. The loss
    is then over the same pictures.
    """
    table = base.condition([*prompts, ""])
    known = label >= 0
    words = words and len(set(label[known].tolist())) > 1
    g = torch.Generator().manual_seed(SEED)
    squares, right, wrong = 0.0, [], []
    few = min(PART, base.together)
    for start in range(0, len(images), few):
        part, own = images[start : start + few], torch.from_numpy(label[start : start + few])
        mean, deviation = base.encode(part)
        squares += float(((base.decode(mean).astype(np.float64) - part) ** 2).sum())
        another = torch.where(own >= 0, (own + 1) % max(1, len(prompts)), own)
        for draw in range(DRAWS):
            # one time from each part of the schedule
            at = (draw + torch.rand(len(part), generator=g)) / DRAWS
            time = (base.times * at).long().clamp(max=base.times - 1)
            latent = mean + deviation * torch.randn(mean.shape, generator=g)
            noise = torch.randn(mean.shape, generator=g)
            latent, noise, time = (to_device(t, base.device) for t in (latent, noise, time))
            noisy, target = base.corrupt(latent, noise, time)
            for found, which in ((right, own), (wrong, another))[: 1 + words]:
                told = rows(table, to_device(which, base.device))
                said = base.predict(noisy, time, told).float()
                found.append(on_host((said - target).pow(2).mean((1, 2, 3)).double()))
    error = squares / images.size / max(float(images.astype(np.float64).var()), 1.0)
    if not words:
        return error, float(torch.cat(right).mean()), None
    kept = [known[i : i + few] for i in range(0, len(images), few)]
    shown = torch.cat([torch.from_numpy(part).repeat(DRAWS) for part in kept])
    return error, float(torch.cat(right)[shown].mean()), float(torch.cat(wrong)[shown].mean())
