"""Clipped sums of per-record gradients in one backward pass.

Every layer that owns trainable tensors has a tap, which receives its input and output gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .arguments import check_counts, check_groups, check_losses, check_precision, check_strategy
from .broadcast import placed
from .cost import USUAL, Ratios
from .isolation import Calls, Watch, apart, proven
from .layout import Layout
from .owners import Layer, find_layers
from .rules import CONVS, NORMS
from .step import Step
from .sums import Grid, Sums

_TAPPED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Tap(torch.autograd.Function):
    """Identity on a layer's output; its backward hands (input, output gradient) to the step.

    The anchor, a 0-d leaf, keeps the node in the graph although no parameter requires a gradient:
    autograd never forms a weight gradient, and frozen layers before the first tap are still pruned.
    """

    @staticmethod
    def forward(
        ctx: Any, out: Tensor, x: Tensor | None, anchor: Tensor, step: Step | Watch, layer: Layer
    ) -> Tensor:
        """Returns the layer's output unchanged; keeps its input for the backward pass.

        The same numbers, but for autograd no view of the output: models may write into them.
        """
        ctx.save_for_backward(x)
        ctx.step, ctx.layer = step, layer
        return out.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hands the input and the output gradient to the step; passes the gradient on."""
        (x,) = ctx.saved_tensors
        ctx.step.arrive(ctx.layer, x, g)
        return (g if ctx.needs_input_grad[0] else None), None, None, None, None


