"""Private Evolution on a run: rounds of votes, each on the candidates that the last one chose."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ...errors import Interrupted, SfumatoError
from ...options.progress import Counted
from ...training import Progress
from ..interface import Prepared
from ..workspace import Workspace
from .adaptation import Evolving
from .choosing import elders, parents
from .drawing import first, sampler_of, varied
from .spaces import FOLDER, of_candidates, of_images
from .voting import nearest, noisy_votes

LATENTS = "population/latents"  # in checkpoints


@dataclass
class Rounds:
    """How many rounds are done, and the candidates of the next [m, C, h, w], class by class."""

    step: int
    latents: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds: public functions of noisy histograms."""
        return {LATENTS: self.latents.half().contiguous()}


def fit(prepared: Prepared[Evolving], workspace: Workspace) -> Evolving:
    """Evolves the population to the plan's last round, from the attempt's checkpoint on.

    Raises:
        Interrupted: Somebody stopped it.
        SfumatoError: The checkpoint is of another plan.
    """
    plan, made = prepared.plan, _Evolution(prepared, workspace)
    rounds = made.start()
    started, begun = time.monotonic(), rounds.step
    with workspace.stoppable() as stop:
        while rounds.step < plan.steps:
            # billed from here on, whatever becomes of the round
            workspace.begin(rounds.step)
            rounds = made.round(rounds)
            workspace.keep(rounds, rounds.tensors())
            passed = (time.monotonic() - started) / (rounds.step - begun)
            left = passed * (plan.steps - rounds.step)
            now = Progress(rounds.step, plan.steps, 0.0, plan.n_units / max(passed, 1e-9), left)
            workspace.log(now)
            workspace.progress(now)
            if stop.asked and rounds.step < plan.steps:
                raise Interrupted(
                    f"stopped at round {rounds.step} of {plan.steps}; continue with --resume"
                )
    workspace.on_stage("saving")
    # features of private images have done their work
    shutil.rmtree(workspace.folder / FOLDER, ignore_errors=True)
    return prepared.adaptation.with_population(rounds.latents, len(plan.classes))


class _Evolution:
    """One attempt: what all rounds share."""

    def __init__(self, prepared: Prepared[Evolving], workspace: Workspace):
        plan = prepared.plan
        assert plan.voting is not None  # an evolution's plan has one
        self.plan, self.voting, self.adapted = plan, plan.voting, prepared.adaptation
        self.workspace, self.data = workspace, workspace.data
        self.seed = int(prepared.options["seed"])
        self.sampler = sampler_of(self.adapted.base, plan.prompts, self.seed)
        self.label = np.repeat(np.arange(self.voting.classes), self.voting.of_class)
        self.owned = [self.data.order[a:b] for a, b in zip(self.data.first, self.data.first[1:])]
        self.features = of_images(
            workspace.folder,
            self.adapted.space,
            self.data.mean,
            workspace.order,
            self._told("features of the images", len(self.data.label)),
        )

    def start(self) -> Rounds:
        """The checkpoint's candidates, or the first that the public base draws."""
        if self.workspace.checkpoint is not None:
            facts, tensors = self.workspace.checkpoint
            held = tensors.get(LATENTS)
            if held is None or len(held) != self.voting.candidates:
                raise SfumatoError(
                    "the checkpoint belongs to another plan: resume with the run's own options"
                )
            return Rounds(facts["step"], held.float())
        told = self._told("drawing the first population", self.voting.candidates, adding=True)
        return Rounds(0, first(self.sampler, self.voting.of_class, self.voting.classes, told))

    def round(self, rounds: Rounds) -> Rounds:
        """Votes on the candidates, and what they choose: parents as they are, and variations."""
        plan, step, own = self.plan, rounds.step, self.adapted
        at = f"round {step + 1} of {plan.steps}"
        self.workspace.on_stage(f"{at}: votes")
        table = of_candidates(own.base, own.space, rounds.latents)
        order = self.workspace.order
        named = nearest(self.voting, self.features, self.data.label, order, table)
        noisy = noisy_votes(
            self.voting,
            plan.noise_multiplier,
            named,
            self.owned,
            self.workspace.key,
            step,
            self.workspace.attempt,
        )
        # From here on nothing private is looked at.
        chosen = parents(self.voting, noisy, plan.noise_multiplier, own.threshold, self.seed, step)
        young = ~elders(chosen)
        latents = rounds.latents[torch.from_numpy(chosen)]
        latents[torch.from_numpy(young)] = varied(
            self.sampler,
            latents[torch.from_numpy(young)],
            self.label[young],
            own.strength(step, plan.steps),
            step,
            self._told(f"{at}: variations", int(young.sum()), adding=True),
        )
        return Rounds(step + 1, latents)

    def _told(self, what: str, total: int, *, adding: bool = False) -> Callable[[int], None]:
        done = [0]

        def tell(number: int) -> None:
            done[0] = done[0] + number if adding else number
            self.workspace.on_stage(Counted(what, done[0], total))

        return partial(tell)
