"""One micro-batch: collects (input, output gradient) pairs in the backward pass, then norms, factors and sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import rules
from .cost import use_ghost
from .owners import Layer


class Layout:
    """Where each trainable tensor lies in the flat sum, and the grow-only buffers that outlive a step.

    Vectors (biases, normalisation weights) come first and share one matrix [B, width] of per-record gradients,
    so that they cost one norm and one product together.
    """

    def __init__(self, trainable: dict[str, nn.Parameter], layers: list[Layer]) -> None:
        self.dtype = torch.float64 if any(p.dtype == torch.float64 for p in trainable.values()) else torch.float32
        self.device = next(iter(trainable.values())).device
        vectors = {x.bias for x in layers} | {x.weight for x in layers if isinstance(x.module, rules.NORMS)}
        self.span: dict[str, slice] = {}
        end = 0
        for name in sorted(trainable, key=lambda name: name not in vectors):
            self.span[name] = slice(end, end + trainable[name].numel())
            end += trainable[name].numel()
            if name in vectors:
                self.width = end
        self.size = end
        self._buffers: dict[str, Tensor] = {}

    width = 0

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Uninitialised [shape] in a persistent block: fresh large tensors cost more than the arithmetic."""
        size = 1
        for extent in shape:
            size *= extent
        held = self._buffers.get(name)
        if held is None or held.numel() < size:
            held = self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return held[:size].view(shape)


