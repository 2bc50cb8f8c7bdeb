"""The sums of the clipped gradients of a logical step: integers on a public grid, or float64.

Two ways, each with its sensitivity. C stands for the clip's bound over all tensors, `limit` for C
in grid units, rho for the grid's slack, P for all trainable numbers, u = 2^-53.

*Rows* (`add_rows`, `add_cells`): a gradient that was computed for one record alone, in whatever
rounding, IS that record's gradient. It is scaled, rounded towards zero and added as integers. The
norm of these integers is measured (`rules.norm`, whose relative error is bounded, and left below
the limit), and `over` compares it with the limit; a record over it is taken out again, exactly. So
removing a record moves these sums by at most its own integers: rho is not used. Integers in float32
add up exactly as long as no partial sum reaches 2^24; a partial sum of column j is at most sum_i
|q_ij| <= sum_i |q_i|, which is known before the addition.

*Products* (`add_products`): matrix products over records and positions, added up in float64,
rounded to the grid once per weight and lot: LOT records that follow each other in a microbatch, by
position alone, so that a record is in one lot and moves no other. What m roundings in a row make of
a sum of products differs from the exact one by at most gamma_m sum_i f_i T_i in Frobenius norm, T_i
= sum_t |x_t| |g_t| over the record's positions, gamma_m = m u / (1 - m u), in whatever order they
are added (Higham, Accuracy and Stability, section 3.5), m its own for every weight l; over all
weights by the root of the sum of the squares. It is kept at 3/8 rho C or less in one of two ways:

- products of a few records in float32, u = 2^-24, so few that the bound holds for the sizes that
  this lot has (`lengths`);
- in float64, u = 2^-53, where they would have to be too few. The norm that a record was clipped by
  is at least `grams.CANCELLED` times its T, so with b records the sum of sizes is at most b C /
  CANCELLED: `close_enough` checks from shapes alone that this is enough, and otherwise the
  gradients are computed again, record by record.

Which of them it is depends on the records, and need not be kept from neighbours: the bound holds
for either, so neighbours differ by it twice at most, and by one grid unit in each of P numbers: in
all by at most C + 3/4 rho C + rho C / 4 = C (1 + rho).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .grams import CANCELLED, gamma
from .layout import Layout
from .rules import NORM_ERROR, norm

# Numbers in a block: it stays in the cache between its passes.
ROOM = 2**18
# Columns in a block: with 32 records of full norm the integers of a typical block still add up
# exactly in float32.
WIDE = 2**13
# Records whose products are added up and rounded together: the fewer, the longer one product in
# float32 may be.
LOT = 32
# Of the limit's square: more than what the squares of integers, added in float32 runs, can be too
# small by.
MARGIN = 2.2 * NORM_ERROR


class Grid(Protocol):
    """The grid of the sums; bound = limit * (1 + slack)."""

    @property
    def slack(self) -> float:
        """Rho."""
        ...

    @property
    def step(self) -> float:
        """A grid unit, in the unit of the gradients."""
        ...

    @property
    def bound(self) -> int:
        """Grid units by which one record may move the sum, in L2 norm."""
        ...


class Sums:
    """The clipped sums of a logical step over its microbatches.

    int64 grid units, or float64 if `grid` is None.
    """

    def __init__(self, layout: Layout, grid: Grid | None) -> None:
        self._layout, self.grid = layout, grid
        self.dtype = torch.float64 if grid is None else torch.int64
        self.slack = 1.0 if grid is None else grid.slack
        self.step = 1.0 if grid is None else grid.step
        if grid is not None and grid.bound >= 2**32:
            raise ValueError(
                f"a grid of which one record may fill {grid.bound} units is too fine: less than"
                " 2^32"
            )
        self.vectors = torch.zeros(layout.width, dtype=self.dtype, device=layout.device)
        self.weights: dict[str, Tensor] = {}

    def weight(self, name: str) -> Tensor:
        """The sum of one weight as a matrix [rows, numbers], made when it is first asked for."""
        if name not in self.weights:
            shape = self._layout.shapes[name]
            self.weights[name] = torch.zeros(
                shape, dtype=self.dtype, device=self._layout.device
            ).view(shape[0], -1)
        return self.weights[name]

    def named(self) -> dict[str, Tensor]:
        """Returns name -> sum in the parameter's shape, in the order of `trainable`.

        Zeros where nothing was added.
        """
        layout = self._layout
        sums: dict[str, Tensor] = {}
        for name, shape in layout.shapes.items():
            held = self.vectors[layout.span[name]] if name in layout.span else self.weight(name)
            sums[name] = held.view(shape)
        return sums

    def add_rows(self, total: Tensor, rows: Tensor, factors: Tensor, sign: int = 1) -> Tensor:
        """Computes `total` += sign * sum_i factors_i rows_i.

        Args:
            total: [N].
            rows: [B, N]; rows of records with factor 0 must be finite.
            factors: [B].
            sign: 1, or -1 to take records out again.

        Returns:
            Squares fp64 [B] of what each record added, in grid units; 0 without a grid.
        """
        squares = torch.zeros_like(factors)
        if self.grid is None:
            for some, columns in blocks(*rows.shape):
                total[columns].addmv_(rows[some, columns].double().t(), factors[some], alpha=sign)
            return squares
        divisors = self._divisors(factors, rows.dtype)[:, None]
        for some, columns in blocks(*rows.shape):
            block = rows[some, columns]
            whole = torch.div(
                block,
                divisors[some],
                rounding_mode="trunc",
                out=self._layout.buffer("whole", *block.shape),
            )
            own = norm(whole)
            squares[some] += own.square()
            total[columns].add_(_added(whole, own), alpha=sign)
        return squares

    def add_cells(
        self, total: Tensor, cells: Tensor, rows: Tensor, factors: Tensor, sign: int = 1
    ) -> Tensor:
        """As `add_rows` for a table [V, p] of which record i has only some rows.

        Args:
            total: [V * p].
            cells: [M], i * V + row.
            rows: [M, p].
            factors: [B].
            sign: 1, or -1 to take records out again.

        Returns:
            As `add_rows`.
        """
        owner, place = cells // len(total), cells % len(total)
        if self.grid is None:
            total.index_add_(0, place, rows.double() * factors[owner][:, None], alpha=sign)
            return torch.zeros_like(factors)
        divisors = self._divisors(factors, rows.dtype)
        whole = torch.div(rows, divisors[owner][:, None], rounding_mode="trunc")
        own = norm(whole)
        total.index_add_(0, place, whole.masked_fill(_hopeless(own), 0.0).long(), alpha=sign)
        return torch.zeros_like(factors).index_add_(0, owner, own.square())

    def add_products(self, total: Tensor, lots: Iterable[Sequence[Tensor]]) -> None:
        """Adds the products of every lot to `total` [p, d].

        Each lot is added up in float64 and rounded to the grid once. With a grid the products are
        in grid units; float64 holds a microbatch's whole numbers: 2^20 records of less than 2^32
        each.

        Args:
            total: [p, d].
            lots: Products of every lot, in the shape of the weight.
        """
        whole = torch.zeros(total.shape, dtype=torch.float64, device=total.device)
        for products in lots:
            exact = products[0]
            if len(products) > 1:
                exact = exact.double()
                for product in products[1:]:
                    exact += product
            # a convolution may hand its gradient over with channels last
            exact = exact.reshape(whole.shape)
            whole += exact if self.grid is None else exact.round_()
        total += whole.to(self.dtype)

    def _divisors(self, factors: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns what a gradient is divided by to be scaled and counted in grid units.

        Infinity for a record that adds nothing.
        """
        return (self.step / factors).to(dtype)