class Engine:
    """Sums of clipped per-record gradients of `trainable`, parameters of `model`.

    Open from construction to `close()`. While it is open no parameter of the model requires a
    gradient (restored by `close()`), and layers that own trainable tensors are hooked. Supported
    layers: Linear, Conv2d and ConvTranspose2d (zero padding), GroupNorm, LayerNorm, RMSNorm,
    Embedding, called any number of times, with non-reentrant checkpointing and autocast; and
    parameters that other modules read as their attribute and broadcast over the rows (see
    broadcast.py). Dim 0 of what they see is record-major, equally many rows for every record; that
    it is so is tried before the first pass of several records (see isolation.py).

    Ghost norms and book-keeping: arXiv 2110.05679, 2210.00038; clipping after averaging draws:
    arXiv 2210.09929.

    Args:
        model: The module that the row losses call.
        trainable: Name -> parameter; the names are the keys of the sums.
        strategy: "auto" chooses per layer from shapes (cost.py); "keep", "ghost" or "lean" force
            one way; a mapping says it weight by weight, as an earlier engine's `strategies` did.
            All are exact: only rounding and cost differ.
        groups: A partition of the names, to be clipped by a norm each instead of by one norm of
            all;
            `clip` then gets norms [b, groups] and returns factors of that shape.
        ratios: Constants of the cost model on this machine.

    Raises:
        ValueError: Anything without an exact rule; the message names the module and the reason.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: dict[str, nn.Parameter],
        *,
        strategy: str | Mapping[str, str] = "auto",
        groups: Sequence[Sequence[str]] | None = None,
        ratios: Ratios = USUAL,
    ) -> None:
        check_strategy(strategy)
        check_groups(trainable, groups)
        self._layers, self._tables = find_layers(model, trainable)
        taken = next((name for name, module in model.named_modules() if module in _TAPPED), None)
        if taken is not None:
            raise ValueError(
                f"{taken or type(model).__name__}: another engine is open on this model; close it"
                " first"
            )
        self._trainable = dict(trainable)
        self._strategy = strategy
        self._layout = Layout(
            self._trainable, self._layers, [table.name for table in self._tables], groups, ratios
        )
        self._anchor = torch.zeros(
            (), dtype=self._layout.dtype, device=self._layout.device, requires_grad=True
        )
        self._step: Step | Watch | None = None
        self._model = model
        self._busy = False
        self._frozen = [(p, p.requires_grad) for p in model.parameters()]
        self._facts = {name: (p.shape, p.dtype, p.device) for name, p in self._trainable.items()}
        self._modules = list(model.modules())
        _TAPPED.update(self._modules)
        for p, _ in self._frozen:
            p.requires_grad_(False)
        # prepend: another hook must not stand between the layer's output and the tap
        self._hooks = [
            layer.module.register_forward_hook(self._tap(layer), prepend=True, with_kwargs=True)
            for layer in self._layers
        ]
        self.device = self._layout.device
        # name of a weight -> how its norms were computed in the last step; follows from shapes,
        # reveals nothing of data
        self.strategies: dict[str, str] = {}
        self._open = True

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the hooks and restore `requires_grad`; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        self._step = None
        for hook in self._hooks:
            hook.remove()
        for p, required in self._frozen:
            p.requires_grad_(required)
        for module in self._modules:
            _TAPPED.discard(module)
        self._hooks, self._frozen, self._modules = [], [], []

    def clipped_sum(
        self,
        row_losses: Callable[[Any], Tensor],
        batch: Any,
        *,
        draws: int = 1,
        clip: Callable[[Tensor], Tensor],
        micro_batch: int | None = None,
        rounding: Grid | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """S = sum_i factor_i g_i, g_i the gradient of the mean of record i's `draws` row losses.

        An empty batch gives zeros and does not call `row_losses`. A record with a non-finite loss
        or gradient adds exactly zero. With `rounding` one record moves the integers by at most
        `bound` in L2 norm, computed as they are: see sums.py for the proof. The norms are PRIVATE:
        they depend on single records and must not be logged or released.

        Args:
            row_losses: `row_losses(part)` -> [b * draws] losses, one per row, record-major
                (repeat_interleave), not reduced. Its randomness must belong to the record, not to
                its
                place in the batch.
            batch: `len()` = B records, `batch[i:j]` slices by record.
            draws: Rows of each record.
            clip: Norms fp64 [b] (inf for a rejected record) -> factors [b].
            micro_batch: The most records per backward pass; microbatches are cut by position alone,
                whatever the records are.
            rounding: The grid of the sums, of which a unit's clipped gradients fill at most
                `bound` / (1 + slack) units.

        Returns:
            (name -> sum, int64 in grid units, or fp64 without `rounding`, in the parameter's shape;
            norms
            fp64 [B] or [B, groups]).

        Raises:
            ValueError: A scalar loss, a wrong number of rows, or rows that are not laid out by
                record.
            RuntimeError: A trainable tensor was not reached in the backward pass; parameters were
                replaced, moved or thawed since construction; or the engine is closed.
        """
        self._check(draws, micro_batch)
        layout, size = self._layout, len(batch)
        sums = Sums(layout, rounding)
        empty = (0, layout.groups) if layout.grouped else (0,)
        norms = [torch.zeros(empty, dtype=torch.float64, device=layout.device)]
        self._busy = True
        try:
            passes = -(-size // (micro_batch or max(size, 1)))
            # as even as possible: a small rest would cost nearly a whole pass
            for i in range(passes):
                part = batch[i * size // passes : (i + 1) * size // passes]
                norms.append(self._micro(row_losses, part, draws, clip, sums))
        finally:
            self._step = None
            self._busy = False
        return sums.named(), torch.cat(norms)

    def _micro(
        self,
        row_losses: Callable[[Any], Tensor],
        part: Any,
        draws: int,
        clip: Callable[[Tensor], Tensor],
        sums: Sums,
    ) -> Tensor:
        known = proven(row_losses, self._model, self._trainable, draws)
        done = self._backward(row_losses, part, draws, sums, known)
        if done is None:  # its rows were never tried: on three records, which is as good as on all
            known.add(self._tried(row_losses, part[0 : min(3, len(part))], draws))
            done = self._backward(row_losses, part, draws, sums, known)
        if done is None:
            raise ValueError(
                "the rows of its layers do not grow with the records: dim 0 must be records x"
                " draws, or as many rows for each record, record-major"
            )
        step, losses, broadcast = done
        records = len(part)
        ways = step.ways or {}
        self.strategies = {name: way for layer, way in ways.items() if (name := layer.weight)}
        for name, grad in broadcast.items():
            if grad is not None:
                step.broadcast(name, grad)
        missed = [name for name in self._trainable if name not in step.reached]
        if missed:
            raise RuntimeError(
                f"{missed[0]}: not reached in the backward pass ({len(missed)} of"
                f" {len(self._trainable)} trainable tensors); its layer was skipped, merged, or its"
                " weight is read past the module"
            )
        finite = torch.isfinite(losses.detach()).view(records, draws).all(1)
        with torch.no_grad():
            return step.finish(clip, finite, sums)

    def _backward(
        self,
        row_losses: Callable[[Any], Tensor],
        part: Any,
        draws: int,
        sums: Sums,
        known: set[Calls],
    ) -> tuple[Step, Tensor, dict[str, Tensor | None]] | None:
        """One pass.

        Returns:
            (step, losses, gradients of the broadcast parameters' copies), or None, before its
            backward half, if nobody knows yet that its rows belong to the records that it takes
            them for.

        Raises:
            RuntimeError: The losses depend on no layer.
        """
        records = len(part)
        step = self._step = Step(self._layout, self._strategy, records, draws, sums.slack)
        with torch.enable_grad(), placed(self._tables, records, draws) as leaves:
            losses = check_losses(row_losses(part), records, draws)
            check_precision(self._anchor)  # row_losses may have left mixed precision on
            if not losses.requires_grad:
                raise RuntimeError(
                    "the losses do not depend on any tapped layer: no trainable tensor was reached"
                )
            if records > 1 and tuple(step.calls) not in known:
                return None
            # autograd.grad, not backward: nothing is written to .grad, and reentrant checkpointing
            # refuses itself
            step.start()
            grads = torch.autograd.grad(
                losses.sum() / draws, [self._anchor, *leaves.values()], allow_unused=True
            )
        step.collecting = False
        return step, losses, dict(zip(leaves, grads[1:], strict=True))

    def _tried(self, row_losses: Callable[[Any], Tensor], part: Any, draws: int) -> Calls:
        """Returns the layers' calls in a pass whose rows were seen to be laid out by record.

        Raises:
            ValueError: They are not: a record's loss has a gradient in other rows than its own.
        """
        watch = self._step = Watch(len(part), draws)
        with torch.enable_grad(), placed(self._tables, len(part), draws) as leaves:
            losses = check_losses(row_losses(part), len(part), draws)
            apart(watch, losses, self._anchor, leaves)
        return tuple(watch.calls)

    def _tap(self, layer: Layer) -> Callable[..., Any]:
        needs_input = layer.weight is not None
        embeds, norm = isinstance(layer.module, nn.Embedding), isinstance(layer.module, NORMS[1:])
        dims = 1 if embeds else 4 if isinstance(layer.module, CONVS) else 2

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Any:
            step = self._step
            if step is None or not torch.is_grad_enabled():
                return None
            x = args[0] if args else next(iter(kwargs.values()))
            if x.dim() < dims:
                raise ValueError(f"{layer.path}: no rule for an input of shape {tuple(x.shape)}")
            if norm and x.dim() <= len(module.normalized_shape):
                raise ValueError(f"{layer.path}: normalises over the rows of the batch")
            if x.shape[0] % step.records:
                raise ValueError(
                    f"{layer.path}: {x.shape[0]} rows for {step.records} records with {step.draws}"
                    " draws; dim 0 must be equally many rows for each record, record-major"
                )
            if not step.collecting:  # what checkpoints call again is no further call
                step.calls.append((layer.path, x.shape[0] // step.records))
            if needs_input:
                step.expect(layer, x, out)
            return Tap.apply(out, x.detach() if needs_input else None, self._anchor, step, layer)

        return hook

    def _check(self, draws: int, micro_batch: int | None) -> None:
        if not self._open:
            raise RuntimeError("the engine is closed")
        if self._busy:
            raise RuntimeError("clipped_sum was called from within row_losses")
        check_counts(draws, micro_batch)
        check_precision(self._anchor)
        owned = [
            (x.module, attr, name)
            for x in self._layers
            for attr, name in (("weight", x.weight), ("bias", x.bias))
        ]
        owned += [(table.module, table.attr, table.name) for table in self._tables]
        for module, attr, name in owned:
            if name is None:
                continue
            p = self._trainable[name]
            if (
                module._parameters.get(attr) is not p
                or (p.shape, p.dtype, p.device) != self._facts[name]
            ):
                raise RuntimeError(
                    f"{name}: replaced, moved or re-typed since the engine was built; build it anew"
                )
            if p.requires_grad:
                raise RuntimeError(
                    f"{name}: requires_grad was switched on while the engine is open"
                )
            if p.grad is not None:
                raise RuntimeError(f"{name}: .grad is set; clear it before the next clipped sum")
