"""Random numbers of the run key made on a device: the same as the host's, address by address.

Two ways, by what there is: kernels of Triton's (`kernels`), or plain tensor operations (`tensors`).
Both are asked for published vectors of the cipher, and for the host's own integers, before a number
of theirs is used. Subkeys of single addresses lie in the device's memory meanwhile, the run key
never does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import cast

import numpy as np
import torch

from sfumato.privacy.random import tensors
from sfumato.privacy.random.gaussian import discrete_gaussian
from sfumato.privacy.random.integers import integers
from sfumato.privacy.random.keys import RunKey

_PART = 1 << 21  # integers drawn at a time: some hundred MB

# RFC 8439, A.1, vectors 2 to 4: key, number of the block, keystream
VECTORS = (
    (
        bytes(32),
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes(31) + b"\x01",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        b"\x00\xff" + bytes(30),
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
)
_VARIANCES = (Fraction(9), Fraction(4000) ** 2, Fraction(10) ** 12, Fraction(2) ** 100)


@dataclass(frozen=True)
class Way:
    """How a device makes words, and integers of words; the names are those of `tensors`."""

    name: str
    keystream: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    sample: Callable[[torch.Tensor, tensors.Table], tuple[torch.Tensor, torch.Tensor]]


TENSORS = Way("tensors", tensors.keystream, tensors.sample)


def fused() -> Way | None:
    """The way by Triton's kernels; None without Triton."""
    try:
        from sfumato.privacy.random import kernels
    except ImportError:
        return None
    return Way("fused", kernels.keystream, kernels.sample)


@lru_cache(maxsize=8)
def way(device: torch.device) -> Way:
    """The quickest way that gives the right numbers on this device; each is asked for them once.

    Args:
        device: Not the host.

    Returns:
        The way.

    Raises:
        ValueError: None does, so that no noise of this device could be trusted.
    """
    ways = (fused() if _has_kernels(device) else None, TENSORS)
    faults: list[str] = []
    for found in filter(None, ways):
        try:
            right = agrees(found, device)
        except Exception as error:  # Triton without a compiler, say: the other way needs none
            faults.append(f"{found.name}: {type(error).__name__}")
            continue
        if right:
            return found
        faults.append(f"{found.name}: wrong numbers")
    raise ValueError(
        f"this device does not compute the run key's numbers ({'; '.join(faults)}): compute on the"
        " processor instead"
    )


def check_device(device: torch.device) -> None:
    """Asks a device for its numbers, so that one that computes others is known before a charge.

    Args:
        device: Any; the host is not asked.

    Raises:
        ValueError: As `way`.
    """
    if not torch.empty(0, device=device).is_cpu:
        way(device)


def agrees(found: Way, device: torch.device) -> bool:
    """Asks for the published vectors of the cipher, and for the host's integers of every kind.

    Args:
        found: The way.
        device: Where.

    Returns:
        Whether all of them came, to the last bit.
    """
    words = found.keystream(
        tensors.key_words([key for key, _, _ in VECTORS], device),
        torch.arange(len(VECTORS)).to(device),
        torch.tensor([number for _, number, _ in VECTORS]).to(device),
    )
    published = bytes.fromhex("".join(block for _, _, block in VECTORS))
    if _host(words).astype("<i8").tobytes() != published:
        return False
    table = _table(_VARIANCES[0], device)
    if [bool(found.sample(table.thresholds[2:4] * 2 + i, table)[1]) for i in (1, 2)] != [
        True,
        False,
    ]:
        return False  # ties are found, and nothing else is one
    known = RunKey(bytes(range(32)))
    for variance in _VARIANCES:
        for start, size in ((0, 3001), (1 << 36, 999)):  # the second has large block numbers
            address = (known, "noise", 0, 0)
            there = integers_on(device, variance, {"": (start, size)}, *address, found)[""]
            if not np.array_equal(_host(there), integers(variance, size, *address, "", start)):
                return False
    return True


