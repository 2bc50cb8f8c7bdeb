"""One small adapter per way of computing the clipped sum of per-record gradients, all behind one
call.

An adapter takes a `Case` and a clip norm, attaches to the model for good, and returns a function
without arguments that runs forward and backward and returns (name -> sum, norms [B] or None).
Errors of a peer are left to the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from measure import Part, Step, first_line, interleave, peak_bytes, say
from models import Case
from torch import Tensor

Run = Callable[[], tuple[dict[str, Tensor], Tensor | None]]


def flat(clip_norm: float) -> Callable[[Tensor], Tensor]:
    """Flat clipping: norms -> factors min(1, C / norm)."""
    return lambda norms: clip_norm / norms.clamp_min(clip_norm)


def non_private(case: Case, clip_norm: float) -> Run:
    """The gradient of the mean loss: nothing is clipped, no record is known."""

    def run():
        grads = torch.autograd.grad(
            case.row_losses(case.batch).mean(), list(case.trainable.values())
        )
        return dict(zip(case.trainable, grads, strict=True)), None

    return run


def sfumato(case: Case, clip_norm: float) -> Run:
    """The engine of this package, strategies chosen by itself, its sums on a run's grid."""
    from sfumato.gradients import Engine
    from sfumato.privacy import clipping
    from sfumato.privacy.rounding import Rounding

    engine = Engine(case.model, case.trainable)
    grid = Rounding.of(clip_norm, sum(p.numel() for p in case.trainable.values()))
    ask = {"row_losses": case.row_losses, "batch": case.batch, "draws": case.draws}

    def run():
        clip = clipping.flat(clip_norm).factors
        sums, norms = engine.clipped_sum(**ask, clip=clip, rounding=grid)
        return {name: t * grid.step for name, t in sums.items()}, norms

    run.engine = engine
    # without what the grid rounds away and the clip's own margin: to be compared
    run.exact = partial(engine.clipped_sum, **ask, clip=flat(clip_norm))
    return run


def reference(case: Case, clip_norm: float) -> Run:
    """One record at a time through plain autograd ("microbatch 1")."""
    from sfumato.gradients import ReferenceEngine

    engine, clip = ReferenceEngine(case.model, case.trainable), flat(clip_norm)

    def run():
        return engine.clipped_sum(case.row_losses, case.batch, draws=case.draws, clip=clip)

    run.engine = engine
    return run


def strategies(run: Run) -> dict[str, int] | None:
    """How many tensors the engine treats in which way, if it tells."""
    chosen = getattr(getattr(run, "engine", None), "strategies", None)
    return (
        dict(Counter(map(str, (chosen() if callable(chosen) else chosen).values())))
        if chosen
        else None
    )


def opacus_hooks(case: Case, clip_norm: float) -> Run:
    """Opacus, per-sample gradients by hooks. With K > 1 it clips every row as if it were a
    record.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(case.model, loss_reduction="sum", strict=False)
    optimizer = DPOptimizer(
        torch.optim.SGD(list(case.trainable.values()), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=clip_norm,
        expected_batch_size=None,
        loss_reduction="sum",
    )

    def run():
        case.row_losses(case.batch).sum().backward()
        optimizer.clip_and_accumulate()
        sums = {name: p.summed_grad for name, p in case.trainable.items()}
        optimizer.zero_grad(set_to_none=True)
        return sums, None

    run.engine = wrapped
    return run


def opacus_ghost(case: Case, clip_norm: float) -> Run:
    """Opacus, ghost norms and a second backward pass. With K > 1 it clips every row as if it were a
    record.
    """
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(
        case.model, loss_reduction="sum", strict=False, max_grad_norm=clip_norm
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(list(case.trainable.values()), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=clip_norm,
        expected_batch_size=None,
        loss_reduction="sum",
    )

    def run():
        losses = case.row_losses(case.batch)
        DPTensorFastGradientClipping(wrapped, optimizer, losses, "sum").backward()
        sums = {name: p.grad for name, p in case.trainable.items()}
        optimizer.zero_grad(set_to_none=True)
        return sums, wrapped.per_sample_gradient_norms

    run.engine = wrapped
    return run


class _Losses(torch.nn.Module):
    """The loss of one record as a function of its tensors, for torch.func."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model = case.model
        self.row_losses = case.row_losses
        self.kind = type(case.batch)
        parts = {field.name: getattr(case.batch, field.name) for field in fields(case.batch)}
        self.names = [name for name, part in parts.items() if isinstance(part, Tensor)]
        self.rest = {name: part for name, part in parts.items() if name not in self.names}

    def forward(self, *tensors: Tensor) -> Tensor:
        batch = self.kind(
            **{name: t.unsqueeze(0) for name, t in zip(self.names, tensors, strict=True)},
            **self.rest,
        )
        return self.row_losses(batch).mean()

    def split(self, case: Case) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """(parameters by their name in this module, the batch's tensors)."""
        full = {id(p): name for name, p in self.named_parameters()}
        parameters = {full[id(p)]: p.detach() for p in case.trainable.values()}
        return parameters, tuple(getattr(case.batch, name) for name in self.names)


