"""The cipher and the integer sampler as two Triton kernels, each one pass over a device's memory.

`tensors` has the same two functions in plain tensor operations; docstrings there say what is
computed. Triton comes with torch's builds for GPUs; without it this module does not import.
"""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from sfumato.privacy.random.tensors import WORDS, Table

_BLOCKS = 128  # of the cipher, in one program
_NUMBERS = 256


def keystream(keys: torch.Tensor, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """As `tensors.keystream`."""
    words = torch.empty(len(rows) * WORDS, dtype=torch.int64, device=keys.device)
    _cipher[(triton.cdiv(len(rows), _BLOCKS),)](
        keys.contiguous(), rows.contiguous(), numbers.contiguous(), words, len(rows), SIZE=_BLOCKS
    )
    return words


def sample(words: torch.Tensor, table: Table) -> tuple[torch.Tensor, torch.Tensor]:
    """As `tensors.sample`."""
    count = len(words) // len(table.known)
    drawn = torch.empty(count, dtype=torch.int64, device=words.device)
    tied = torch.zeros(1, dtype=torch.int32, device=words.device)
    _invert[(triton.cdiv(count, _NUMBERS),)](
        words,
        table.thresholds,
        table.first,
        table.factors,
        drawn,
        tied,
        count,
        table.steps,
        TERMS=len(table.known),
        SIZE=_NUMBERS,
    )
    return drawn, tied.any()


@triton.jit
def _turned(x, turn: tl.constexpr):
    return (x << turn) | (x >> (32 - turn))  # of unsigned words: no copies of a sign


@triton.jit
def _quarter_round(a, b, c, d):
    a += b
    d = _turned(d ^ a, 16)
    c += d
    b = _turned(b ^ c, 12)
    a += b
    d = _turned(d ^ a, 8)
    c += d
    b = _turned(b ^ c, 7)
    return a, b, c, d


@triton.jit
def _word(low, high):
    return (low.to(tl.uint64) | (high.to(tl.uint64) << 32)).to(tl.int64, bitcast=True)


@triton.jit
def _cipher(keys, rows, numbers, words, count, SIZE: tl.constexpr):
    block = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = block < count
    key = keys + tl.load(rows + block, mask=inside, other=0) * 8
    number = tl.load(numbers + block, mask=inside, other=0).to(tl.uint64, bitcast=True)
    none = tl.zeros([SIZE], dtype=tl.uint32)
    s0, s1, s2, s3 = none + 0x61707865, none + 0x3320646E, none + 0x79622D32, none + 0x6B206574
    s4 = tl.load(key + 0, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s5 = tl.load(key + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s6 = tl.load(key + 2, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s7 = tl.load(key + 3, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s8 = tl.load(key + 4, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s9 = tl.load(key + 5, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s10 = tl.load(key + 6, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s11 = tl.load(key + 7, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s12, s13 = number.to(tl.uint32), (number >> 32).to(tl.uint32)
    a0, a1, a2, a3 = s0, s1, s2, s3
    b0, b1, b2, b3 = s4, s5, s6, s7
    c0, c1, c2, c3 = s8, s9, s10, s11
    d0, d1, d2, d3 = s12, s13, none, none
    for _ in range(10):
        a0, b0, c0, d0 = _quarter_round(a0, b0, c0, d0)  # the columns
        a1, b1, c1, d1 = _quarter_round(a1, b1, c1, d1)
        a2, b2, c2, d2 = _quarter_round(a2, b2, c2, d2)
        a3, b3, c3, d3 = _quarter_round(a3, b3, c3, d3)
        a0, b1, c2, d3 = _quarter_round(a0, b1, c2, d3)  # the diagonals
        a1, b2, c3, d0 = _quarter_round(a1, b2, c3, d0)
        a2, b3, c0, d1 = _quarter_round(a2, b3, c0, d1)
        a3, b0, c1, d2 = _quarter_round(a3, b0, c1, d2)
    to = words + block * 8
    tl.store(to + 0, _word(a0 + s0, a1 + s1), mask=inside)
    tl.store(to + 1, _word(a2 + s2, a3 + s3), mask=inside)
    tl.store(to + 2, _word(b0 + s4, b1 + s5), mask=inside)
    tl.store(to + 3, _word(b2 + s6, b3 + s7), mask=inside)
    tl.store(to + 4, _word(c0 + s8, c1 + s9), mask=inside)
    tl.store(to + 5, _word(c2 + s10, c3 + s11), mask=inside)
    tl.store(to + 6, _word(d0 + s12, d1 + s13), mask=inside)
    tl.store(to + 7, _word(d2, d3), mask=inside)  # the nonce is zero


@triton.jit
def _invert(
    words,
    thresholds,
    first,
    factors,
    drawn,
    tied,
    count,
    steps,
    TERMS: tl.constexpr,
    SIZE: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = number < count
    total = tl.zeros([SIZE], dtype=tl.int64)
    equal = number < 0
    for term in tl.static_range(TERMS):
        signed = tl.load(words + number * TERMS + term, mask=inside, other=0)
        word = signed.to(tl.uint64, bitcast=True)
        uniform = (word >> 1).to(tl.int64)
        bucket = first + (word >> 48).to(tl.int32)
        low, high = tl.load(bucket), tl.load(bucket + 1)
        for _ in range(steps):
            looking = low < high
            middle = (low + high) >> 1
            beyond = uniform > tl.load(thresholds + middle, mask=looking, other=0)
            low = tl.where(looking & beyond, middle + 1, low)
            high = tl.where(looking & (beyond == 0), middle, high)
        equal |= tl.load(thresholds + low) == uniform
        sign = -(signed & 1)
        total += ((low.to(tl.int64) ^ sign) - sign) * tl.load(factors + term)
    tl.store(drawn + number, total, mask=inside)
    tl.store(tied + tl.zeros([SIZE], dtype=tl.int32), 1, mask=inside & equal)