def integers_on(
    device: torch.device,
    variance: Fraction,
    numbers: Mapping[str, tuple[int, int]],
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    found: Way | None = None,
) -> dict[str, torch.Tensor]:
    """Integer noise of several names: what `integers` gives for each, bit for bit.

    All names are worked on together, so that many small tensors cost no more than a large one. The
    host waits once. Where a word does not decide its number (less than once in 2^46) the host draws
    that part.

    Args:
        device: Where they are made; not the host.
        variance: Of the discrete Gaussian.
        numbers: The first number of each name, and how many.
        key: The run key.
        purpose: Part of the address.
        step: Part of the address.
        attempt: Part of the address.
        found: The way; by default the one of `way`.

    Returns:
        int64 [how many] for each name; all in one piece of memory.
    """
    found = found or way(device)
    table = _table(variance, device)
    terms = len(table.known)
    # Eight numbers take `terms` whole blocks: a group. A name begins with its first number's group.
    groups = [(start % 8 + size + 7) // 8 for start, size in numbers.values()]
    edges = [0, *accumulate(groups)]
    begin = torch.tensor(edges).to(device)
    skipped = torch.tensor([start // 8 for start, _ in numbers.values()]).to(device)
    keys = keys_of(device, key, purpose, step, attempt, list(numbers))
    made = torch.empty(8 * edges[-1], dtype=torch.int64, device=device)
    parts = range(0, edges[-1], _PART // 8)
    ties: list[torch.Tensor] = []
    for at in parts:
        group = torch.arange(at, min(at + _PART // 8, edges[-1]), device=device)
        row = torch.searchsorted(begin, group, right=True) - 1
        block = (group - begin[row] + skipped[row]).unsqueeze(1) * terms
        block = (block + torch.arange(terms, device=device)).reshape(-1)
        words = found.keystream(keys, row.repeat_interleave(terms), block)
        values, tied = found.sample(words, table)
        made[8 * at :][: len(values)] = values
        ties.append(tied)
    place = {
        name: (8 * edge + start % 8, size)
        for (name, (start, size)), edge in zip(numbers.items(), edges)
    }
    undecided = cast(list[bool], torch.stack(ties).tolist()) if ties else []
    for part in [range(at * 8, at * 8 + _PART) for at, tie in zip(parts, undecided) if tie]:
        for name, (at, size) in place.items():
            first, last = max(at, part.start), min(at + size, part.stop)
            if first < last:
                start = numbers[name][0] + first - at
                own = integers(variance, last - first, key, purpose, step, attempt, name, start)
                made[first:last] = torch.from_numpy(own).to(device)
    return {name: made[at : at + size] for name, (at, size) in place.items()}


def drawn_there(
    variance: Fraction,
    places: Mapping[str, tuple[torch.Size, torch.device]],
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    starts: Mapping[str, int],
) -> dict[str, torch.Tensor]:
    """Integer noise for tensors, made where they are: by numpy on the host, by `way` elsewhere.

    Args:
        variance: Of the discrete Gaussian.
        places: Shape and device by name.
        key: The run key.
        purpose: Part of the address.
        step: Part of the address.
        attempt: Part of the address.
        starts: The first number of a tensor that is a part of the one with its name.

    Returns:
        int64 tensors of these names, shapes and devices.

    Raises:
        ValueError: There is no tensor, or a device computes other numbers than the host.
    """
    if not places:
        raise ValueError("there is no tensor to add noise to: choose at least one trainable tensor")
    noise: dict[str, torch.Tensor] = {}
    for device in {device for _, device in places.values()}:
        here = [name for name, (_, on) in places.items() if on == device]
        numbers = {name: (starts.get(name, 0), places[name][0].numel()) for name in here}
        if torch.empty(0, device=device).is_cpu:
            for name, (start, size) in numbers.items():
                drawn = integers(variance, size, key, purpose, step, attempt, name, start)
                noise[name] = torch.from_numpy(drawn)
        else:
            noise |= integers_on(device, variance, numbers, key, purpose, step, attempt)
    return {name: noise[name].view(shape) for name, (shape, _) in places.items()}


def _has_kernels(device: torch.device) -> bool:
    return torch.empty(0, device=device).is_cuda  # of AMD's as well


def keys_of(
    device: torch.device, key: RunKey, purpose: str, step: int, attempt: int, names: Sequence[str]
) -> torch.Tensor:
    """The subkeys of some names of an address on a device, int32 [n, 8]."""
    subkeys = [key.subkey(purpose, step, attempt, name) for name in names]
    return tensors.key_words(subkeys, device)


@lru_cache(maxsize=8)
def _table(variance: Fraction, device: torch.device) -> tensors.Table:
    return tensors.Table.of(discrete_gaussian(variance), device)


def _host(tensor: torch.Tensor) -> np.ndarray:
    return np.array(tensor.tolist(), dtype=np.int64)