def torch_vmap(case: Case, clip_norm: float) -> Run:
    """torch.func: vmap(grad) over the records, then norms, factors and a weighted sum."""
    module, clip = _Losses(case), flat(clip_norm)

    def loss(parameters, *tensors):
        return torch.func.functional_call(module, parameters, tensors)

    def run():
        parameters, tensors = module.split(case)
        dims = (None, *(0 for _ in tensors))
        grads = torch.func.vmap(torch.func.grad(loss), in_dims=dims)(parameters, *tensors)
        norms = torch.stack(
            [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads.values()]
        ).norm(dim=0)
        factors = clip(norms)
        sums = (torch.tensordot(factors, g, 1) for g in grads.values())
        return dict(zip(case.trainable, sums, strict=True)), norms

    return run


def opake(case: Case, clip_norm: float) -> Run:
    """opake's clipped_grad (built on torch.func)."""
    from opake.dpsgd.clipping import clipped_grad

    module = _Losses(case)

    def loss(parameters, *tensors):
        return torch.func.functional_call(module, parameters, tensors)

    places = tuple(range(1, 1 + len(module.names)))
    clipped, state = clipped_grad(loss, clipping_norm=clip_norm, batch_argnums=places)

    def run():
        parameters, tensors = module.split(case)
        sums, _ = clipped(parameters, *tensors, state=state)
        return (
            dict(zip(case.trainable, (sums.pytree[name] for name in parameters), strict=True)),
            None,
        )

    return run


BASE, AGAIN, OURS, REFERENCE, HOOKS = (
    "non-private",
    "non-private again",
    "sfumato",
    "reference",
    "opacus hooks",
)
METHODS: dict[str, Callable[[Case, float], Run]] = {
    BASE: non_private,
    AGAIN: non_private,
    OURS: sfumato,
    REFERENCE: reference,
    HOOKS: opacus_hooks,
    "opacus ghost": opacus_ghost,
    "torch.func vmap": torch_vmap,
    "opake": opake,
}
# With K > 1 these clip each of a record's rows: another mechanism, shown for its time only.
ROWS_ONLY = (HOOKS, "opacus ghost")
PEERS = tuple(name for name in METHODS if name not in (BASE, AGAIN, OURS))
SIGMA = 1.0  # noise multiplier; its size costs nothing


@dataclass
class Comparison:
    """`found`: method -> peak_bytes, max_rel_error, seconds, parts, or error. `sums`: the
    reference's clipped sums.
    """

    found: dict[str, dict[str, Any]]
    sums: dict[str, Tensor]
    clip_norm: float
    strategies: dict[str, int] | None


def compare(fresh: Callable[[], Case], rounds: dict[str, int], device: str = "cpu") -> Comparison:
    """Equality and memory in the first step of each method, then time in interleaved rounds.

    `fresh` makes the same case again, for each method its own. `rounds`: timed steps by method.
    """
    right, norms, clip_norm = truth(fresh())
    found: dict[str, dict[str, Any]] = {}
    steps: dict[str, Step] = {}
    for name in rounds:
        say(f"  first step of {name}")
        case, private = fresh(), name not in (BASE, AGAIN)
        forward = Part(case.row_losses)
        measured = replace(case, row_losses=forward)
        try:
            (run, sums, got), peak = peak_bytes(
                partial(first, METHODS[name], measured, clip_norm), device
            )
        except Exception as error:  # noqa: BLE001  whatever a peer raises is its result
            found[name] = {"error": first_line(error)}
            continue
        found[name] = {"peak_bytes": peak}
        if private:
            if exact := getattr(run, "exact", None):
                sums, got = exact()
            found[name]["max_rel_error"] = difference(sums, got, right, norms)
        steps[name] = Step(case, run, forward, SIGMA * clip_norm if private else None)
        del sums, got
    interleave(steps, rounds, device)
    for name, step in steps.items():
        found[name] |= step.report(device)
    return Comparison(
        found, right, clip_norm, strategies(steps[OURS].run) if OURS in steps else None
    )


def first(adapter, case, clip_norm: float):
    """Attach and run once: buffers that an engine keeps count as memory of its step. -> (run, sums,
    norms)
    """
    run = adapter(case, clip_norm)
    return run, *run()


def truth(case):
    """(clipped sums, norms, C): the reference in float32 with C the median norm, so that clipping
    acts.
    """
    from sfumato.gradients import ReferenceEngine

    with ReferenceEngine(case.model, case.trainable) as engine:
        ask = {"row_losses": case.exact_losses, "batch": case.batch, "draws": case.draws}
        _, norms = engine.clipped_sum(**ask, clip=torch.ones_like)
        clip_norm = float(norms.median())
        sums, _ = engine.clipped_sum(**ask, clip=flat(clip_norm))
    return sums, norms, clip_norm


def difference(sums, norms, right, right_norms) -> float:
    """Largest relative error of the whole sum, of any tensor of it and of the norms. A tensor below
    1e-2 of the whole counts as that large: the bias of a key, for instance, has the gradient 0.
    """
    size = torch.stack([t.norm() for t in right.values()]).norm()
    apart = {name: (sums[name] - t).norm() for name, t in right.items()}
    errors = [torch.stack(list(apart.values())).norm() / size]
    errors += [apart[name] / torch.maximum(t.norm(), 1e-2 * size) for name, t in right.items()]
    if norms is not None and norms.shape == right_norms.shape:
        errors.append(((norms - right_norms).abs() / right_norms).max())
    return float(torch.stack([e.double() for e in errors]).max())
