"""Pictures of a run while it trains, for its owner: what the public base draws, and what it draws.

They cost nothing. A step's weights are a function of its noised sums, and the accountant covers
every step, seen or not. But a step that was seen must not be made again without being paid for: so
pictures are drawn only from a checkpoint that is on the disk and in the ledger, a note of the step
is in the ledger before they are, and a replay that would make that step again is refused
(`execute.continue_run`). Prompts and seed are public, and the steps stand in the run's options.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import LedgerFault
from ..methods import Prepared
from ..methods.pace import shown_classes
from ..options import Sampling
from ..privacy.ledger.notes import CheckpointMade, Shown
from ..synthesis.sampler import Sampler
from ..training import latest_checkpoint
from .folder import Run
from .prepared import rebuild

FOLDER, PUBLIC = "samples", "public"
SIDE = 96  # pixels of a picture on the sheet, at least
MARGIN, LINE = 8, 18


@dataclass
class Samples:
    """The sheets of one attempt; model and row of the base are made when first needed.

    The model is a second one, so that nothing of the training's own is touched.
    """

    run: Run
    attempt: int
    on_stage: Callable[[str], None]
    _model: Prepared[Any] | None = field(default=None, init=False)
    _public: np.ndarray | None = field(default=None, init=False)

    def show(self, step: int, selected: Sequence[str] | None) -> None:
        """Draws the sheet of `step` from its checkpoint and says where it lies.

        Pictures that cannot be drawn end no run that is paid for: a note says so.

        Args:
            step: The step.
            selected: What the plan's probe has chosen, if it has.

        Raises:
            LedgerFault: The checkpoint of this step is not on the disk, or not the ledger's.
        """
        weights = self._noted(step)
        self.run.record(Shown(shown=step, attempt=self.attempt))
        try:
            place = self._draw(step, weights, selected)
        except Exception as error:
            self.on_stage(f"note: no samples of step {step} ({type(error).__name__})")
            return
        self.on_stage(f"note: samples of step {step}: {place}")

    def _noted(self, step: int) -> dict[str, torch.Tensor]:
        """The averaged weights of the checkpoint of `step`, as they lie on the disk."""
        found = latest_checkpoint(self.run.folder / "checkpoints")
        known = self.run.ledger.entries(CheckpointMade)
        made = [note.sha256 for note in known if note.checkpoint == step]
        if found is None or found[0]["step"] != step or found[0]["sha256"] not in made[-1:]:
            raise LedgerFault(
                f"step {step} has no checkpoint that the ledger knows, so nobody may see it:"
                " --resume goes on from the last one"
            )
        start = "average/"
        return {n.removeprefix(start): t for n, t in found[1].items() if n.startswith(start)}

    def _draw(
        self, step: int, weights: dict[str, torch.Tensor], selected: Sequence[str] | None
    ) -> Path:
        if self._model is None:
            self._model = rebuild(self.run.plan, self.run.options, selected, self.run.start)
            self._public = self._pictures(self._model)
            self._keep_public(self._public)
        with torch.no_grad():
            for name, tensor in self._model.adaptation.trainable.items():
                tensor.copy_(weights[name])
        assert self._public is not None
        sheet = compose(self.run, step, self._public, self._pictures(self._model))
        folder = self.run.folder / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        place = folder / f"step-{step:06d}.png"
        part = place.with_suffix(".part")
        sheet.save(part, format="PNG")
        part.replace(place)
        return place

    def _keep_public(self, pictures: np.ndarray) -> None:
        """The public base's own row, one file each, for pages that show it beside others."""
        folder = self.run.folder / FOLDER / PUBLIC
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        classes = self.run.plan.classes
        labels = [classes[label] for label in shown_classes(len(classes))]
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{number:02d}.png", format="PNG")
        table = {f"{number:02d}": label for number, label in enumerate(labels)}
        (folder / "labels.json").write_text(json.dumps(table), "utf-8")

    def _pictures(self, model: Prepared[Any]) -> np.ndarray:
        """One row as uint8 [pictures, R, R, 3], with the default sampler and its public seed."""
        labels = shown_classes(len(self.run.plan.classes))
        text = model.adaptation.conditions(len(self.run.plan.classes))
        sampler = Sampler(model.base, self.run.plan.prompts, Sampling(), text)
        return sampler.draw(labels, np.arange(len(labels)))


def compose(run: Run, step: int, public: np.ndarray, now: np.ndarray) -> Image.Image:
    """The sheet: a caption, the public base's row, the run's row, and the classes below."""
    plan, font = run.plan, ImageFont.load_default(13)
    scale = -(-SIDE // public.shape[1])
    side = scale * public.shape[1]
    width = max(620, 2 * MARGIN + len(public) * side)
    sheet = Image.new("RGB", (width, 2 * MARGIN + 4 * LINE + 2 * side + LINE), "white")
    draw, at = ImageDraw.Draw(sheet), MARGIN

    def say(text: str, x: int = MARGIN) -> None:
        draw.text((x, at), text.encode("latin-1", "replace").decode("latin-1"), "black", font)

    spent = f"epsilon {plan.epsilon_after(step):.2f} so far, {plan.epsilon:.2f} charged"
    say(f"PRIVATE. Step {step:,} of {plan.steps:,}; {spent}")
    at += LINE
    for caption, row in (
        ("the public base, before the first step", public),
        ("this run: the averaged weights, as a release would have them", now),
    ):
        say(caption)
        at += LINE
        for place, picture in enumerate(row):
            large = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(large, (MARGIN + place * side, at))
        at += side
    for place, label in enumerate(shown_classes(len(plan.classes))):
        say(plan.classes[label][: side // 7], MARGIN + place * side)
    return sheet