def over(grid: Grid, squares: Tensor, passed: Tensor) -> Tensor:
    """Returns which records [B] are over the limit and must add nothing.

    A square that is not a number is over.

    Args:
        grid: The grid.
        squares: Squares of the records' integers, in grid units.
        passed: Squares of what products will add for them, an upper bound, in the gradients' own
            unit.
    """
    limit = grid.bound / (1 + grid.slack)
    return ~(squares + passed / grid.step**2 <= limit**2 * (1 - MARGIN))


def lengths(
    grid: Grid | None, sizes: Tensor, below: Tensor, positions: Tensor, records: int, costs: Tensor
) -> Tensor:
    """Returns how many records [lots, weights] one float32 product may have; 0: float64 is needed.

    The cheapest choice whose distance is within its share:

        sum_l costs_l / m_l is least with sqrt(sum_l (gamma_{m_l} sizes_l)^2) = share for m_l ~
        (costs_l / sizes_l^2)^(1/3)

    Roundings in a row: one per position, and at most 4 for the factor, its grid unit, the weighted
    gradient and the product.

    Args:
        grid: The grid, or None.
        sizes: fp64 [lots, weights]: sum_i f_i T_il, an upper bound in the gradients' own unit,
            infinite
            where float32 could overflow.
        below: fp64 [lots]: the most that numbers below the normal ones may have cost in all
            products.
        positions: [weights], of one record.
        records: The most records of a product.
        costs: [weights], of one more product.
    """
    if grid is None:
        return torch.zeros(sizes.shape, dtype=torch.int64)
    share = (
        0.375 * grid.slack * grid.bound / (1 + grid.slack) * grid.step * (1 - MARGIN)
        - below[:, None]
    )
    # gamma_m <= 1.001 m u up to the longest
    room, longest = share / 1.001 * 2**24, (records * positions + 4).clamp_max(2**14).double()
    usable = (sizes < 1e30).all(1, keepdim=True) & (share > 0)  # false for what is not a number
    wish = (costs / sizes.square().clamp_min(1e-300)).pow(1 / 3)
    fit = torch.ones_like(sizes, dtype=torch.bool)
    many = torch.zeros_like(sizes)
    for _ in range(2):  # what no record fits into leaves its share to the others
        low, high = torch.zeros_like(share), 2 * (longest / wish).amax(1, keepdim=True)
        for _ in range(40):
            middle = (low + high) / 2
            # a product in float64 counts as one rounding here: gamma of 2^29 terms there is no more
            terms = torch.where(fit, (middle * wish).minimum(longest), 1.0).clamp_min(1.0)
            inside = (terms * sizes).square().sum(1, keepdim=True) <= room.square()
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        many = (((low * wish).minimum(longest) - 4) / positions).floor().clamp_min(0)
        fit = fit & (many > 0)
    return torch.where(usable & fit, many, 0.0).long()


