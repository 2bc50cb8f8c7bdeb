"""Norms without gradients: Gram matrices of a layer's inputs and output gradients.

And what they may be off by. Shapes as in `rules`; all functions are pure.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rules import Weighted, channels_to_records, columns, conv_padding, output_columns, pointwise

# Where tokens cancel to less than this share of their sum of norms, that share stands for the norm
# of a gradient that is never made: what a product over all tokens may be off by follows the tokens
# (sums.py). More clipping, never less.
CANCELLED = 2.0**-12
# Where the rounding of the Gram entries could be more than this share of a squared norm, the
# gradient is made instead.
GRAM_TRUST = 0.02

# Products of Gram entries that are added up in the Grams' precision, where a row has so many: more
# would make the bound of `gram_square` grow, and short rows stay in the cache anyway.
LONGEST_RUN, LONG_ROW = 16, 256

# Numbers of a block that stays in the cache between passes.
CACHED = 2**18


def gram(t: Tensor) -> Tensor:
    """Returns inner products [B, n, n] of [B, n, c], in the accumulation precision of `t`.

    That is fp32 or fp64.
    """
    return torch.bmm(t, t.transpose(1, 2))


def sliding(module: Weighted) -> bool:
    """Whether the layer is a convolution whose kernel visits every pixel."""
    return isinstance(module, nn.Conv2d) and not pointwise(module) and module.stride == (1, 1)


def input_gram(module: Weighted, x: Tensor, records: int) -> Tensor:
    """Gram [B, n, n] of a layer's inputs (of the patches, for a convolution)."""
    if not sliding(module):
        return gram(columns(module, x, records))
    # Patches overlap: a patch's inner product is a sum of kernel-area many pixel products. So the
    # pixels' Gram is made once, and added to itself under every shift of the kernel; a few records
    # at a time, which stay in the cache between the passes.
    rows, _, height, width = x.shape
    draws = rows // records
    lines, line = (length + 2 * pad for length, pad in zip((height, width), conv_padding(module)))
    out_height, out_width = lines - module.kernel_size[0] + 1, line - module.kernel_size[1] + 1
    n, room = draws * out_height * out_width, max(1, CACHED // (draws * lines * line) ** 2)
    products = gram(channels_to_records(x.flatten(2), records)).view(
        records, draws, height, width, draws, height, width
    )
    found = products.new_empty(records, n, n)
    for start in range(0, records, room):
        part = products[start : start + room]
        found[start : start + room] = _of_patches(module, part).flatten(4).flatten(1, 3)
    return found


def _of_patches(module: Weighted, products: Tensor) -> Tensor:
    """Gram of patches [B, K, h', w', K, h', w'] from that of pixels [B, K, h, w, K, h, w]."""
    # the image is padded: a shift of the kernel is then an offset, the same on both sides
    records, draws, height, width = products.shape[:4]
    (high, wide), (up, left) = module.kernel_size, conv_padding(module)
    lines, line = height + 2 * up, width + 2 * left
    size = lines * line
    padded = products.new_zeros(records, draws, size + wide - 1, draws, size + wide - 1)
    image = padded[:, :, :size, :, :size].unflatten(4, (lines, line)).unflatten(2, (lines, line))
    image[:, :, up : up + height, left : left + width, :, up : up + height, left : left + width] = (
        products
    )
    across = _shifted(padded, range(wide), size)
    # each line's last kernel-width - 1 places are no patches, and are left out at the end
    out_height = lines - high + 1
    total = _shifted(across, range(0, high * line, line), out_height * line)
    patches = total.unflatten(4, (out_height, line)).unflatten(2, (out_height, line))
    return patches[:, :, :, : line - wide + 1, :, :, : line - wide + 1]


def _shifted(t: Tensor, offsets: range, length: int) -> Tensor:
    """The sum of [B, K, length, K, length] of `t`, shifted by every offset on both sides."""
    first, *others = (t[:, :, o : o + length, :, o : o + length] for o in offsets)
    if not others:
        return first
    total = first + others[0]
    for other in others[1:]:
        total += other
    return total


def output_gram(module: Weighted, g: Tensor, records: int) -> Tensor:
    """Gram [B, n, n] of the gradients at a layer's output."""
    return gram(output_columns(module, g, records))


def gram_work(
    module: Weighted, shape: torch.Size, positions: int, records: int, sharing: int = 1
) -> int:
    """Returns the multiply-adds of both Grams per record.

    Args:
        module: The layer.
        shape: Shape of its input.
        positions: Positions per record.
        records: Records of the microbatch.
        sharing: How many layers use the same input's Gram.
    """
    p, d = module.weight.shape[0], module.weight.numel() // module.weight.shape[0]
    if not sliding(module):
        return positions * positions * (d // sharing + p)
    pixels = shape[0] // records * shape[2] * shape[3]
    return pixels * pixels * shape[1] + positions * positions * (
        p + module.weight.shape[2:].numel()
    )


def gram_terms(module: Weighted) -> tuple[int, int]:
    """Returns the most consecutive roundings in one entry of the input's Gram and of the output's.

    As `input_gram` and `output_gram` compute them.
    """
    p, d = module.weight.shape[0], module.weight.numel() // module.weight.shape[0]
    return (module.weight.shape[1] + module.weight.shape[2:].numel() if sliding(module) else d), p


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Returns gamma_m = m u / (1 - m u), the error bound of a sum of m products.

    Relative to the sum of their sizes, added in any order.
    """
    unit = terms * torch.finfo(dtype).eps / 2
    return unit / (1 - unit) if unit < 0.5 else float("inf")


def gram_square(xx: Tensor, gg: Tensor, terms: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """An upper bound of ||G^T X||^2 from the two Grams, and which records need `exact_norm`.

    Proof. ||G^T X||^2 = sum_st XX_st GG_st. A computed entry of XX differs from x_s . x_t by at
    most gamma_m |x_s| |x_t| + m tiny (m roundings in a row, tiny for those below the normal
    numbers), one of GG likewise; their product and the sum of r of them, made in the Grams'
    precision, add u + gamma_{r-1} and 2 r tiny, and the float64 sum of n^2 / r such sums
    gamma_{n^2} of float64. With T = sum_t |x_t| |g_t| and Cauchy and Schwarz's inequality the
    computed square differs from the true one by at most

        (gamma_x + gamma_g + 4 u + gamma_{r-1} + gamma_{n^2}) (1 + small) T^2 + 2 tiny (m_x (sum_t
        |g_t|)^2 + m_g (sum_t |x_t|)^2 + 2 n^2)

    where |x_t|^2 is at most (the computed diagonal entry + 2 m tiny) / (1 - gamma_x). That is
    added. If it is more than GRAM_TRUST of the square (tokens nearly alike that cancel, numbers
    near underflow), or anything is not finite, the second result is true.

    Args:
        xx: The inputs' Gram [B, n, n].
        gg: The output gradients' Gram [B, n, n].
        terms: `gram_terms` of the layer.

    Returns:
        The bound, fp64 [B]; bool [B]; and upper bounds fp64 [2, B] of T = sum_t |x_t| |g_t| and of
        sum_t |x_t|.
    """
    dtype, n = xx.dtype, xx.shape[1]
    tiny = torch.finfo(dtype).tiny
    run = _run(n)
    square = _inner(xx, gg, run)
    loss_x, loss_g = (gamma(m + 2, dtype) for m in terms)
    lengths_x, lengths_g = (
        (
            (t.diagonal(dim1=1, dim2=2).double().clamp_min(0) + 4 * m * tiny) / max(1 - loss, 0.5)
        ).sqrt()
        for t, loss, m in ((xx, loss_x, terms[0]), (gg, loss_g, terms[1]))
    )
    relative = 1.01 * (loss_x + loss_g + gamma(run - 1, dtype) + gamma(n * n + 4, torch.float64))
    below = (
        4
        * tiny
        * (terms[0] * lengths_g.sum(1).square() + terms[1] * lengths_x.sum(1).square() + 2 * n * n)
    )
    most = (lengths_x * lengths_g).sum(1).square()
    error = relative * most + below
    trusted = (error <= GRAM_TRUST * square) & torch.isfinite(square) & (relative < 0.5)
    sizes = torch.stack([most.sqrt(), lengths_x.sum(1)])
    return torch.maximum(square + error, CANCELLED**2 * most), ~trusted, sizes


def _run(n: int) -> int:
    """Of a row's n products, how many are added up before they are float64."""
    if n < LONG_ROW:
        return 1
    return max(run for run in range(1, LONGEST_RUN + 1) if n % run == 0)


def _inner(xx: Tensor, gg: Tensor, run: int) -> Tensor:
    """The inner products fp64 [B] of two [B, n, n], `run` numbers at a time in their precision."""
    if run == 1 or not xx.is_cpu:
        return (xx * gg).flatten(1).sum(1, dtype=torch.float64)
    # without the products of all records beside the two, which would leave the cache
    sums = torch.bmm(xx.reshape(-1, 1, run), gg.reshape(-1, run, 1))
    return sums.view(len(xx), -1).sum(1, dtype=torch.float64)


def exact_norm(inputs: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """||G^T X|| by instantiation in fp64, at least the CANCELLED share of the sizes.

    Its own error, gamma_n of fp64 times the sum of token norms, is less than n 2^-40 of the result:
    ROUNDING leaves room for it.

    Args:
        inputs: [B, n, d].
        grads: [B, n, p].

    Returns:
        Norms fp64 [B], and the sizes [2, B] as in `gram_square`.
    """
    inputs, grads = inputs.double(), grads.double()
    norm = torch.linalg.vector_norm(torch.bmm(grads.transpose(1, 2), inputs).flatten(1), dim=1)
    lengths = torch.linalg.vector_norm(inputs, dim=2)
    tokens = (lengths * torch.linalg.vector_norm(grads, dim=2)).sum(1)
    # maximum, not clamp: a NaN must stay one
    return torch.maximum(norm, CANCELLED * tokens), torch.stack([tokens, lengths.sum(1)])
