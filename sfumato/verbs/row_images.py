"""The images of each row of an evaluation, and the models that draw them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bases import Base, base_info
from ..errors import SfumatoError
from ..methods import METHODS
from ..options import Sampling
from ..planning.rates import rate_without_noise
from ..records import RecordSet
from ..runs.attempts import frozen_contents, note_weights
from ..runs.folder import Run
from ..runs.looks import record_look
from ..runs.prepared import opened, original_base, rebuild
from ..synthesis.dataset import class_of_each
from ..synthesis.sampler import pictures
from ..training import State, open_latents, train_without_privacy
from .drawing import draw_as_released, drawn_alike
from .facts import public_base
from .real_images import images_of, most_at

# rows that are functions of private images, whatever they are tested on
EXACT = ("one_image", "non_private", "reconstructed", "real")
ROWS = (
    "synthetic",
    "public_only",
    "noise_only",
    "one_image",
    "non_private",
    "reconstructed",
    "real",
)
# rows that nothing but a method's own controls can give
CONTROLS_ALONE = frozenset({"noise_only", "one_image"})
OF_REAL = frozenset({"reconstructed", "real"})  # of the run's own images
ENCODED = 64  # images that pass the autoencoder together


@dataclass(frozen=True)
class Drawing:
    """What all rows of one evaluation have in common.

    public_images: how many images a control row draws; None: as many as the release has.
    """

    run: Run
    release: Path
    others: dict[str, Run]
    train: RecordSet | None
    public_images: int | None

    @property
    def resolution(self) -> int:
        """Of the base, in pixels."""
        return base_info(self.run.plan.base).resolution

    @property
    def drawn(self) -> tuple[int, Sampling]:
        """How many images a control row draws, and how."""
        settings = sampling_of(self.release)
        number = settings.pop("n", 10_000)
        return self.public_images or number, Sampling(**settings)

    def images_of(self, row: str) -> tuple[np.ndarray, np.ndarray]:
        """The images of a row, uint8 [n, R, R, 3], and their labels."""
        run, classes = self.run, self.run.plan.classes
        if row in self.others:
            other, (number, sampling) = self.others[row], self.drawn
            return draw_as_released(other, number, drawn_alike(other, sampling))
        if row == "synthetic":
            return images_of(self.release, classes, self.resolution, "train")
        if row in OF_REAL:
            assert self.train is not None  # `evaluate` has asked for it
            most = most_at(self.resolution)
            images, labels = images_of(self.train, classes, self.resolution, "train", most)
            if row == "reconstructed":
                images = reconstructed(original_base(run.plan, run.options), images)
            return images, labels
        base, (number, sampling) = base_of(run, row), self.drawn
        if row == "non_private" and sampling.class_moments:
            # what it lacks shall be clipping and noise, not the move
            return draw_as_released(run, number, sampling, base)
        return draw(base, run.plan.prompts, number, sampling)


def base_of(run: Run, row: str) -> Base:
    """The model that draws a row."""
    if row in METHODS[run.plan.method].control_rows:
        return kept_control(run, row)
    return public_base(run) if row == "public_only" else non_private(run)


def draw(
    base: Base, prompts: Sequence[str], n: int, sampling: Sampling
) -> tuple[np.ndarray, np.ndarray]:
    """`n` images in equal class shares, in memory: (uint8 [n, R, R, 3], labels int64 [n])."""
    labels = class_of_each(n, [1.0] * len(prompts))
    images = [part for _, part in pictures(base, prompts, labels, np.arange(n), sampling)]
    return np.concatenate(images), labels


def reconstructed(base: Base, images: np.ndarray) -> np.ndarray:
    """Images uint8 [n, R, R, 3] as the base's autoencoder gives them back."""
    few = min(ENCODED, base.together)
    parts = [
        base.decode(base.encode(images[start : start + few])[0])
        for start in range(0, len(images), few)
    ]
    return np.concatenate(parts)


def control_base(run: Run, row: str) -> Base:
    """Returns the base with a token of an inversion's controls; an exact one is a look.

    SfumatoError if the run did not keep the token.
    """
    if row in EXACT:
        record_look(run, ("an exact token",), rows=(row,))
    return kept_control(run, row)


def kept_control(run: Run, row: str) -> Base:
    """The same, where the look was recorded."""
    require_kept(run, row)
    folder = run.folder / "controls" / METHODS[run.plan.method].control_rows[row]
    return opened(run, folder)


def require_kept(run: Run, row: str) -> None:
    """What a row is drawn from is in the run folder; asked before a look is recorded.

    Args:
        run: The run.
        row: Any of `ROWS`.

    Raises:
        SfumatoError: It is not.
    """
    kept = METHODS[run.plan.method].control_rows
    if row in kept and not (run.folder / "controls" / kept[row]).exists():
        raise SfumatoError(
            f"the row {row} needs a token that is not kept by default: adapt with --controls"
        )
    if row == "non_private" and row not in kept and not (run.folder / "cache" / "done").exists():
        raise SfumatoError(
            "the row non_private needs the run's cache/, and it was removed: leave the row out"
        )


def non_private_base(run: Run, seed: int = 0, steps: int | None = None) -> Base:
    """Returns the same recipe on the run's cached latents without clipping and noise.

    PRIVATE, and a look. steps: other than the run's, to see what more of them would bring.
    """
    record_look(run, ("weights without privacy",))
    return non_private(run, seed, steps)


def non_private(run: Run, seed: int = 0, steps: int | None = None) -> Base:
    """The same, where the look was recorded."""
    prepared = rebuild(run.plan, run.options, run.selected, run.start)
    plan, micro_batch = run.plan, prepared.performance.micro_batch
    assert micro_batch is not None  # a run has decided
    # a rate that noise lowered would blame the recipe for what privacy costs
    recipe = replace(prepared.recipe, learning_rate=rate_without_noise(plan))
    state = State(prepared.adaptation.trainable, prepared.adaptation.learning_rate_factor, recipe)
    train_without_privacy(
        prepared.adaptation,
        open_latents(run.folder / "cache"),
        recipe=recipe,
        state=state,
        steps=steps or plan.steps,
        batch=round(plan.expected_batch_size),
        draws=plan.noise_draws,
        micro_batch=micro_batch,
        seed=seed,
    )
    state.use_average()
    folder = run.folder / "evaluation" / "non-private-model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    public = frozen_contents(prepared.adaptation)
    prepared.adaptation.save(folder)
    run.record(note_weights(run, "control", folder, public))
    return opened(run, folder)


def sampling_of(release: Path) -> dict[str, Any]:
    """How the images of a release were drawn.

    Args:
        release: A folder of `synthesize`.

    Returns:
        Fields of `Sampling`, and `n`.

    Raises:
        SfumatoError: A folder without a certificate.
    """
    for name in ("privacy.json", "synthesis.json"):
        path = release / name
        if path.exists():
            body = json.loads(path.read_text("utf-8"))
            made = body.get("certificate", body).get("synthesis", {})
            return {
                "scheduler": made["scheduler"],
                "steps": made["steps"],
                "guidance_scale": made["guidance"],
                "seed": made["public_seed"],
                "class_moments": made.get("class_moments", {}).get("drawn_per_class", 0),
                "n": made["n"],
            }
    raise SfumatoError(f"{release} has no certificate: make it with `sfumato synthesize`")
