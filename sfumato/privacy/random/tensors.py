"""The cipher and the integer sampler as plain tensor operations, for a device that is not the host.

ChaCha20 (RFC 8439; with the counter of 64 bits that the stream of an address has) and the inversion
of a table, in integers alone: no operation below rounds, so every device gives the same numbers.
Words of 32 bits are int32, whose additions wrap. A shift to the right brings copies of the sign in,
which a mask takes off again. `on_device` asks a device for published vectors before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sfumato.privacy.random.gaussian import DiscreteGaussian

# "expand 32-byte k", little-endian
CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
WORDS = 8  # of 64 bits in one block
_LOW = (1 << 32) - 1
_MAGNITUDE = (1 << 63) - 1


def chacha20(state: torch.Tensor) -> torch.Tensor:
    """The block function: twenty rounds, then the state is added to what they made of it.

    Args:
        state: int32 [16, ...]: constants, key, counter and nonce of each block.

    Returns:
        int32 of the same shape: words 0 to 15 of each block.
    """
    a, b, c, d = state[:4].clone(), state[4:8].clone(), state[8:12].clone(), state[12:].clone()
    for _ in range(10):
        _quarter_rounds(a, b, c, d)  # the columns
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)
        _quarter_rounds(a, b, c, d)  # the diagonals
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    return torch.cat((a, b, c, d)).add_(state)


def _quarter_rounds(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> None:
    """Four quarter rounds side by side, in place; each argument is int32 [4, ...]."""
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x.add_(y)
        z.bitwise_xor_(x)
        high = z << turn
        z.bitwise_right_shift_(32 - turn).bitwise_and_((1 << turn) - 1).bitwise_or_(high)


def keystream(keys: torch.Tensor, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Blocks of the streams of some keys.

    Args:
        keys: int32 [n, 8], as `key_words` makes them.
        rows: Which key each block is of, int64 [blocks].
        numbers: Which of its blocks it is, int64 [blocks].

    Returns:
        int64 [8 * blocks]: the bits of the unsigned words of 64 bits.
    """
    state = keys.new_zeros((16, len(rows)))
    for at, constant in enumerate(CONSTANTS):
        state[at] = constant
    state[4:12] = keys[rows].t()
    state[12], state[13] = _signed(numbers & _LOW), _signed(numbers >> 32)
    words = chacha20(state).long()
    low, high = words[0::2], words[1::2]
    return ((high << 32) | (low & _LOW)).t().reshape(-1)


def _signed(low: torch.Tensor) -> torch.Tensor:
    """Numbers int64 in [0, 2^32) -> the int32 of the same bits."""
    return ((low ^ (1 << 31)) - (1 << 31)).to(torch.int32)


def key_words(subkeys: Sequence[bytes], device: torch.device) -> torch.Tensor:
    """Keys of 32 bytes as int32 [n, 8] on a device."""
    words = np.frombuffer(b"".join(subkeys), dtype="<i4").astype(np.int32).reshape(-1, 8)
    return torch.from_numpy(words).to(device)


@dataclass(frozen=True)
class Table:
    """The table of a `DiscreteGaussian` in a device's memory.

    thresholds: int64 [m], ascending. first: int32 [2^16 + 1]; the numbers of bucket b lie from
    first[b] to first[b + 1]. factors: int64 [terms], and their values in `known`. steps: halvings
    that search the widest bucket.
    """

    thresholds: torch.Tensor
    first: torch.Tensor
    factors: torch.Tensor
    known: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, sampler: DiscreteGaussian, device: torch.device) -> Table:
        """Copies a sampler's table."""
        thresholds = sampler.table.thresholds.astype(np.int64)  # below 2^63
        first = np.append(sampler.table.first, len(thresholds) - 1).astype(np.int32)
        return cls(
            torch.from_numpy(thresholds).to(device),
            torch.from_numpy(first).to(device),
            torch.tensor(sampler.factors, dtype=torch.int64).to(device),
            sampler.factors,
            int(np.diff(first).max()).bit_length(),
        )


def sample(words: torch.Tensor, table: Table) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers that `DiscreteGaussian.draw` makes of these words.

    Args:
        words: int64 [n * terms].
        table: Its table here.

    Returns:
        int64 [n], and whether any word was equal to a threshold, so that it did not decide its
        number: bool [].
    """
    uniform = (words >> 1) & _MAGNITUDE
    value = torch.searchsorted(table.thresholds, uniform)
    tied = (table.thresholds[value] == uniform).any()
    sign = -(words & 1)
    value = (value ^ sign).sub_(sign).view(-1, len(table.known))
    total = value[:, 0] * table.known[0]
    for term, factor in enumerate(table.known[1:], start=1):
        total.add_(value[:, term] * factor)
    return total, tied
