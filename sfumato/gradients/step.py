"""One micro-batch: collects (input, output gradient) pairs in the backward pass, then norms, factors and sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from . import rules
from .cost import Work, choose
from .layout import Layout, Sums
from .owners import Layer

# Numbers of per-record gradients that exist at once when a norm is taken from gradients that are not kept.
LEAN_ROOM = 2**22
# Numbers whose squares are added in single precision.
RUN = 1024


class Step:
    """State of one micro-batch of `records` records and `draws` rows each; dropped as a whole afterwards."""

    def __init__(self, layout: Layout, strategy: str, records: int, draws: int) -> None:
        self.layout, self.strategy, self.records, self.draws = layout, strategy, records, draws
        self.collecting = False
        self.reached: set[str] = set()
        self.ways = layout.ways.get(draws)
        self.kept: dict[str, Tensor] = {}
        self.pairs: dict[Layer, list[tuple[Tensor, Tensor]]] = {}
        self.vectors = layout.buffer("", records, layout.width)
        self._calls: dict[Layer, list[tuple[torch.Size, int, list[Layer]]]] = {}
        self._users = WeakIdKeyDictionary()

    def expect(self, layer: Layer, x: Tensor, out: Tensor) -> None:
        """One call of one layer in the forward pass; only shapes are looked at."""
        if self.ways is not None or not isinstance(layer.module, (nn.Linear, nn.Conv2d)):
            return  # decided before, or a layer with one way only
        users = self._users.setdefault(x, [])
        users.append(layer)
        n = rules.positions(layer.module, out, self.records)
        self._calls.setdefault(layer, []).append((x.shape, n, users))

    def start(self) -> None:
        """The backward pass begins: choose how each weight's norms are computed, unless an earlier step has."""
        self.collecting = True
        if self.ways is not None:
            return
        work = []
        for layer, calls in self._calls.items():
            n = sum(positions for _, positions, _ in calls)
            shape, _, users = calls[0]
            gram = rules.gram_work(layer.module, shape, n, self.records, len(users))
            inputs = sum(shape.numel() // (self.records * len(users)) for shape, _, users in calls)
            kernel = isinstance(layer.module, nn.Conv2d) and not rules.pointwise(layer.module)
            work.append(Work(n, layer.module.weight.numel(), gram, inputs, rules.unfolded(layer.module, n), kernel))
        ways = choose(work) if self.strategy == "auto" else [self.strategy] * len(work)
        self.ways = self.layout.ways[self.draws] = dict(zip(self._calls, ways, strict=True))

    def arrive(self, layer: Layer, x: Tensor | None, g: Tensor) -> None:
        """One call of one layer, met in the backward pass: x its input, g the gradient at its output."""
        if not self.collecting:
            raise RuntimeError(f"{layer.path}: reached by a backward pass that is not the engine's own")
        module, dtype = layer.module, self.layout.dtype
        wide = g.to(dtype)
        if layer.bias is not None:
            self._vector(layer.bias, rules.sum_positions(module, wide, self.records))
        if layer.weight is None:
            return
        if isinstance(module, rules.NORMS):
            eps = module.eps if module.eps is not None else torch.finfo(x.dtype).eps
            self._vector(layer.weight, rules.norm_weight(module, x.to(dtype), wide, self.records, eps))
        elif self.ways.get(layer) == "keep":
            rows = module.weight.shape[0]
            first = layer.weight not in self.kept
            if first:  # while the backward pass frees activations: it raises the peak by nothing
                self.kept[layer.weight] = x.new_empty(self.records, rows, module.weight.numel() // rows, dtype=dtype)
            rules.keep_weight(module, x.to(dtype), wide, self.kept[layer.weight], first=first)
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
        """Norms of all records, then `sums` += sum_i factor_i g_i; returns norms fp64 [B], or [B, groups].

        `finite` bool [B] marks records whose losses are finite; any other non-finite part rejects a record too.
        """
        norms = self._squares().sqrt_().t()
        finite = finite & torch.isfinite(norms).all(1)
        norms = norms.masked_fill(~finite[:, None], torch.inf)
        norms = norms if self.layout.grouped else norms[:, 0]
        factors = clip(norms)
        if not isinstance(factors, Tensor) or factors.shape != norms.shape:
            raise ValueError("clip must return one factor per norm")
        factors = torch.where(finite.view(-1, *(1,) * (norms.dim() - 1)), factors.to(norms.dtype), 0.0)
        if not bool((torch.isfinite(factors) & (factors >= 0)).all()):
            raise ValueError("clip returned a negative or non-finite factor for a finite norm")
        self._sum(narrow(factors, self.layout.dtype).view(self.records, self.layout.groups), finite, sums)
        return norms

    def _squares(self) -> Tensor:
        """Squared norms fp64 [groups, B] over all trainable tensors of each group."""
        layout = self.layout
        squares = torch.zeros(layout.groups, self.records, dtype=torch.float64, device=layout.device)
        held = [(group, self.vectors[:, columns]) for columns, group in layout.vector_blocks()]
        held += [(layout.group[name], kept.flatten(1)) for name, kept in self.kept.items()]
        for (group, _), norms in zip(held, _norms([gradients for _, gradients in held]), strict=True):
            squares[group] += norms.square()
        grams: dict[tuple, Tensor] = {}
        doubtful: list[tuple[Layer, Tensor, Tensor]] = []
        for layer, pairs in self.pairs.items():
            place = squares[layout.group[layer.weight]]
            if isinstance(layer.module, nn.Embedding):
                ids = torch.cat([x.reshape(self.records, x.numel() // self.records) for x, _ in pairs], 1)
                g = torch.cat([rules.rows_to_records(g.to(layout.dtype), self.records) for _, g in pairs], 1)
                place += rules.embedding_square(ids, g, layer.module.num_embeddings)
            elif self.ways.get(layer) == "lean":
                place += self._lean_norms(layer).square()
            else:
                square, doubt = rules.gram_square(*self._grams(layer, pairs, grams))
                doubtful.append((layer, square.double(), doubt))
        if doubtful and bool(torch.stack([doubt for *_, doubt in doubtful]).any()):
            for layer, square, doubt in doubtful:
                self._instantiate(layer, square, doubt)
        for layer, square, _ in doubtful:
            squares[layout.group[layer.weight]] += square
        return squares

    def _lean_norms(self, layer: Layer) -> Tensor:
        """Norms [B] from gradients that are made a few records at a time and dropped."""
        weight = layer.module.weight
        rows, room = weight.shape[0], min(self.records, max(1, LEAN_ROOM // weight.numel()))
        norms = []
        for start in range(0, self.records, room):
            some = slice(start, min(start + room, self.records))
            out = self.layout.buffer("lean", some.stop - some.start, rows, weight.numel() // rows)
            for i, (x, g) in enumerate(self.pairs[layer]):
                x, g = (self._rows(t)[some].flatten(0, 1).to(self.layout.dtype) for t in (x, g))
                rules.keep_weight(layer.module, x, g, out, first=i == 0)
            norms += _norms([out.flatten(1)])
        wide = self.layout.dtype
        most = sum(rules.token_norms(layer.module, x.to(wide), g.to(wide), self.records) for x, g in self.pairs[layer])
        return torch.maximum(torch.cat(norms), rules.CANCELLED[wide] * most)

    def _rows(self, t: Tensor) -> Tensor:
        """[R, ...] -> [B, R / B, ...]"""
        return t.reshape(self.records, t.shape[0] // self.records, *t.shape[1:])

    def _folded(self, layer: Layer, records: list[int]) -> tuple[Tensor, Tensor]:
        """All calls of a layer side by side: X [b, n, d], G [b, n, p], for the given records only."""
        both = []
        for pair in self.pairs[layer]:
            x, g = (self._rows(t)[records].flatten(0, 1).to(self.layout.dtype) for t in pair)
            both.append(
                (rules.columns(layer.module, x, len(records)), rules.output_columns(layer.module, g, len(records)))
            )
        return torch.cat([x for x, _ in both], 1), torch.cat([g for _, g in both], 1)

    def _grams(
        self, layer: Layer, pairs: list[tuple[Tensor, Tensor]], grams: dict[tuple, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Gram matrices [B, n, n] of inputs and of output gradients, over all calls of the layer."""
        if len(pairs) > 1:
            return tuple(rules.gram(t) for t in self._folded(layer, list(range(self.records))))
        (x, g), dtype = pairs[0], self.layout.dtype
        # queries, keys and values share their input: its Gram is made once (the tensors live until the step ends)
        own = layer if isinstance(layer.module, nn.Conv2d) else None
        key = (own, x.data_ptr(), x.shape, x.stride(), x.dtype)
        if key not in grams:
            grams[key] = rules.input_gram(layer.module, x.to(dtype), self.records)
        return grams[key], rules.output_gram(layer.module, g.to(dtype), self.records)

    def _instantiate(self, layer: Layer, square: Tensor, doubt: Tensor) -> None:
        """Overwrite the doubtful squares by instantiation in fp64, a few records at a time."""
        alive = torch.zeros_like(doubt)
        for x, g in self.pairs[layer]:
            alive |= (g != 0).reshape(self.records, g.numel() // self.records).any(1)
            # A zero gradient beside an input that is not finite is 0 * inf: autograd gives NaN, and so must the norm.
            alive |= ~torch.isfinite(x).reshape(self.records, x.numel() // self.records).all(1)
        square.masked_fill_(doubt & ~alive, 0.0)
        todo = (doubt & alive).nonzero().flatten().tolist()
        room = max(1, LEAN_ROOM // layer.module.weight.numel())
        for start in range(0, len(todo), room):
            some = todo[start : start + room]
            square[some] = rules.exact_norm(*self._folded(layer, some)).square()

    def _sum(self, factors: Tensor, finite: Tensor, sums: Sums) -> None:
        """Add the weighted sums; `factors` [B, groups]. What is no longer needed is dropped as the sums come into being."""
        layout, reject = self.layout, None if bool(finite.all()) else ~finite
        if reject is not None:
            for block in (self.vectors, *(kept.flatten(1) for kept in self.kept.values())):
                block.masked_fill_(reject[:, None], 0.0)
        for columns, group in layout.vector_blocks():
            sums.vectors[columns].addmv_(self.vectors[:, columns].t(), factors[:, group])
        while self.kept:
            name, kept = self.kept.popitem()
            kept, factor = kept.flatten(1).t(), factors[:, layout.group[name]]
            total = sums.weights.get(name)
            sums.weights[name] = torch.mv(kept, factor) if total is None else total.addmv_(kept, factor)
        while self.pairs:
            layer, pairs = self.pairs.popitem()
            factor = factors[:, layout.group[layer.weight]].contiguous()
            total = sums.weights.get(layer.weight)
            while pairs:
                x, g = pairs.pop()
                g = self._masked(g.to(layout.dtype), reject)
                if isinstance(layer.module, nn.Embedding):
                    g = rules.rows_to_records(g, self.records) * factor[:, None, None]
                    total = torch.zeros_like(layer.module.weight, dtype=layout.dtype) if total is None else total
                    total.index_add_(0, x.flatten(), g.flatten(0, 1))
                else:
                    x = self._masked(x.to(layout.dtype), reject)
                    total = rules.weighted_weight(layer.module, x, g, factor, total)
            sums.weights[layer.weight] = total

    def _masked(self, t: Tensor, reject: Tensor | None) -> Tensor:
        """Zero rows for rejected records, before any product: 0 * inf is not 0."""
        if reject is None:
            return t
        rows = reject.repeat_interleave(t.shape[0] // self.records)
        return t.masked_fill(rows.view(-1, *(1,) * (t.dim() - 1)), 0.0)


def narrow(factors: Tensor, dtype: torch.dtype) -> Tensor:
    """Factors in the precision of the sums; one that would be rounded by more than a bit of it becomes 0."""
    factors = factors.to(dtype)
    return torch.where(factors >= torch.finfo(dtype).tiny, factors, 0.0)


def _norms(every: list[Tensor]) -> list[Tensor]:
    """Norms fp64 [B] of each of several blocks of gradients [B, numbers]."""
    if not every:
        return []
    norms = torch.stack([_norm(gradients) for gradients in every])
    if not bool(torch.isfinite(norms).all()):
        # fp32 squares overflow above 1e19 although the gradient itself is finite
        for gradients, row in zip(every, norms, strict=True):
            bad = ~torch.isfinite(row)
            row[bad] = torch.linalg.vector_norm(gradients[bad], dim=1, dtype=torch.float64)
    return list(norms)


def _norm(gradients: Tensor) -> Tensor:
    """Norms fp64 [B]: of runs in fp32, then of those in fp64. A long run added up in fp32 alone comes out too small."""
    even = gradients.shape[1] - gradients.shape[1] % RUN
    norm = torch.linalg.vector_norm(gradients[:, even:], dim=1).double()
    if even:
        runs = torch.linalg.vector_norm(gradients[:, :even].unflatten(1, (even // RUN, RUN)), dim=2)
        norm = torch.hypot(norm, torch.linalg.vector_norm(runs, dim=1, dtype=torch.float64))
    return norm
