"""The mathematics of each layer kind: per-record gradients, norms and weighted sums.

From (input, output gradient). Shapes: `records` B, draws K, rows R (B or B*K, record-major), T
positions per row, n = (R / B) * T positions per record, x [R, ..., d] the layer's input, g [R, ...,
p] the gradient at its output. All functions are pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# One of the layers with a rule. Any, because torch types what they have in common (weight, bias,
# eps) as `Tensor | Module`.
Weighted = Any
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
CONVS = (nn.Conv2d, nn.ConvTranspose2d)

# Numbers whose squares are added in single precision, and how far a norm can then be from the true
# one (`norm`).
RUN, NORM_ERROR = 512, 1.6e-5

# Numbers in all patches of one record up to which writing them out beats a convolution call per
# record.
PATCH_ROOM = 2**16


def rows_to_records(t: Tensor, records: int) -> Tensor:
    """[R, T..., c] -> [B, n, c]; a reshape only when the rows are contiguous."""
    positions = t.numel() // (records * t.shape[-1]) if t.numel() else 0
    return t.reshape(records, positions, t.shape[-1])


def channels_to_records(t: Tensor, records: int) -> Tensor:
    """[R, c, L] (channels before positions) -> [B, n, c]; a transposed view when R = B."""
    rows, channels, length = t.shape
    if rows == records:
        return t.transpose(1, 2)
    draws = rows // records
    return (
        t.reshape(records, draws, channels, length)
        .transpose(2, 3)
        .reshape(records, draws * length, channels)
    )


def conv_padding(module: Weighted) -> tuple[int, int]:
    """Returns the padding of a convolution as numbers.

    ("same" needs an even reach of the kernel, which is checked when the engine is built.)
    """
    if module.padding == "valid":
        return (0, 0)
    if module.padding == "same":
        up, left = (d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size))
        return (up, left)
    up, left = module.padding
    return (int(up), int(left))


def is_product(module: Weighted) -> bool:
    """Returns whether a record's weight gradient is a product of `columns` and `output_columns`.

    It is for a Linear, and for a Conv2d without groups or dilation. The gradients of the other
    convolutions are made, record by record: they have no Gram matrices here.
    """
    if isinstance(module, nn.Linear):
        return True
    return isinstance(module, nn.Conv2d) and module.groups == 1 and tuple(module.dilation) == (1, 1)


def pointwise(module: Weighted) -> bool:
    """Whether the convolution is a Linear over pixels."""
    return (
        is_product(module)
        and module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and conv_padding(module) == (0, 0)
    )


def columns(module: Weighted, x: Tensor, records: int) -> Tensor:
    """Returns inputs of a Linear or Conv2d as [B, n, d], one line per product with the weight.

    Those of a convolution are its patches.
    """
    if isinstance(module, nn.Linear):
        return rows_to_records(x, records)
    if not pointwise(module):
        return channels_to_records(
            F.unfold(x, module.kernel_size, padding=conv_padding(module), stride=module.stride),
            records,
        )
    return channels_to_records(x.flatten(2), records)


def output_columns(module: Weighted, g: Tensor, records: int) -> Tensor:
    """Returns output gradients of a Linear or Conv2d as [B, n, p].

    With `columns`, dL/dW of a record is G^T X.
    """
    if isinstance(module, nn.Linear):
        return rows_to_records(g, records)
    return channels_to_records(g.flatten(2), records)


def positions(module: Weighted, g: Tensor, records: int) -> int:
    """n, positions per record of one call of a Linear or Conv2d."""
    return g.numel() // (records * (g.shape[-1] if isinstance(module, nn.Linear) else g.shape[1]))


def unfolded(module: Weighted, positions: int) -> int:
    """Returns the numbers in a record's patches if a kept gradient needs them, otherwise 0."""
    if isinstance(module, nn.Linear) or not is_product(module) or pointwise(module):
        return 0
    patches = positions * module.weight.shape[1:].numel()
    return patches if patches <= PATCH_ROOM else 0


def keep_weight(module: Weighted, x: Tensor, g: Tensor, out: Tensor, *, first: bool) -> None:
    """Writes the per-record weight gradients of one call of a layer into `out`.

    Args:
        module: A Linear or a convolution.
        x: Its input, [R, ..., d].
        g: The gradient at its output, [R, ..., p].
        out: [B, rows, numbers], the weight's own first dimension and all others.
        first: Whether this is the layer's first call; the gradients of later ones are added.
    """
    records = out.shape[0]
    if (
        isinstance(module, CONVS)
        and not pointwise(module)
        and not unfolded(module, positions(module, g, records))
    ):
        # one kernel per record: all patches side by side would be kernel-area times larger than x,
        # and slower
        draws = x.shape[0] // records
        for i in range(records):
            rows = slice(i * draws, (i + 1) * draws)
            grad = conv_weight_grad(module, x[rows], g[rows]).reshape(out[i].shape)
            out[i] = grad if first else out[i] + grad
        return
    inputs, grads = columns(module, x, records), output_columns(module, g, records)
    if first:
        torch.bmm(grads.transpose(1, 2), inputs, out=out)
    else:
        out.baddbmm_(grads.transpose(1, 2), inputs)


