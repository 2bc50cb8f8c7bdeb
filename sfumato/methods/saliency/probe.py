"""The probe: which matrices the private images would change most.

Asked once, noisily and paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

import torch
from torch import nn

from ...compute import ranks
from ...compute.device import on_host
from ...compute.precision import Stage
from ...gradients.scores import gradient_squares
from ...options.progress import Counted
from ...privacy.ledger.entries import Probed
from ...privacy.mechanisms.votes import STEP, Probe
from ...privacy.random.keys import RunKey
from ...privacy.random.noise import noisy_scores
from ...privacy.random.sampling import poisson
from ...training import Batch, UnitBatch
from ...training.dummy import dummy_batch
from ..interface import Prepared
from ..prepared import original_base, prepare_again
from ..prompts import Prompts
from ..public import plain_losses
from ..workspace import Workspace
from .adaptation import Ranked


def choose_matrices(prepared: Prepared[Ranked], workspace: Workspace) -> Prepared[Ranked]:
    """Runs the plan's probe on the private latents and adapts what it chooses.

    Its noisy scores are recorded in the ledger. The units, their draws and the noise have addresses
    of their own in the attempt's schedule (`privacy.mechanisms.votes.STEP`), so a replay gives the
    same scores; once recorded they are never computed again. Only the noisy scores outlive this
    function.
    """
    plan, probe = prepared.plan, prepared.plan.probe
    assert probe is not None and prepared.performance.micro_batch is not None
    key, attempt = workspace.key, workspace.attempt
    units = poisson(key, STEP, attempt, plan.n_units, probe.expected_batch_size / plan.n_units)
    units = units[ranks.rank() :: ranks.world_size()]
    recipe, draws = prepared.recipe, probe.noise_draws
    batch = UnitBatch(
        workspace.data,
        units,
        key,
        STEP,
        attempt,
        draws,
        recipe.time_bias,
        recipe.caption_dropout,
        prepared.base.times,
    )
    # As many rows in one pass as a step of training has.
    micro_batch = max(1, prepared.performance.micro_batch * plan.noise_draws // draws)
    if prepared.base.ragged:
        micro_batch = 1
    expected = probe.expected_batch_size / ranks.world_size()

    def tell(done: int) -> None:
        share = share_shown(done, expected)
        workspace.on_stage(Counted("probing which matrices matter", share, 1.0))

    total = total_scores(
        probe, prepared.adaptation.groups, *looking_at(prepared), batch, micro_batch, tell
    )
    ranks.sum_over_ranks({"scores": total})
    scores, selected = release_scores(probe, total, key, attempt)
    chosen = prepare_again(prepared.method, plan, prepared.options, selected, prepared.start)
    probed = Probed(
        attempt=attempt,
        scores=scores,
        selected=list(selected),
        targets=list(chosen.adaptation.targets),
        trainable=chosen.adaptation.most_trainable,
    )
    ranks.on_first_rank(lambda: workspace.note(probed))
    return chosen


def share_shown(done: int, expected: float) -> float:
    """How far the probe is said to be: of the expected number, which is public.

    How many were drawn is not, and the last line of a run that is cut off stays on its page: so
    nothing is said beyond what all but one draw in 30,000 reach (four standard deviations).
    """
    return min(done, max(0.0, expected - 4 * math.sqrt(expected))) / expected


def total_scores(
    probe: Probe,
    groups: Mapping[str, Sequence[str]],
    losses: Callable[[Batch], torch.Tensor],
    weights: dict[str, nn.Parameter],
    model: nn.Module,
    batch: UnitBatch,
    micro_batch: int,
    tell: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """The units' bounded scores added up, int64 [groups] in grid units; not yet noisy, so PRIVATE.

    Integers add exactly. `tell`: called with the number of units done, for the terminal alone.
    """
    done = 0
    total, sizes = (
        torch.zeros(len(probe.groups), dtype=torch.int64),
        {name: w.numel() for name, w in weights.items()},
    )
    for squares in gradient_squares(
        model, weights, losses, batch, draws=probe.noise_draws, micro_batch=micro_batch
    ):
        found = by_group(on_host(squares), sizes, groups, probe)
        total += probe.unit_scores(found).sum(0)
        done += len(squares)
        tell(done)
    return total


def release_scores(
    probe: Probe, total: torch.Tensor, key: RunKey, attempt: int
) -> tuple[list[float], tuple[str, ...]]:
    """Adds noise once to the summed scores; the rest is post-processing.

    Returns the noisy scores and the best groups.

    Args:
        probe: The mechanism.
        total: int64 [groups], in grid units.
        key: The run key of the attempt.
        attempt: The attempt.
    """
    noisy = noisy_scores(total.numpy(), probe.noise_stddev, key, step=STEP, attempt=attempt)
    scores = [float(value) * probe.grid for value in noisy]
    return scores, probe.best(noisy.tolist())


def looking_at(
    prepared: Prepared[Ranked], precision: Stage | torch.dtype = "train"
) -> tuple[Callable[[Batch], torch.Tensor], dict[str, nn.Parameter], nn.Module]:
    """Row losses, candidate weights by name, and the model, of the public base without adapters."""
    base = original_base(prepared.plan, prepared.options)
    matrices = [matrix for members in prepared.adaptation.groups.values() for matrix in members]
    weights = {matrix: base.denoiser.get_parameter(f"{matrix}.weight") for matrix in matrices}
    words = Prompts.of(prepared.options["prompts"])
    # A class token of one's own starts from public words: the probe reads those in its place.
    prompts = [
        text.replace(mark, word or "") if mark else text
        for text, mark, word in zip_longest(words.prompts, words.placeholders, words.initializers)
    ]
    return plain_losses(base, prompts, precision), weights, base.denoiser


def by_group(
    squares: torch.Tensor,
    sizes: Mapping[str, int],
    groups: Mapping[str, Sequence[str]],
    probe: Probe,
):
    """Sums squares per matrix to squares per group [B, groups].

    Args:
        squares: [B, matrices], in the order of `sizes`.
        sizes: Matrix -> its number of entries.
        groups: Group -> its matrices.
        probe: With `per_size` the sums are divided by the group's size.
    """
    place = {name: i for i, name in enumerate(sizes)}
    columns = []
    for group in probe.groups:
        column = squares[:, [place[matrix] for matrix in groups[group]]].sum(1)
        columns.append(
            column / sum(sizes[matrix] for matrix in groups[group]) if probe.per_size else column
        )
    return torch.stack(columns, 1)


def check_scores(prepared: Prepared[Ranked]) -> None:
    """Checks the scores' engine against one-at-a-time autograd on dummy images.

    RuntimeError if they differ.
    """
    losses, weights, model = looking_at(prepared, torch.float32)
    batch, draws = dummy_batch(prepared, 2), prepared.plan.noise_draws
    (squares,) = gradient_squares(model, weights, losses, batch, draws=draws)
    for p in weights.values():
        p.requires_grad_(True)
    for i in range(2):
        grads = torch.autograd.grad(losses(batch[i : i + 1]).mean(), list(weights.values()))
        right = on_host(torch.stack([g.double().square().sum() for g in grads]))
        if not (on_host(squares)[i] - right).abs().max() <= 1e-3 * right.max():
            raise RuntimeError(
                "self-check: the probe's squared norms differ from one-at-a-time autograd"
            )
