"""Private Evolution on a run: rounds of votes, each on the candidates that the last one chose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from ...compute import ranks
from ...errors import Interrupted, SfumatoError
from ...options.progress import Counted
from ...training import Progress
from ..interface import Prepared
from ..workspace import Workspace
from .adaptation import Evolving
from .choosing import elders, parents
from .drawing import first, sampler_of, varied
from .sharing import Ranks, Shards, Sharing
from .spaces import of_candidates, of_images
from .tuning import save_tuned
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


def fit(prepared: Prepared[Evolving], workspace: Workspace) -> Evolving | None:
    """Evolves the population to the plan's last round, from the attempt's checkpoint on.

    Several ranks, or shards, draw a share of each round's pictures; one of them votes.

    Returns:
        The last population; None of a shard, after which the run without one ends.

    Raises:
        Interrupted: Somebody stopped it.
        SfumatoError: The checkpoint is of another plan.
    """
    plan, shard = prepared.plan, workspace.execution.shard
    with workspace.stoppable() as stop:
        sharing = Ranks()
        if shard is not None:
            sharing = Shards(workspace.folder, shard, workspace.attempt, stop)
        made = _Evolution(prepared, workspace, sharing)
        rounds = made.start()
        started, begun = time.monotonic(), rounds.step
        while rounds.step < plan.steps:
            rounds = made.round(rounds)
            made.keep(rounds)
            passed = (time.monotonic() - started) / (rounds.step - begun)
            left = passed * (plan.steps - rounds.step)
            made.tell(
                Progress(rounds.step, plan.steps, 0.0, plan.n_units / max(passed, 1e-9), left)
            )
            if sharing.any(stop.asked) and rounds.step < plan.steps:
                raise Interrupted(
                    f"stopped at round {rounds.step} of {plan.steps}; continue with --resume"
                )
    if shard is not None:
        return None
    workspace.on_stage("saving")
    if ranks.rank() == 0:
        prepared.method.clear(workspace.folder)  # features of private images have done their work
    return handed_over(prepared, rounds.latents)


def population_of(prepared: Prepared[Evolving], tensors: dict[str, torch.Tensor]) -> Evolving:
    """The population of a checkpoint, as what a run hands over.

    Raises:
        SfumatoError: The checkpoint is of another plan.
    """
    return handed_over(prepared, _held(prepared, tensors))


def handed_over(
    prepared: Prepared[Evolving], latents: torch.Tensor, trained: bool = True
) -> Evolving:
    """A population [m, C, h, w] as what a run hands over, with a LoRA beside it if one is asked.

    Args:
        prepared: What was planned.
        latents: The population, class by class.
        trained: Whether the LoRA trains, or is saved as it starts.
    """
    found = prepared.adaptation.with_population(latents, len(prepared.plan.classes))
    steps = getattr(prepared.method, "fine_tune", None)
    if steps is None:
        return found

    def save(folder: Path) -> None:
        found.save(folder)
        save_tuned(prepared, latents, folder, steps if trained else 0)

    return replace(found, save=save)


def _held(prepared: Prepared[Evolving], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    voting, held = prepared.plan.voting, tensors.get(LATENTS)
    assert voting is not None  # an evolution's plan has one
    if held is None or len(held) != voting.candidates:
        raise SfumatoError(
            "the checkpoint belongs to another plan: resume with the run's own options"
        )
    return held.float()


class _Evolution:
    """One attempt: what all rounds share."""

    def __init__(self, prepared: Prepared[Evolving], workspace: Workspace, sharing: Sharing):
        plan = prepared.plan
        assert plan.voting is not None  # an evolution's plan has one
        self.prepared = prepared
        self.plan, self.voting, self.adapted = plan, plan.voting, prepared.adaptation
        self.workspace, self.data, self.sharing = workspace, workspace.data, sharing
        self.seed = int(prepared.options["seed"])
        self.sampler = sampler_of(self.adapted.base, plan.prompts, self.seed)
        self.label = np.repeat(np.arange(self.voting.classes), self.voting.of_class)
        self.owned = [self.data.order[a:b] for a, b in zip(self.data.first, self.data.first[1:])]

    @cached_property
    def features(self) -> np.ndarray:
        """Of the private images, for whichever process votes."""
        return of_images(
            self.workspace.folder,
            self.adapted.space,
            self.data.mean,
            self.workspace.order,
            self._told("features of the images", len(self.data.label)),
        )

    def start(self) -> Rounds:
        """The checkpoint's candidates, or the first that the public base draws."""
        if self.workspace.checkpoint is not None:
            facts, tensors = self.workspace.checkpoint
            return Rounds(facts["step"], _held(self.prepared, tensors))
        size = self.voting.candidates
        told = self._told("drawing the first population", size, adding=True)
        of_class, own = self.voting.of_class, self.sharing.own
        drawn = first(self.sampler, of_class, self.voting.classes, told, own)
        return Rounds(0, self.sharing.together("first", drawn, size))

    def round(self, rounds: Rounds) -> Rounds:
        """Votes on the candidates, and what they choose: parents as they are, and variations."""
        plan, step, own = self.plan, rounds.step, self.adapted
        noisy = self.sharing.once(f"votes-{step}", lambda: self._votes(rounds))
        # From here on nothing private is looked at.
        chosen = parents(self.voting, noisy, plan.noise_multiplier, own.threshold, self.seed, step)
        young = ~elders(chosen)
        latents, varies = rounds.latents[torch.from_numpy(chosen)], torch.from_numpy(young)
        count = int(young.sum())
        drawn = varied(
            self.sampler,
            latents[varies],
            self.label[young],
            own.strength(step, plan.steps),
            step,
            self._told(f"{self._at(step)}: variations", count, adding=True),
            self.sharing.own,
        )
        latents[varies] = self.sharing.together(f"varied-{step}", drawn, count)
        return Rounds(step + 1, latents)

    def keep(self, rounds: Rounds) -> None:
        """Keeps the candidates of the next round as a checkpoint."""

        def kept() -> np.ndarray:
            self.workspace.keep(rounds, rounds.tensors())
            return np.array(rounds.step)

        self.sharing.once(f"kept-{rounds.step}", kept)

    def tell(self, now: Progress) -> None:
        """Tells where the run stands."""
        shard = self.workspace.execution.shard
        if ranks.rank() == 0 and (shard is None or shard[0] == 0):
            self.workspace.log(now)
        self.workspace.progress(now)

    def _votes(self, rounds: Rounds) -> np.ndarray:
        """The noisy votes on a round's candidates, int64 [candidates] in grid units."""
        plan, own, order = self.plan, self.adapted, self.workspace.order
        # billed from here on, whatever becomes of the round
        self.workspace.begin(rounds.step)
        self.workspace.on_stage(f"{self._at(rounds.step)}: votes")
        table = of_candidates(own.base, own.space, rounds.latents)
        named = nearest(self.voting, self.features, self.data.label, order, table)
        return noisy_votes(
            self.voting,
            plan.noise_multiplier,
            named,
            self.owned,
            self.workspace.key,
            rounds.step,
            self.workspace.attempt,
        )

    def _at(self, step: int) -> str:
        return f"round {step + 1} of {self.plan.steps}"

    def _told(self, what: str, total: int, *, adding: bool = False) -> Callable[[int], None]:
        done = [0]

        def tell(number: int) -> None:
            done[0] = done[0] + number if adding else number
            self.workspace.on_stage(Counted(what, done[0], total))

        return partial(tell)
