"""The mathematics of each layer kind: per-record gradients, norms and weighted sums from (input, output gradient).

Shapes: `records` B, draws K, rows R (B or B*K, record-major), T positions per row, n = (R / B) * T positions per
record, x [R, ..., d] the layer's input, g [R, ..., p] the gradient at its output. All functions are pure.
"""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)

# Below this share of the Cauchy-Schwarz bound a Gram norm is mostly rounding: instantiate instead (never clamp).
GRAM_TRUST = 1e-3
# Squared token norms under this (or over its inverse) come near the limits of fp32 in the product of the Grams.
GRAM_TINY = 1e-25


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
    return t.reshape(records, draws, channels, length).transpose(2, 3).reshape(records, draws * length, channels)


def conv_padding(module: nn.Conv2d) -> tuple[int, int]:
    """The module's padding as numbers ("same" needs odd kernels, checked when the engine is built)."""
    if module.padding == "valid":
        return (0, 0)
    if module.padding == "same":
        return (module.kernel_size[0] // 2, module.kernel_size[1] // 2)
    return tuple(module.padding)


def pointwise(module: nn.Conv2d) -> bool:
    """Whether the convolution is a Linear over pixels."""
    return module.kernel_size == (1, 1) and module.stride == (1, 1) and conv_padding(module) == (0, 0)


def weight_pair(module: nn.Module, x: Tensor, g: Tensor, records: int) -> tuple[Tensor, Tensor]:
    """Input and output gradient of a Linear or Conv2d as (X [B, n, d], G [B, n, p]): dL/dW of a record is G^T X."""
    if isinstance(module, nn.Linear):
        return rows_to_records(x, records), rows_to_records(g, records)
    if pointwise(module):
        columns = x.flatten(2)
    else:
        columns = F.unfold(x, module.kernel_size, padding=conv_padding(module), stride=module.stride)
    return channels_to_records(columns, records), channels_to_records(g.flatten(2), records)


def positions(module: nn.Module, g: Tensor, records: int) -> int:
    """n, positions per record of one call of a Linear or Conv2d."""
    return g.numel() // (records * (g.shape[-1] if isinstance(module, nn.Linear) else g.shape[1]))


def keep_weight(module: nn.Module, x: Tensor, g: Tensor, out: Tensor, *, first: bool) -> None:
    """Write (first call) or add the per-record weight gradients into `out` [B, p, d]."""
    records = out.shape[0]
    if isinstance(module, nn.Conv2d) and not pointwise(module):
        # one kernel per record: the unfolded input would be kernel-area times larger and slower
        draws = x.shape[0] // records
        for i in range(records):
            rows = slice(i * draws, (i + 1) * draws)
            grad = conv_weight_grad(module, x[rows], g[rows]).view_as(out[i])
            out[i] = grad if first else out[i] + grad
        return
    inputs, grads = weight_pair(module, x, g, records)
    if first:
        torch.bmm(grads.transpose(1, 2), inputs, out=out)
    else:
        out.baddbmm_(grads.transpose(1, 2), inputs)


def conv_weight_grad(module: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """The ordinary weight gradient [p, c, h, w] of a convolution, summed over the rows."""
    with full_precision(g.device):
        return torch.ops.aten.convolution_backward(
            g,
            x,
            module.weight.to(g.dtype),
            None,
            module.stride,
            conv_padding(module),
            (1, 1),
            False,
            (0, 0),
            1,
            (False, True, False),
        )[1]


def gram(t: Tensor) -> Tensor:
    """[B, n, c] -> [B, n, n] inner products, in the accumulation precision of `t` (fp32 or fp64)."""
    return torch.bmm(t, t.transpose(1, 2))


def gram_square(xx: Tensor, gg: Tensor) -> tuple[Tensor, Tensor]:
    """||G^T X||^2 per record from the two Grams, and which records need `exact_norm` instead.

    A Gram norm cancels when tokens are nearly alike; the second tensor (bool [B]) marks records whose result is
    tiny beside the Cauchy-Schwarz bound, near underflow, or not finite.
    """
    if xx.shape[1] == 1:
        square = (xx * gg).flatten()
    else:
        square = torch.linalg.vecdot(xx.flatten(1), gg.flatten(1))
    dx, dg = xx.diagonal(dim1=1, dim2=2), gg.diagonal(dim1=1, dim2=2)
    bound = (dx * dg).clamp_min(0).sqrt().sum(1).square()
    top = torch.minimum(dx.amax(1), dg.amax(1))
    return square, ~((square >= GRAM_TRUST * bound) & (top > GRAM_TINY) & torch.isfinite(bound))


def exact_norm(inputs: Tensor, grads: Tensor) -> Tensor:
    """||G^T X|| [B] by instantiation in fp64: inputs [B, n, d], grads [B, n, p]."""
    return torch.linalg.vector_norm(torch.bmm(grads.double().transpose(1, 2), inputs.double()).flatten(1), dim=1)


@contextlib.contextmanager
def full_precision(device: torch.device):
    """No TF32 in convolutions: the sum must have the norms that were measured."""
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
        yield


def weighted_weight(module: nn.Module, x: Tensor, g: Tensor, factors: Tensor, out: Tensor) -> None:
    """Add sum_i factors_i dL_i/dW to `out` [p, d]; rows of rejected records must be masked before."""
    records = factors.shape[0]
    scale = factors if g.shape[0] == records else factors.repeat_interleave(g.shape[0] // records)
    g = g * scale.view(-1, *(1,) * (g.dim() - 1))
    if isinstance(module, nn.Linear):
        out.addmm_(g.reshape(-1, g.shape[-1]).t(), x.reshape(-1, x.shape[-1]))
        return
    out.add_(conv_weight_grad(module, x, g).view_as(out))


def norm_weight(module: nn.Module, x: Tensor, g: Tensor, records: int, eps: float) -> Tensor:
    """Per-record gradient [B, p] of a normalisation's weight, from the input recomputed without its affine part."""
    if isinstance(module, nn.GroupNorm):
        normal = F.group_norm(x, module.num_groups, None, None, eps)
        return sum_positions(module, normal * g, records)
    shape = module.normalized_shape
    if isinstance(module, nn.LayerNorm):
        normal = F.layer_norm(x, shape, None, None, eps)
    else:
        normal = F.rms_norm(x, shape, None, eps)
    return sum_positions(module, normal * g, records)


def sum_positions(module: nn.Module, g: Tensor, records: int) -> Tensor:
    """Sum over all positions and draws of a record: [R, ...] -> [B, p]. The gradient of a bias."""
    if isinstance(module, nn.Linear):
        return rows_to_records(g, records).sum(1)
    if isinstance(module, (nn.Conv2d, nn.GroupNorm)):
        channels = g.shape[1]
        if g.dim() > 2:
            g = g.flatten(2).sum(2)
        return g.reshape(records, g.shape[0] // records, channels).sum(1)
    width = module.weight.numel()
    return g.reshape(records, g.numel() // (records * width), width).sum(1)


def embedding_square(ids: Tensor, g: Tensor, rows: int) -> Tensor:
    """Squared norm [B] of a table's per-record gradient: ids [B, n], g [B, n, p], `rows` of the table.

    Equal ids within one record add before the norm; no one-hot, no [B, rows, p] table.
    """
    records, n = ids.shape
    owner = torch.arange(records, device=ids.device)[:, None]
    cells, place = torch.unique(ids + owner * rows, return_inverse=True)
    total = g.new_zeros(cells.numel(), g.shape[-1]).index_add_(0, place.flatten(), g.reshape(records * n, g.shape[-1]))
    square = torch.linalg.vector_norm(total, dim=1, dtype=torch.float64).square()
    return square.new_zeros(records).index_add_(0, cells // rows, square)
