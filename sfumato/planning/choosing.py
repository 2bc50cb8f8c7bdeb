"""`--match`: a run's plan for every base that its images may choose, all of one price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..bases import BaseInfo, base_info, scratch_name
from ..errors import SfumatoError
from ..methods import Prepared
from ..methods.evolution.spaces import SIDE
from ..options import Execution, parse
from ..privacy.ledger.public import PublicInput
from ..privacy.mechanisms.base_vote import BaseVote
from ..privacy.plan import Plan
from ..runs.matching import TODAY
from .prepare import named_in_plan
from .published import Listed
from .task import Task, candidates_of

PICTURES, SAMPLER_STEPS = 300, 10  # public ones of each base, drawn with the empty prompt


@dataclass(frozen=True)
class Candidate:
    """What a run would go on with if its images chose this base. No base is held in memory.

    Attributes:
        name: As it was named.
        plan: Of a run on it.
        options: Of the same.
        start: Public tensors that its adapters begin with.
        public_inputs: What was taken as public.
        ancestors: Runs that base and public images come from.
    """

    name: str
    plan: Plan
    options: dict[str, Any]
    start: dict[str, torch.Tensor]
    public_inputs: tuple[PublicInput, ...]
    ancestors: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, name: str, made: Prepared[Any]) -> Candidate:
        """All of it that is to be kept."""
        own = made.public_inputs, made.ancestors
        return cls(name, made.plan, made.options, dict(made.start), *own)


def require_grid(info: BaseInfo) -> None:
    """SfumatoError for a base whose pictures are smaller than the grid of comparison."""
    if info.resolution < SIDE:
        raise SfumatoError(
            f"--bases: pictures of {Path(info.name).name} have {info.resolution} pixels a side, and"
            f" bases are compared on a grid of {SIDE} x {SIDE}: leave it out"
        )


def tasks_of(task: Task, execution: Execution | None = None) -> list[Task]:
    """The same task on each candidate, with the vote that all their plans have.

    Raises:
        SfumatoError: Options that need to know the base, candidates of several sizes.
    """
    _require_open(task, execution)
    names = candidates_of(task.choosing)
    for name in filter(scratch_name, names):
        raise SfumatoError(
            f"--bases {name}: a base of random numbers draws nothing that images could be near to:"
            f" name public models, or leave --match out and say --base {name}"
        )
    known = [base_info(name) for name in names]
    for name, info in zip(names, known):
        require_grid(info)
        if info.resolution != known[0].resolution:
            raise SfumatoError(
                f"--bases: {Path(names[0]).name} draws {known[0].resolution} x"
                f" {known[0].resolution} and {Path(name).name} {info.resolution} x"
                f" {info.resolution}, and a run reads its images at one size: name bases of one"
                " size"
            )
    require_different(names, known)
    bases = tuple(named_in_plan(name) for name in names)
    digests = tuple(info.digest for info in known)
    vote = BaseVote(bases, digests, PICTURES, TODAY.features, rule=TODAY.rule)
    return [replace(task, base=name, base_vote=vote) for name in names]


def require_different(names: Sequence[str], known: Sequence[BaseInfo]) -> None:
    """SfumatoError for two names of one base, whose certificate could not say which was chosen."""
    seen: dict[str, str] = {}
    for name, info in zip(names, known):
        if (first := seen.setdefault(info.digest, name)) != name:
            raise SfumatoError(
                f"--bases: {first} and {name} are the same base: name it once, for its votes would"
                " say nothing of which to take"
            )


def _require_open(task: Task, execution: Execution | None) -> None:
    """SfumatoError for what cannot be said before the base is known."""
    if task.schedule.time is not None:
        raise SfumatoError(
            "--time solves for the steps on one base, and --match does not know it yet: give"
            " --steps, or take the default"
        )
    if task.performance.shard_base:
        raise SfumatoError(
            "--shard-base: the base that ranks would share is not chosen yet: leave --match or"
            " --shard-base out"
        )
    if execution is not None and execution.shard is not None:
        raise SfumatoError(
            "--shard: the base is not chosen yet, and shards would not wait for each other: leave"
            " --match or --shard out"
        )
    epsilon = task.privacy.epsilon
    if epsilon is not None and task.choosing.share(epsilon) >= epsilon:
        raise SfumatoError(
            f"--match-epsilon {task.choosing.share(epsilon):g} leaves nothing of --epsilon"
            f" {epsilon:g} for the run: lower it"
        )


def require_one_price(plans: Sequence[Plan]) -> None:
    """All that is charged is the same, whatever base is chosen.

    Raises:
        SfumatoError: A candidate's plan asks for other mechanisms than the first.
    """
    first = plans[0]
    for plan in plans[1:]:
        if (plan.events, plan.epsilon) != (first.events, first.epsilon):
            raise SfumatoError(
                f"--match: a run on {Path(plan.base).name} would ask its images for something else"
                f" than one on {Path(first.base).name}, so no one price holds for both: choose"
                " other --bases, or another method"
            )


def named(error: SfumatoError, name: str) -> SfumatoError:
    """The same refusal, with the candidate that it is about."""
    return type(error)(f"--bases {Path(name).name}: {error}")


def all_published(lists: Sequence[Listed]) -> Listed:
    """What plans and releases may say, whatever base is chosen: each text once."""
    found: dict[str, list[str]] = {}
    for listed in lists:
        for name, value in listed:
            texts = found.setdefault(name, [])
            texts += [] if value in texts else [value]
    return [(name, " or ".join(texts)) for name, texts in found.items()]


def rows(plan: Plan) -> list[tuple[str, str]]:
    """The vote for a base, for the table of a plan."""
    vote = plan.base_vote
    if vote is None:
        return []
    assert vote.noise_multiplier is not None and vote.noise_before is not None
    rise = plan.noise_multiplier / vote.noise_before - 1
    names = ", ".join(Path(name).name for name in vote.bases)
    noise, share = vote.noise_multiplier, vote.noise_multiplier / plan.n_units
    return [
        ("vote for the base", f"one of each unit, norm 1 in all, among {names}; Gaussian, once"),
        ("a unit's base", f"{vote.rule}, in {vote.features}"),
        ("noise on its counts", f"{parse.rounded(noise)} votes ({100 * share:.2g} % of the units)"),
        (
            "sigma without it",
            f"{vote.noise_before:.4f}, with it {plan.noise_multiplier:.4f} ({100 * rise:+.1f} %)",
        ),
        ("work below", "is of the slowest and of the largest of these bases"),
    ]
