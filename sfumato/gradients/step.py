"""One microbatch: (input, output gradient) pairs from the backward pass, then norms and sums."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from . import grams, rules
from .cost import USUAL, Work, decide
from .layout import Layout
from .owners import Layer
from .sums import LOT, ROOM, Sums, close_enough, lengths, over

# Numbers of per-record gradients that exist at once when a norm is taken from gradients that are
# not kept.
LEAN_ROOM = 2**22


class Step:
    """State of one microbatch of `records` records with `draws` rows each; dropped afterwards."""

    def __init__(
        self,
        layout: Layout,
        strategy: str | Mapping[str, str],
        records: int,
        draws: int,
        slack: float,
    ) -> None:
        self.layout, self.strategy, self.records, self.draws, self.slack = (
            layout,
            strategy,
            records,
            draws,
            slack,
        )
        self.collecting = False
        # (path of a layer, rows of a record) for each call in the forward pass
        self.calls: list[tuple[str, int]] = []
        self.reached: set[str] = set()
        self.ways = layout.ways.get(draws)
        self.kept: dict[str, Tensor] = {}
        self.pairs: dict[Layer, list[tuple[Tensor, Tensor]]] = {}
        self.vectors = layout.buffer("", records, layout.width)
        self._cells: dict[Layer, tuple[Tensor, Tensor]] = {}
        self._calls: dict[Layer, list[tuple[torch.Size, int, list[Layer]]]] = {}
        self._users = WeakIdKeyDictionary()

    def expect(self, layer: Layer, x: Tensor, out: Tensor) -> None:
        """One call of one layer in the forward pass; only shapes are looked at."""
        if self.ways is not None or not isinstance(layer.module, (nn.Linear, *rules.CONVS)):
            return  # decided before, or a layer with one way only
        users: list[Layer] = cast(Any, self._users).setdefault(x, [])
        users.append(layer)
        n = rules.positions(layer.module, out, self.records)
        self._calls.setdefault(layer, []).append((x.shape, n, users))

    def start(self) -> None:
        """Chooses how each weight's norms are computed, unless an earlier step has.

        Called when the backward pass begins.
        """
        self.collecting = True
        if self.ways is not None:
            return
        work: list[Work] = []
        for layer, calls in self._calls.items():
            n = sum(positions for _, positions, _ in calls)
            shape, _, users = calls[0]
            product = rules.is_product(layer.module)
            gram = (
                grams.gram_work(layer.module, shape, n, self.records, len(users))
                if product
                else None
            )
            inputs = sum(shape.numel() // (self.records * len(users)) for shape, _, users in calls)
            kernel = isinstance(layer.module, rules.CONVS) and not rules.pointwise(layer.module)
            work.append(
                Work(
                    n,
                    layer.module.weight.numel(),
                    gram,
                    inputs,
                    rules.unfolded(layer.module, n),
                    kernel,
                )
            )
        names = [layer.weight for layer in self._calls]
        ways = decide(self.strategy, names, work, self.layout.ratios)
        self.ways = self.layout.ways[self.draws] = dict(zip(self._calls, ways, strict=True))

    def arrive(self, layer: Layer, x: Tensor | None, g: Tensor) -> None:
        """Receives one call of one layer in the backward pass.

        Args:
            layer: The layer.
            x: Its input.
            g: The gradient at its output.

        Raises:
            RuntimeError: The backward pass is not the engine's own.
        """
        if not self.collecting:
            raise RuntimeError(
                f"{layer.path}: reached by a backward pass that is not the engine's own"
            )
        module, dtype = layer.module, self.layout.dtype
        if layer.bias is not None:
            self._vector(layer.bias, rules.sum_positions(module, g, self.records, dtype))
        if layer.weight is None or x is None:
            return
        if isinstance(module, rules.NORMS):
            eps = module.eps if module.eps is not None else torch.finfo(x.dtype).eps
            self._vector(
                layer.weight, rules.norm_weight(module, x.to(dtype), g.to(dtype), self.records, eps)
            )
        elif self._way(layer) == "keep":
            rows = module.weight.shape[0]
            first = layer.weight not in self.kept
            if first:  # while the backward pass frees activations: it raises the peak by nothing
                self.kept[layer.weight] = x.new_empty(
                    self.records, rows, module.weight.numel() // rows, dtype=dtype
                )
            rules.keep_weight(
                module, x.to(dtype), g.to(dtype), self.kept[layer.weight], first=first
            )
        else:
            self.pairs.setdefault(layer, []).append((x, g))
        self.reached.add(layer.weight)

    def broadcast(self, name: str, grad: Tensor) -> None:
        """The whole gradient [B, *shape] of a broadcast parameter's copies."""
        self._vector(name, grad.reshape(self.records, grad.numel() // self.records))

    def _vector(self, name: str, value: Tensor) -> None:
        place = self.vectors[:, self.layout.span[name]]
        if name in self.reached:
            place.add_(value)
        else:
            place.copy_(value)
        self.reached.add(name)

    def finish(self, clip: Callable[[Tensor], Tensor], finite: Tensor, sums: Sums) -> Tensor:
        """Computes the norms of all records, then `sums` += sum_i factor_i g_i.

        No branch here that depends on values changes a bit of what another record adds (sums.py).

        Args:
            clip: As in `Engine.clipped_sum`.
            finite: bool [B], the records whose losses are finite; any other non-finite part rejects
                a
                record too.
            sums: The sums of the logical step.

        Returns:
            Norms fp64 [B], or [B, groups].

        Raises:
            ValueError: `clip` returned another shape, or a factor that is negative or not finite.
        """
        norms = self._squares().sqrt_().t()
        finite = finite & torch.isfinite(norms).all(1)
        norms = norms.masked_fill(~finite[:, None], torch.inf)
        norms = norms if self.layout.grouped else norms[:, 0]
        factors = clip(norms)
        if not isinstance(factors, Tensor) or factors.shape != norms.shape:
            raise ValueError("clip must return one factor per norm")
        factors = torch.where(
            finite.view(-1, *(1,) * (norms.dim() - 1)), factors.to(norms.dtype), 0.0
        )
        if not bool((torch.isfinite(factors) & (factors >= 0)).all()):
            raise ValueError("clip returned a negative or non-finite factor for a finite norm")
        factors = narrow(factors, self.layout.dtype).view(self.records, self.layout.groups)
        self._sum(factors, finite, sums)
        return norms

    def _squares(self) -> Tensor:
        """Returns squared norms fp64 [groups, B] over all trainable tensors of each group.

        An upper bound where no gradient is computed.
        """
        layout = self.layout
        squares = torch.zeros(
            layout.groups, self.records, dtype=torch.float64, device=layout.device
        )
        held = [(group, self.vectors[:, columns]) for columns, group in layout.vector_blocks()]
        held += [(layout.group[name], kept.flatten(1)) for name, kept in self.kept.items()]
        for (group, _), norms in zip(
            held, rules.norms([gradients for _, gradients in held]), strict=True
        ):
            squares[group] += norms.square()
        shared: dict[tuple[Any, ...], Tensor] = {}
        doubtful: list[tuple[Layer, Tensor, Tensor, Tensor]] = []
        for layer, pairs in self.pairs.items():
            group = layout.group[layer.own_weight]
            if isinstance(layer.module, nn.Embedding):
                ids = torch.cat(
                    [x.reshape(self.records, x.numel() // self.records) for x, _ in pairs], 1
                )
                g = torch.cat(
                    [rules.rows_to_records(g.to(layout.dtype), self.records) for _, g in pairs], 1
                )
                cells, rows = self._cells[layer] = rules.embedding_rows(
                    ids, g, layer.module.num_embeddings, layer.module.padding_idx
                )
                square = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
                squares[group].index_add_(0, cells // layer.module.num_embeddings, square)
            elif self._way(layer) == "lean":
                for some, made in self._made(layer):
                    squares[group, some] += rules.norms([made])[0].square()
            else:
                found = grams.gram_square(
                    *self._grams(layer, pairs, shared), grams.gram_terms(layer.module)
                )
                doubtful.append((layer, *found))
        if doubtful and bool(torch.stack([doubt for _, _, doubt, _ in doubtful]).any()):
            for each in doubtful:
                self._instantiate(*each)
        self._passed = torch.zeros(2, *squares.shape, dtype=torch.float64, device=layout.device)
        self._sizes: dict[Layer, Tensor] = {}
        for layer, square, _, (sizes, inputs) in doubtful:
            group = layout.group[layer.own_weight]
            squares[group] += square
            if not self._remade(layer):
                p, numbers = layer.module.weight.shape[0], layer.module.weight.numel()
                below = (
                    4
                    * torch.finfo(layout.dtype).tiny
                    * (p**0.5 * inputs + self._positions(layer) * numbers**0.5)
                )
                self._passed[:, group] += torch.stack([square, below])
                self._sizes[layer] = sizes
        return squares

    def _positions(self, layer: Layer) -> int:
        """Positions of a record over all calls of a Linear or Conv2d."""
        return sum(rules.positions(layer.module, g, self.records) for _, g in self.pairs[layer])

    def _made(self, layer: Layer) -> Iterator[tuple[slice, Tensor]]:
        """Yields per-record gradients [b, numbers], computed a few records at a time.

        Always the same few, with the same bits.
        """
        weight = layer.module.weight
        rows, room = weight.shape[0], min(self.records, max(1, LEAN_ROOM // weight.numel()))
        for start in range(0, self.records, room):
            some = slice(start, min(start + room, self.records))
            out = self.layout.buffer("lean", some.stop - some.start, rows, weight.numel() // rows)
            for i, (x, g) in enumerate(self.pairs[layer]):
                x, g = (self._rows(t)[some].flatten(0, 1).to(self.layout.dtype) for t in (x, g))
                rules.keep_weight(layer.module, x, g, out, first=i == 0)
            yield some, out.flatten(1)

    def _remade(self, layer: Layer) -> bool:
        """Returns whether a weight's sum is that of gradients computed again, by the shapes alone.

        Lean ones, and products that are too long.
        """
        if isinstance(layer.module, nn.Embedding) or self._way(layer) == "lean":
            return True
        records = min(self.records, LOT)
        terms = self._few(layer) * self._positions(layer) + records * len(self.pairs[layer]) + 2
        return not close_enough(terms, records, self.slack)

    def _way(self, layer: Layer) -> str | None:
        """How the norms of a layer's weight are computed; None if it has one way only."""
        return (self.ways or {}).get(layer)

    def _rows(self, t: Tensor) -> Tensor:
        """Returns [B, R / B, ...] for [R, ...]."""
        return t.reshape(self.records, t.shape[0] // self.records, *t.shape[1:])

    def _folded(self, layer: Layer, record: int) -> tuple[Tensor, Tensor]:
        """All calls of a layer side by side: X [1, n, d], G [1, n, p], for one record."""
        both = []
        for pair in self.pairs[layer]:
            x, g = (self._rows(t)[record].to(self.layout.dtype) for t in pair)
            both.append(
                (rules.columns(layer.module, x, 1), rules.output_columns(layer.module, g, 1))
            )
        return torch.cat([x for x, _ in both], 1), torch.cat([g for _, g in both], 1)

    def _grams(
        self,
        layer: Layer,
        pairs: list[tuple[Tensor, Tensor]],
        shared: dict[tuple[Any, ...], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns Gram matrices [B, n, n] of inputs and output gradients, over all calls."""
        dtype = self.layout.dtype
        if len(pairs) > 1:
            sides = (
                [rules.columns(layer.module, x.to(dtype), self.records) for x, _ in pairs],
                [rules.output_columns(layer.module, g.to(dtype), self.records) for _, g in pairs],
            )
            inputs, outputs = (grams.gram(torch.cat(side, 1)) for side in sides)
            return inputs, outputs
        x, g = pairs[0]
        # queries, keys and values share their input: its Gram is made once (the tensors live until
        # the step ends)
        own = layer if isinstance(layer.module, nn.Conv2d) else None
        key = (own, x.data_ptr(), x.shape, x.stride(), x.dtype)
        if key not in shared:
            shared[key] = grams.input_gram(layer.module, x.to(dtype), self.records)
        return shared[key], grams.output_gram(layer.module, g.to(dtype), self.records)

    def _instantiate(self, layer: Layer, square: Tensor, doubt: Tensor, sizes: Tensor) -> None:
        """Overwrites the doubtful squares by instantiation in fp64.

        Record by record, so that none depends on which others are in doubt.
        """
        alive = torch.zeros_like(doubt)
        for x, g in self.pairs[layer]:
            alive |= (g != 0).reshape(self.records, g.numel() // self.records).any(1)
            # A zero gradient beside an input that is not finite is 0 * inf: autograd gives NaN, and
            # so must the norm.
            alive |= ~torch.isfinite(x).reshape(self.records, x.numel() // self.records).all(1)
        square.masked_fill_(doubt & ~alive, 0.0)
        sizes.masked_fill_(doubt & ~alive, 0.0)
        for record in (doubt & alive).nonzero().flatten().tolist():
            norm, own = grams.exact_norm(*self._folded(layer, record))
            square[record], sizes[:, record] = norm[0].square(), own[:, 0]

    def _sum(self, factors: Tensor, finite: Tensor, sums: Sums) -> None:
        """Add the weighted sums; `factors` [B, groups]."""
        reject = None if bool(finite.all()) else ~finite
        if reject is not None:
            for block in (self.vectors, *(kept.flatten(1) for kept in self.kept.values())):
                block.masked_fill_(reject[:, None], 0.0)
            for layer, (cells, rows) in self._cells.items():
                rows.masked_fill_(reject[cells // layer.module.num_embeddings][:, None], 0.0)
            self._passed.masked_fill_(reject, 0.0)
        squares = self._add_made(sums, factors, reject, 1)
        passed, below = self._passed.transpose(1, 2)
        if sums.grid is not None:
            late = over(sums.grid, squares, (passed * factors.square()).sum(1))
            # no norm is wrong by so much, so this is not reached; and if it were, it would still be
            # exact
            if bool(late.any()):
                self._add_made(sums, factors.masked_fill(~late[:, None], 0.0), reject, -1)
                factors = factors.masked_fill(late[:, None], 0.0)
        self._add_products(factors, (below * (factors > 0)).sum(1), reject, sums)

    def _add_products(
        self, factors: Tensor, below: Tensor, reject: Tensor | None, sums: Sums
    ) -> None:
        """Add the weights' sums that no record's own gradient is made for, lot by lot."""
        layers = list(self._sizes)
        if not layers:
            return
        weights = torch.stack(
            [factors[:, self.layout.group[layer.own_weight]] for layer in layers], 1
        )
        sizes = torch.stack([self._sizes[layer] for layer in layers], 1)
        # a rejected record's sizes may be anything: it adds zeros. Products are made in grid units:
        # what underflows there is `step` times as much, if that is more; what overflows there, or
        # could on the way, is left to float64
        sizes = torch.where(weights > 0, weights * sizes, 0.0).masked_fill(
            weights > 1e30 * sums.step, torch.inf
        )
        lots = [
            slice(start, min(start + LOT, self.records)) for start in range(0, self.records, LOT)
        ]
        together = lengths(
            sums.grid if self.layout.dtype == torch.float32 else None,
            torch.stack([sizes[lot].sum(0) for lot in lots]).cpu(),
            torch.stack([below[lot].sum() for lot in lots]).cpu() * max(1.0, sums.step),
            torch.tensor([self._longest(layer) for layer in layers]),
            min(self.records, LOT),
            torch.tensor([float(layer.module.weight.numel() + USUAL.small) for layer in layers]),
        ).T.tolist()
        for layer, factor, many in zip(
            layers, (weights / sums.step).unbind(1), together, strict=True
        ):
            made = (
                self._products(layer, factor, *each, reject)
                for each in zip(lots, many, strict=True)
            )
            sums.add_products(sums.weight(layer.own_weight), made)

    def _longest(self, layer: Layer) -> int:
        """Positions of a record in the longest call of a Linear or Conv2d."""
        return max(rules.positions(layer.module, g, self.records) for _, g in self.pairs[layer])

    def _products(
        self, layer: Layer, factor: Tensor, lot: slice, together: int, reject: Tensor | None
    ) -> list[Tensor]:
        """Returns one lot's weighted gradients of one weight, as products that the grid can add.

        Products of `together` records in float32, or of others in float64.
        """
        factor = factor[lot].to(self.layout.dtype if together else torch.float64)
        whole = bool(together) and rules.sums_in_place(layer.module, factor)
        passes = -(-len(factor) // (together or self._few(layer)))
        cuts = [i * len(factor) // passes for i in range(passes + 1)]  # as even as possible
        products: list[Tensor] = []
        for x, g in self.pairs[layer]:
            x, g = (
                self._masked(self._rows(t)[lot], reject if reject is None else reject[lot])
                for t in (x, g)
            )
            x, g = x.to(self.layout.dtype), g.to(self.layout.dtype)
            if whole:
                g = g * factor.view(-1, 1, 1, 1, 1)
            for start, end in itertools.pairwise(cuts):
                own_x, own_g = x[start:end].flatten(0, 1), g[start:end].flatten(0, 1)
                if whole:
                    products.append(rules.conv_weight_grad(layer.module, own_x, own_g))
                    continue
                inputs = (
                    rules.columns(layer.module, own_x, end - start).to(factor.dtype).flatten(0, 1)
                )
                grads = (
                    rules.output_columns(layer.module, own_g, end - start)
                    * factor[start:end, None, None]
                )
                products.append(grads.flatten(0, 1).t() @ inputs)
        return products

    def _add_made(self, sums: Sums, factors: Tensor, reject: Tensor | None, sign: int) -> Tensor:
        """Adds all gradients that exist record by record; returns their squares, fp64 [B]."""
        layout, squares = self.layout, torch.zeros_like(factors[:, 0])
        for columns, group in layout.vector_blocks():
            squares += sums.add_rows(
                sums.vectors[columns], self.vectors[:, columns], factors[:, group], sign
            )
        for name, kept in self.kept.items():
            factor = factors[:, layout.group[name]]
            squares += sums.add_rows(sums.weight(name).view(-1), kept.flatten(1), factor, sign)
        for layer in [layer for layer in self.pairs if self._remade(layer)]:
            total, factor = (
                sums.weight(layer.own_weight),
                factors[:, layout.group[layer.own_weight]],
            )
            if layer in self._cells:
                squares += sums.add_cells(total, *self._cells[layer], factor, sign)
                continue
            for some, made in self._made(layer):
                if reject is not None:
                    made.masked_fill_(reject[some, None], 0.0)
                squares[some] += sums.add_rows(total.view(-1), made, factor[some], sign)
        return squares

    def _few(self, layer: Layer) -> int:
        """How many records a product takes at a time, by their numbers in the layer."""
        numbers = sum((x.numel() + g.numel()) // self.records for x, g in self.pairs[layer])
        if isinstance(layer.module, nn.Conv2d):
            numbers *= layer.module.weight.shape[2:].numel()
        return max(1, min(self.records, LOT, ROOM // numbers))

    def _masked(self, t: Tensor, reject: Tensor | None) -> Tensor:
        """Zero rows for rejected records, before any product: 0 * inf is not 0."""
        if reject is None:
            return t
        return t.masked_fill(reject.view(-1, *(1,) * (t.dim() - 1)), 0.0)


def narrow(factors: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns fp64 factors for gradients of `dtype`.

    A factor for which `dtype` has no normal number becomes 0.
    """
    return torch.where(factors >= torch.finfo(dtype).tiny, factors.double(), 0.0)
