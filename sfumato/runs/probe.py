"""The probe: which matrices the private images (once, noisily, paid for) or public ones (freely)
would change most.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..bases import Base, load_base
from ..compute import ranks
from ..compute.device import precision as precision_of
from ..errors import SfumatoError
from ..gradients.scores import gradient_squares
from ..methods import Given, Method, Prompts, PublicAnswers, Saliency
from ..methods.low_rank import LowRank
from ..methods.prompts import choose_prompts
from ..methods.starting import right_vectors
from ..options import Prompting, Recipe
from ..privacy.ledger.entries import Probed
from ..privacy.mechanisms.votes import STEP, Probe
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import noisy_scores
from ..privacy.random.sampling import poisson
from ..training import Batch, LatentData, UnitBatch, build_latents, denoising_losses
from ..training.dummy import made_up_batch
from .folder import Run
from .prepared import Prepared, original_base, rebuild

PUBLIC_IMAGES = 2048  # of public images as many are looked at; more would not change the ranking


def choose_matrices(
    run: Run, prepared: Prepared, data: LatentData, key: RunKey, attempt: int
) -> Prepared:
    """Run the plan's probe on the private latents, record its noisy scores in the ledger, and adapt
    what they choose.

    `key` is the attempt's. The units, their draws and the noise have addresses of their own in its
    schedule (`privacy.probing.STEP`), so a replay gives the same scores; once recorded they are
    never computed again. Only the noisy scores outlive this function.
    """
    plan, probe = run.plan, run.plan.probe
    units = poisson(key, STEP, attempt, plan.n_units, probe.expected_batch_size / plan.n_units)
    units = units[ranks.rank() :: ranks.world_size()]
    recipe = prepared.recipe
    batch = UnitBatch(
        data,
        units,
        key,
        STEP,
        attempt,
        probe.noise_draws,
        recipe.time_bias,
        recipe.caption_dropout,
        prepared.base.times,
    )
    # As many rows in one pass as a step of training has.
    micro_batch = max(1, prepared.performance.micro_batch * plan.noise_draws // probe.noise_draws)
    total = total_scores(
        probe, prepared.adaptation.groups, *looking_at(prepared), batch, micro_batch
    )
    ranks.sum_over_ranks({"scores": total})
    scores, selected = release_scores(probe, total, key, attempt)
    chosen = rebuild(plan, run.options, selected, run.start)
    trainable = chosen.adaptation.most_trainable
    probed = Probed(
        attempt=attempt,
        scores=scores,
        selected=list(selected),
        targets=list(chosen.adaptation.targets),
        trainable=trainable,
    )
    ranks.on_first_rank(lambda: run.record(probed))
    return chosen


def total_scores(
    probe: Probe,
    groups: Mapping[str, Sequence[str]],
    losses,
    weights: Mapping,
    model,
    batch,
    micro_batch: int,
) -> torch.Tensor:
    """The units' bounded scores added up, int64 [groups] in grid units; not yet noisy, so PRIVATE.
    Integers add exactly.
    """
    total, sizes = (
        torch.zeros(len(probe.groups), dtype=torch.int64),
        {name: w.numel() for name, w in weights.items()},
    )
    for squares in gradient_squares(
        model, weights, losses, batch, draws=probe.noise_draws, micro_batch=micro_batch
    ):
        total += probe.unit_scores(by_group(squares, sizes, groups, probe)).sum(0)
    return total


def release_scores(
    probe: Probe, total: torch.Tensor, key: RunKey, attempt: int
) -> tuple[list[float], tuple[str, ...]]:
    """Noise once on the summed scores (grid units), then everything is post-processing: noisy
    scores and the best groups.
    """
    noisy = noisy_scores(total.numpy(), probe.noise_stddev, key, step=STEP, attempt=attempt)
    scores = [float(value) * probe.grid for value in noisy]
    return scores, probe.best(noisy.tolist())


def looking_at(prepared: Prepared) -> tuple:
    """Row losses, candidate weights by name, and the model, of the public base without any adapter
    in it.
    """
    base = original_base(prepared.plan)
    matrices = [matrix for members in prepared.adaptation.groups.values() for matrix in members]
    weights = {matrix: base.denoiser.get_submodule(matrix).weight for matrix in matrices}
    words = prepared.options["prompts"]
    # A class token of one's own starts from public words: the probe reads those in its place.
    prompts = [
        text.replace(mark, word or "") if mark else text
        for text, mark, word in zip(
            words["prompts"],
            words["placeholders"] or [""] * len(words["prompts"]),
            words["initializers"] or [""] * len(words["prompts"]),
        )
    ]
    precision = precision_of(prepared.performance.precision)
    return plain_losses(base, prompts, precision), weights, base.denoiser


def plain_losses(base: Base, prompts: Sequence[str], precision: torch.dtype):
    """The base's own training objective with fixed prompts, one per label; -1 is the empty
    prompt.
    """
    table = torch.cat([base.condition(list(prompts)), base.condition([""])])
    return denoising_losses(base, lambda label: table[label], precision)


def by_group(
    squares: torch.Tensor,
    sizes: Mapping[str, int],
    groups: Mapping[str, Sequence[str]],
    probe: Probe,
):
    """Squares per matrix [B, matrices], in the order of `sizes` -> per group [B, groups], by its
    size if the probe says so.
    """
    place = {name: i for i, name in enumerate(sizes)}
    columns = []
    for group in probe.groups:
        column = squares[:, [place[matrix] for matrix in groups[group]]].sum(1)
        columns.append(
            column / sum(sizes[matrix] for matrix in groups[group]) if probe.per_size else column
        )
    return torch.stack(columns, 1)


def check_scores(prepared: Prepared) -> None:
    """The scores' engine against one-at-a-time autograd on made-up pictures; RuntimeError where
    they differ.
    """
    exact = replace(prepared, performance=replace(prepared.performance, precision="float32"))
    losses, weights, model = looking_at(exact)
    batch, draws = made_up_batch(prepared, 2), prepared.plan.noise_draws
    (squares,) = gradient_squares(model, weights, losses, batch, draws=draws)
    for p in weights.values():
        p.requires_grad_(True)
    for i in range(2):
        grads = torch.autograd.grad(losses(batch[i : i + 1]).mean(), list(weights.values()))
        right = torch.stack([g.double().square().sum() for g in grads])
        if not (squares[i] - right).abs().max() <= 1e-3 * right.max():
            raise RuntimeError(
                "self-check: the probe's squared norms differ from one-at-a-time autograd"
            )


@dataclass(frozen=True)
class PublicLook:
    """What public images say of each matrix: `squares` [n, matrices] per image, and `gradients`,
    their mean.
    """

    squares: torch.Tensor
    gradients: dict[str, torch.Tensor]

    @property
    def sizes(self) -> dict[str, int]:
        return {name: gradient.numel() for name, gradient in self.gradients.items()}


def look_at_public(
    base: Base, records, matrices: Sequence[str], *, prompt=None, draws: int = 4, seed: int = 0
) -> PublicLook:
    """Gradients of the base on at most 2,048 public images (chosen by the public seed), with their
    class names as prompts.

    `records` is a RecordSet whose images may be used without protection; nothing of it is charged.
    """
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    use = np.flatnonzero(records.usable)
    use = np.sort(rng.permutation(use)[:PUBLIC_IMAGES])
    prompts = choose_prompts(
        base, records.classes, prompt=prompt if isinstance(prompt, str) else None, embedder=False
    )
    losses = plain_losses(base, prompts.prompts, torch.float32)
    weights = {name: base.denoiser.get_submodule(name).weight for name in matrices}
    squares, totals = [], {name: torch.zeros_like(w) for name, w in weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        data = build_latents(
            Path(folder), len(use), lambda slots: records.load(use[slots], base.resolution),
            base.encode, records.labels[use], np.arange(len(use)),
        )  # fmt: skip
        for begin in range(0, len(use), 64):
            part = public_batch(
                data, np.arange(begin, min(begin + 64, len(use))), draws, base.times, g
            )
            squares.extend(gradient_squares(base.denoiser, weights, losses, part, draws=draws))
            for p in weights.values():
                p.requires_grad_(True)
            grads = torch.autograd.grad(losses(part).sum() / draws, list(weights.values()))
            for p, total, grad in zip(weights.values(), totals.values(), grads):
                p.requires_grad_(False)
                total += grad
    return PublicLook(torch.cat(squares), {n: t / len(use) for n, t in totals.items()})


def public_batch(
    data: LatentData, slots: np.ndarray, draws: int, times: int, g: torch.Generator
) -> Batch:
    """`draws` draws of each image from a public generator, diffusion times as in training's default
    recipe.
    """
    shape = (len(slots), draws, *data.latent_shape)
    label = torch.from_numpy(data.label[slots])[:, None].expand(-1, draws)
    time = times * torch.rand(shape[:2], generator=g) ** (1 / Recipe().time_bias)
    mean, std = (
        torch.from_numpy(np.asarray(a[slots], np.float32))[:, None].expand(shape)
        for a in (data.mean, data.std)
    )
    return Batch(
        mean,
        std,
        label,
        torch.randn(shape, generator=g),
        torch.randn(shape, generator=g),
        time.long().clamp(max=times - 1),
        torch.zeros(shape[:2], dtype=torch.bool),
        torch.ones(shape[:2]),
    )


def public_answers(
    method: Method, base: str, prompting: Prompting, seed: int, public
) -> PublicAnswers:
    """What public images say: the choice of matrices, or how adapters start. Nothing is charged."""
    choosing = isinstance(method, Saliency) and method.choose == "public"
    starting = isinstance(method, LowRank) and method.adapter_init == "public"
    if not choosing and not starting:
        raise SfumatoError(
            "--public-data is for --choose public and for --adapter-init public: add one, or leave"
            " it out"
        )
    plain: dict = {"choose": "private"} if choosing else {}
    plain |= {"adapter_init": "gaussian"} if starting else {}
    # the draft changes its base: the pictures are looked at with another
    given = Given(Prompts(("",)), torch.bfloat16)
    draft = replace(method, **plain).apply(load_base(base), given)
    if not public.usable.any():
        raise SfumatoError("--public-data holds no usable image")
    matrices = [m for members in draft.groups.values() for m in members] or list(draft.targets)
    look = look_at_public(load_base(base), public, matrices, prompt=prompting.prompt, seed=seed)
    selected = scores = None
    if choosing:
        if draft.probe is None:
            raise SfumatoError(
                "--choose public: all candidates are kept, so there is nothing to choose"
            )
        total = draft.probe.unit_scores(
            by_group(look.squares, look.sizes, draft.groups, draft.probe)
        ).sum(0)
        selected = list(draft.probe.best(total.tolist()))
        scores = [float(value) * draft.probe.grid for value in total]
    start = {n: right_vectors(g, draft.rank) for n, g in look.gradients.items()} if starting else {}
    return PublicAnswers(start, selected, scores)