def close_enough(terms: int, records: int, slack: float) -> bool:
    """Returns whether a product is proved to differ from the exact sum by <= 3/8 rho C.

    Args:
        terms: Its consecutive roundings.
        records: Its records.
        slack: rho.
    """
    return gamma(terms, torch.float64) * records / CANCELLED <= 0.375 * slack * (1 - MARGIN)


def blocks(records: int, numbers: int) -> Iterable[tuple[slice, slice]]:
    """Rows and columns of the blocks of a matrix [records, numbers], from its shape alone."""
    wide = min(numbers, WIDE)
    # by the root of the width: the norms of as many full records then add up to less than 2^24 grid
    # units (see above)
    many = max(1, min(records, max(32, int(2900 / wide**0.5)), ROOM // max(wide, 1)))
    for top in range(0, records, many):
        for left in range(0, numbers, wide):
            yield slice(top, min(top + many, records)), slice(left, min(left + wide, numbers))


def _added(whole: Tensor, norms: Tensor) -> Tensor:
    """Returns the sum over dim 0 of integers in floating point, as int64; `whole` may change.

    Exact either way, so that the way taken changes no bits. To look at the norms of every tensor
    would be a wait for a GPU each, for a sum that it makes in float64 as fast.
    """
    if norms.is_cpu and float(norms.sum()) < 2**24:
        return whole.sum(0).long()
    return whole.masked_fill_(_hopeless(norms), 0.0).sum(0, dtype=torch.float64).long()


def _hopeless(norms: Tensor) -> Tensor:
    """Returns the rows [M, 1] that are over every limit by their own norm, and too large to add.

    They are left out at once: they could not be added exactly.
    """
    return ~(norms < 2.0**40)[:, None]