class Step:
    """State of one micro-batch of `records` records and `draws` rows each; dropped as a whole afterwards."""

    def __init__(self, layout: Layout, strategy: str, records: int, draws: int) -> None:
        self.layout, self.strategy, self.records, self.draws = layout, strategy, records, draws
        self.collecting = False
        self.reached: set[str] = set()
        self.kept: dict[str, Tensor] = {}
        self.pairs: dict[Layer, list[tuple[Tensor, Tensor]]] = {}
        self.vectors = layout.buffer("", records, layout.width)

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
        elif isinstance(module, nn.Embedding):
            self.pairs.setdefault(layer, []).append((x, g))
        elif layer in self.pairs or (layer.weight not in self.kept and self._ghost(layer, g)):
            self.pairs.setdefault(layer, []).append((x, g))
        else:
            rows = module.weight.shape[0]
            out = self.layout.buffer(layer.weight, self.records, rows, module.weight.numel() // rows)
            rules.keep_weight(module, x.to(dtype), wide, out, first=layer.weight not in self.kept)
            self.kept[layer.weight] = out
        self.reached.add(layer.weight)

    def _vector(self, name: str, value: Tensor) -> None:
        place = self.vectors[:, self.layout.span[name]]
        if name in self.reached:
            place.add_(value)
        else:
            place.copy_(value)
        self.reached.add(name)

    def _ghost(self, layer: Layer, g: Tensor) -> bool:
        if self.strategy != "auto":
            return self.strategy == "ghost"
        rows = layer.module.weight.shape[0]
        n = rules.positions(layer.module, g, self.records)
        conv = isinstance(layer.module, nn.Conv2d) and not rules.pointwise(layer.module)
        return use_ghost(n, layer.module.weight.numel() // rows, rows, conv=conv)

    def finish(self, clip: Callable[[Tensor], Tensor], finite: Tensor, total: Tensor) -> Tensor:
        """Norms of all records, then `total` [size] += sum_i factor_i g_i; returns norms fp64 [B].

        `finite` bool [B] marks records whose losses are finite; any other non-finite part rejects a record too.
        """
        norms = self._squares().sum(0).sqrt()
        finite = finite & torch.isfinite(norms)
        norms = norms.masked_fill(~finite, torch.inf)
        factors = clip(norms)
        if not isinstance(factors, Tensor) or factors.shape != norms.shape:
            raise ValueError("clip must return one factor per norm")
        factors = torch.where(finite, factors.to(norms.dtype), 0.0)
        if not bool((torch.isfinite(factors) & (factors >= 0)).all()):
            raise ValueError("clip returned a negative or non-finite factor for a finite norm")
        self._sum(factors.to(self.layout.dtype), finite, total)
        return norms

    def _squares(self) -> Tensor:
        """Squared norms fp64 [parts, B] of all trainable tensors together."""
        squares: list[Tensor] = []
        parts = [self.vectors, *(kept.flatten(1) for kept in self.kept.values())]
        norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts]).double()
        if not bool(torch.isfinite(norms).all()):
            # fp32 squares overflow above 1e19 although the gradient itself is finite
            for part, row in zip(parts, norms, strict=True):
                bad = ~torch.isfinite(row)
                row[bad] = torch.linalg.vector_norm(part[bad], dim=1, dtype=torch.float64)
        squares.extend(norms.square())
        grams: dict[tuple, Tensor] = {}
        doubtful: list[tuple[Layer, Tensor, Tensor]] = []
        for layer, pairs in self.pairs.items():
            if isinstance(layer.module, nn.Embedding):
                ids = torch.cat([x.reshape(self.records, x.numel() // self.records) for x, _ in pairs], 1)
                g = torch.cat([rules.rows_to_records(g.to(self.layout.dtype), self.records) for _, g in pairs], 1)
                squares.append(rules.embedding_square(ids, g, layer.module.num_embeddings))
                continue
            square, doubt = self._gram_square(layer, pairs, grams)
            squares.append(square.double())
            doubtful.append((layer, squares[-1], doubt))
        if doubtful and bool(torch.stack([doubt for *_, doubt in doubtful]).any()):
            for layer, square, doubt in doubtful:
                self._instantiate(layer, square, doubt)
        return torch.stack(squares)

    def _folded(self, layer: Layer, records: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """All calls of a layer side by side: X [B, n, d], G [B, n, p], for the given records only."""
        both = []
        for x, g in self.pairs[layer]:
            if records is not None:
                x, g = self._pick(x, records), self._pick(g, records)
            count = self.records if records is None else len(records)
            both.append(rules.weight_pair(layer.module, x.to(self.layout.dtype), g.to(self.layout.dtype), count))
        if len(both) == 1:
            return both[0]
        return torch.cat([x for x, _ in both], 1), torch.cat([g for _, g in both], 1)

    def _pick(self, t: Tensor, records: list[int]) -> Tensor:
        return t.reshape(self.records, t.shape[0] // self.records, *t.shape[1:])[records].flatten(0, 1)

    def _gram_square(self, layer: Layer, pairs: list[tuple[Tensor, Tensor]], grams: dict[tuple, Tensor]):
        inputs, grads = self._folded(layer)
        # queries, keys and values share their input: its Gram is made once (the tensors live until the step ends)
        own = layer if isinstance(layer.module, nn.Conv2d) else None
        key = (own, *((x.data_ptr(), x.shape, x.stride(), x.dtype) for x, _ in pairs))
        if key not in grams:
            grams[key] = rules.gram(inputs)
        return rules.gram_square(grams[key], rules.gram(grads))

    def _instantiate(self, layer: Layer, square: Tensor, doubt: Tensor) -> None:
        """Overwrite the doubtful squares by instantiation in fp64, a few records at a time."""
        alive = torch.zeros_like(doubt)
        for x, g in self.pairs[layer]:
            alive |= (g != 0).reshape(self.records, g.numel() // self.records).any(1)
            # A zero gradient beside an input that is not finite is 0 * inf: autograd gives NaN, and so must the norm.
            alive |= ~torch.isfinite(x).reshape(self.records, x.numel() // self.records).all(1)
        square.masked_fill_(doubt & ~alive, 0.0)
        todo = (doubt & alive).nonzero().flatten().tolist()
        room = max(1, 2**22 // layer.module.weight.numel())
        for start in range(0, len(todo), room):
            some = todo[start : start + room]
            square[some] = rules.exact_norm(*self._folded(layer, some)).square()

    def _sum(self, factors: Tensor, finite: Tensor, total: Tensor) -> None:
        reject = None if bool(finite.all()) else ~finite
        span = self.layout.span
        blocks = [(slice(0, self.layout.width), self.vectors)]
        blocks += [(span[name], kept.flatten(1)) for name, kept in self.kept.items()]
        for place, block in blocks:
            if reject is not None:
                block.masked_fill_(reject[:, None], 0.0)
            total[place].addmv_(block.t(), factors)
        for layer, pairs in self.pairs.items():
            weight = layer.module.weight
            out = total[span[layer.weight]].view(weight.shape[0], weight.numel() // weight.shape[0])
            for x, g in pairs:
                g = g.to(self.layout.dtype)
                if isinstance(layer.module, nn.Embedding):
                    g, ids = rules.rows_to_records(self._masked(g, reject), self.records), x.flatten()
                    out.index_add_(0, ids, (g * factors[:, None, None]).flatten(0, 1))
                    continue
                x = self._masked(x.to(self.layout.dtype), reject)
                rules.weighted_weight(layer.module, x, self._masked(g, reject), factors, out)

    def _masked(self, t: Tensor, reject: Tensor | None) -> Tensor:
        """Zero rows for rejected records, before any product: 0 * inf is not 0."""
        if reject is None:
            return t
        rows = reject.repeat_interleave(t.shape[0] // self.records)
        return t.masked_fill(rows.view(-1, *(1,) * (t.dim() - 1)), 0.0)