def conv_weight_grad(module: Weighted, x: Tensor, g: Tensor) -> Tensor:
    """The ordinary weight gradient of a convolution, in its shape, summed over the rows."""
    weight, transposed = module.weight, isinstance(module, nn.ConvTranspose2d)
    padding = conv_padding(module)
    # what a transposed one adds at the far end follows from the sizes: a call may name its own
    more = [
        size - (length - 1) * stride + 2 * pad - reach * (kernel - 1) - 1 if transposed else 0
        for size, length, stride, pad, reach, kernel in zip(
            g.shape[2:],
            x.shape[2:],
            module.stride,
            padding,
            module.dilation,
            module.kernel_size,
            strict=True,
        )
    ]
    # of what ranks share only the shape is at hand, and the numbers are not read
    shared = hasattr(weight, "placements")
    with full_precision(g):
        return torch.ops.aten.convolution_backward(
            g,
            x,
            g.new_empty(weight.shape) if shared else weight.to(g.dtype),
            None,
            module.stride,
            padding,
            module.dilation,
            transposed,
            more,
            module.groups,
            (False, True, False),
        )[1]


def sums_in_place(module: Weighted, on: Tensor) -> bool:
    """Returns whether a convolution on the device of `on` adds up plain products.

    A bound on rounding needs that: on a CPU it is direct, while cuDNN may choose a Winograd or
    Fourier transform.
    """
    return isinstance(module, CONVS) and not pointwise(module) and on.is_cpu


@contextlib.contextmanager
def full_precision(on: Tensor) -> Generator[None, None, None]:
    """No TF32 in convolutions: the sum must have the norms that were measured."""
    if not on.is_cuda:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    with cudnn.flags(
        cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False
    ):
        yield


def norm_weight(module: Weighted, x: Tensor, g: Tensor, records: int, eps: float) -> Tensor:
    """Returns the per-record gradient [B, p] of a normalisation's weight.

    From the input recomputed without its affine part.

    Args:
        module: The normalisation layer.
        x: Its input.
        g: The gradient at its output.
        records: B.
        eps: The layer's epsilon.
    """
    if isinstance(module, nn.GroupNorm):
        normal = F.group_norm(x, module.num_groups, None, None, eps)
        return sum_positions(module, normal * g, records, g.dtype)
    shape = module.normalized_shape
    if isinstance(module, nn.LayerNorm):
        normal = F.layer_norm(x, shape, None, None, eps)
    else:
        normal = F.rms_norm(x, shape, None, eps)
    return sum_positions(module, normal * g, records, g.dtype)


def sum_positions(module: Weighted, g: Tensor, records: int, dtype: torch.dtype) -> Tensor:
    """Returns the sum over positions and draws of a record, [B, p]: the gradient of a bias.

    In `dtype` from the first addition on, without a copy of `g` [R, ...] in it.
    """
    if isinstance(module, nn.Linear):
        return rows_to_records(g, records).sum(1, dtype=dtype)
    if isinstance(module, (*CONVS, nn.GroupNorm)):
        channels = g.shape[1]
        if g.dim() > 2:
            g = g.flatten(2).sum(2, dtype=dtype)
        return g.reshape(records, g.shape[0] // records, channels).sum(1, dtype=dtype)
    width = module.weight.numel()
    return g.reshape(records, g.numel() // (records * width), width).sum(1, dtype=dtype)


def embedding_rows(
    ids: Tensor, g: Tensor, rows: int, padding: int | None = None
) -> tuple[Tensor, Tensor]:
    """A table's per-record gradient, without one-hot vectors and without a [B, rows, p] table.

    Args:
        ids: [B, n].
        g: [B, n, p].
        rows: Rows of the table.
        padding: The row that never learns; None for a table without one.

    Returns:
        Cells int64 [M], gradients [M, p]. Cell i * rows + r is row r of record i; equal ids within
        one record are added.
    """
    records, n = ids.shape
    if padding is not None:
        g = g.masked_fill((ids == padding)[..., None], 0.0)
    owner = torch.arange(records, device=ids.device)[:, None]
    cells, place = torch.unique(ids + owner * rows, return_inverse=True)
    total = g.new_zeros(cells.numel(), g.shape[-1])
    return cells, total.index_add_(0, place.flatten(), g.reshape(records * n, g.shape[-1]))


def norms(every: list[Tensor]) -> list[Tensor]:
    """Norms fp64 [B] of each of several blocks of gradients [B, numbers]."""
    if not every:
        return []
    found = torch.stack([norm(gradients) for gradients in every])
    if not bool(torch.isfinite(found).all()):
        # fp32 squares overflow above 1e19 although the gradient itself is finite; one record at a
        # time, so that the bits of one do not depend on how many there are
        for gradients, row in zip(every, found, strict=True):
            for record in (~torch.isfinite(row)).nonzero().flatten().tolist():
                row[record] = torch.linalg.vector_norm(gradients[record], dtype=torch.float64)
    return list(found)


def norm(gradients: Tensor) -> Tensor:
    """Returns norms fp64 [B]: sums of squares of runs in fp32, then of those in fp64.

    A long run added up in fp32 alone comes out too small. The square of a run is off by at most
    gamma_{RUN + 1} = 3.1e-5, its norm by half of that and the root's rounding, and what fp64 adds
    is far less: 1.6e-5 relative (NORM_ERROR). Clipping stays 1e-4 inside its bound. Squares that
    underflow are missed: then the norm itself is below 1e-17 times the root of the numbers.
    """
    even = gradients.shape[1] - gradients.shape[1] % RUN
    found = torch.linalg.vector_norm(gradients[:, even:], dim=1).double()
    if even:
        runs = torch.linalg.vector_norm(gradients[:, :even].unflatten(1, (even // RUN, RUN)), dim=2)
        found = torch.hypot(found, torch.linalg.vector_norm(runs, dim=1, dtype=torch.float64))
    return found
