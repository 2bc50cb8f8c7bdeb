"""Numbers of the run key made by a device's own operations: the cipher's published vectors, and the
host's integers bit for bit, whatever the address, the scale, the shape and the parts.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from sfumato.privacy.random import gaussian, integers, noise, on_device, tensors
from sfumato.privacy.random.keys import RunKey

KEY = RunKey(bytes(range(32)))
HERE = torch.device("cpu")  # any device: none of its own kernels is asked for
# one to five terms, the narrowest and the widest, and what training has: (4, 21,000) and so on
SCALES = [4, 25, 4097**2, 10**10 + 4, Fraction(10**13, 7), 10**16, 10**24, 2**100]
RFC = [  # RFC 8439, 2.3.2 and A.1: key, words 12 to 15, the block
    (
        bytes(range(32)),
        (1, 0x09000000, 0x4A000000, 0),
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        bytes(32),
        (0, 0, 0, 0),
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32),
        (0, 0, 0, 0x02000000),
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
    ),
]


def made(variance, numbers, *, name="noise", step=0, attempt=0):
    way = on_device.TENSORS
    return on_device.integers_on(HERE, Fraction(variance), numbers, KEY, name, step, attempt, way)


def host(variance, size, name, *, purpose="noise", step=0, attempt=0, start=0):
    return integers.integers(Fraction(variance), size, KEY, purpose, step, attempt, name, start)


@pytest.mark.parametrize("key, last, block", RFC, ids=["2.3.2", "A.1-1", "A.1-5"])
def test_the_published_blocks(key, last, block):
    words = [*tensors.CONSTANTS, *np.frombuffer(key, "<u4").tolist(), *last]
    state = torch.tensor(words, dtype=torch.int64)
    state = torch.where(state >= 1 << 31, state - (1 << 32), state).to(torch.int32)
    found = tensors.chacha20(torch.stack((state, state), 1))  # two blocks side by side
    for column in found.unbind(1):
        assert column.numpy().astype("<i4").tobytes().hex() == block


@pytest.mark.parametrize("block", [0, 1, 2**31 - 1, 2**32 + 5, 2**40 - 1])
def test_blocks_of_the_library(block):
    """Block by block: the library does not count on beyond 32 bits inside one call."""
    for address in ((0, 0, "a"), (7, 2, "b/c")):
        keys = tensors.key_words([KEY.subkey("noise", *address)], HERE)
        rows, numbers = torch.zeros(3, dtype=torch.int64), torch.arange(block, block + 3)
        words = tensors.keystream(keys, rows, numbers).numpy().view(np.uint64).reshape(3, 8)
        for number, own in zip(numbers.tolist(), words):
            assert (own == KEY.stream("noise", *address, start=8 * number).words(8)).all()


@pytest.mark.parametrize("variance", SCALES)
def test_the_same_integers_for_every_shape(variance, monkeypatch):
    sizes = {"a": 1, "none": 0, "b/weight": 7, "c": 8, "": 9, "d": 1023, "long": 4099}
    numbers = {name: (0, size) for name, size in sizes.items()}
    for part in (8, 64, 1 << 21):  # a part ends inside a tensor, at its end, and never
        if part == 8 and sizes.pop("long", None):
            numbers.pop("long")
        monkeypatch.setattr(on_device, "_PART", part)
        drawn = made(variance, numbers, step=3, attempt=1)
        assert list(drawn) == list(numbers)
        for name, (_, size) in numbers.items():
            assert drawn[name].dtype == torch.int64 and drawn[name].shape == (size,)
            assert (drawn[name].numpy() == host(variance, size, name, step=3, attempt=1)).all()
        numbers["long"] = (0, 4099)


def test_the_same_integers_from_any_first_number(monkeypatch):
    monkeypatch.setattr(on_device, "_PART", 128)
    for variance in (25, 10**10, 10**18):
        whole = host(variance, 3000, "w")
        numbers = {
            (start, size): (start, size) for start in (0, 1, 7, 8, 1001) for size in (1, 999)
        }
        keyed = {f"{start}+{size}": pair for pair, (start, size) in numbers.items()}
        for pair in keyed.values():
            drawn = made(variance, {"w": pair})["w"].numpy()
            assert (drawn == whole[pair[0] : sum(pair)]).all()
    far = made(10**10, {"w": (3 << 40, 20)})["w"].numpy()
    assert (far == host(10**10, 20, "w", start=3 << 40)).all()


def test_every_part_of_the_address_counts():
    seen = set()
    for purpose in ("noise", "aggregate"):
        for step, attempt in ((0, 0), (1, 0), (0, 1)):
            drawn = made(
                10**6, {"a": (0, 9), "b": (0, 9)}, name=purpose, step=step, attempt=attempt
            )
            for name, value in drawn.items():
                own = host(10**6, 9, name, purpose=purpose, step=step, attempt=attempt)
                assert (value.numpy() == own).all()
                seen.add(tuple(value.tolist()))
    assert len(seen) == 12


def test_a_word_that_does_not_decide_is_left_to_the_host(monkeypatch):
    """A threshold is put onto the words of two numbers of "b", near the ends of a part."""
    variance, asked = Fraction(10**4), []
    sampler = gaussian.DiscreteGaussian(variance)
    table, words = sampler.table, KEY.stream("noise", 0, 0, "b").words(100)
    tied = (3, 63)
    for number in tied:
        uniform = words[number] >> np.uint64(1)
        table.thresholds[np.searchsorted(table.thresholds, uniform)] = uniform
    edges = np.arange(1 << 16, dtype=np.uint64) << np.uint64(47)
    table.first = np.searchsorted(table.thresholds, edges, side="left")
    for module in (integers, on_device):
        monkeypatch.setattr(module, "discrete_gaussian", lambda _: sampler)
    on_device._table.cache_clear()
    monkeypatch.setattr(on_device, "_PART", 64)
    real = RunKey.stream

    def stream(self, purpose, step, attempt, name="", start=0):
        asked.append((purpose, name))
        return real(self, purpose, step, attempt, name, start)

    monkeypatch.setattr(RunKey, "stream", stream)
    drawn = made(variance, {"a": (0, 60), "b": (0, 100), "c": (0, 9)})
    assert {name for purpose, name in asked if purpose == "ties"} == {
        f"noise/b/{number}/0" for number in tied
    }
    for name, size in (("a", 60), ("b", 100), ("c", 9)):
        assert (drawn[name].numpy() == host(variance, size, name)).all()
    on_device._table.cache_clear()


def test_noise_is_made_where_the_sums_are(monkeypatch):
    asked = []

    def spy(device, variance, numbers, *address):
        asked.append((device, numbers))
        return {
            name: torch.zeros(size, dtype=torch.int64, device=device)
            for name, (_, size) in numbers.items()
        }

    monkeypatch.setattr(on_device, "integers_on", spy)

    def added(sums, **more):
        return noise.add_integer_noise(sums, KEY, 1, 2, multiplier=1.0, bound=500, **more)

    def there(sums):
        return {name: value.to("meta") for name, value in sums.items()}

    sums = {"a": torch.full((2, 3), 5), "s": torch.tensor(-1)}
    here = added(sums)
    assert not asked
    made = added(there(sums))
    assert asked == [(torch.device("meta"), {"a": (0, 6), "s": (0, 1)})]
    assert {n: (v.shape, v.device.type) for n, v in made.items()} == {
        n: (v.shape, "meta") for n, v in sums.items()
    }
    # a rank's part of a tensor, here and there
    part = {"a": sums["a"].flatten()[3:5], "s": torch.zeros(0, dtype=torch.int64)}
    assert torch.equal(added(part, starts={"a": 3})["a"], here["a"].flatten()[3:5])
    added(there(part), starts={"a": 3})
    assert asked[-1][1] == {"a": (3, 2), "s": (0, 0)}
    with pytest.raises(ValueError, match="no tensor"):
        added({})


def wrong(change):
    """The tensors' way with its words changed."""

    def keystream(keys, rows, numbers):
        return change(tensors.keystream(keys, rows, numbers))

    return on_device.Way("wrong", keystream, tensors.sample)


@pytest.mark.parametrize(
    "change", [lambda w: w + 1, lambda w: w & (2**63 - 1), lambda w: w.roll(1), torch.zeros_like]
)
def test_a_device_that_computes_otherwise_is_refused(change, monkeypatch):
    on_device.way.cache_clear()
    assert on_device.way(HERE) is on_device.TENSORS
    on_device.way.cache_clear()
    monkeypatch.setattr(on_device, "TENSORS", wrong(change))
    with pytest.raises(ValueError, match="wrong numbers.*processor"):
        on_device.way(HERE)
    on_device.way.cache_clear()
    on_device.check_device(HERE)  # the host is not asked: numpy makes its noise


@pytest.mark.parametrize(
    "change",
    [
        lambda drawn, tied: (drawn + (drawn == 7), tied),
        lambda drawn, tied: (drawn.int().long(), tied),  # numbers beyond 32 bits
        lambda drawn, tied: (drawn, torch.zeros_like(tied)),
        lambda drawn, tied: (drawn, torch.ones_like(tied)),
    ],
)
def test_a_sampler_that_computes_otherwise_is_refused(change):
    def biased(words, table):
        return change(*tensors.sample(words, table))

    assert not on_device.agrees(on_device.Way("w", tensors.keystream, biased), HERE)


def test_kernels_that_fail_leave_it_to_plain_operations(monkeypatch):
    def broken(*_):
        raise RuntimeError("no compiler")

    found = []
    monkeypatch.setattr(on_device, "_has_kernels", lambda device: found.append(device) or True)
    for bad in (on_device.Way("fused", broken, broken), wrong(lambda w: w + 1), None):
        on_device.way.cache_clear()
        monkeypatch.setattr(on_device, "fused", lambda bad=bad: bad)
        assert on_device.way(HERE) is on_device.TENSORS
    assert len(found) == 3
    on_device.way.cache_clear()


def test_threads_change_nothing(monkeypatch):
    whole = {variance: host(variance, 50_001, "w", start=5) for variance in (25, 10**10)}
    monkeypatch.setattr(integers, "_SHARE", 1 << 12)
    for threads in (2, 3, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for variance, expected in whole.items():
            assert (host(variance, 50_001, "w", start=5) == expected).all()


KERNELS = """
import torch
from sfumato.privacy.random import on_device
found, here = on_device.fused(), torch.device("cpu")
assert found is not None and found.name == "fused"
assert on_device.agrees(found, here), "other numbers"
key = on_device.RunKey(bytes(range(1, 33)))
numbers = {"a": (0, 700), "b": (5, 300)}
for variance in (25, 10**10, 10**18):
    asked = (here, on_device.Fraction(variance), numbers, key, "noise", 4, 1)
    first, second = (on_device.integers_on(*asked, way) for way in (found, on_device.TENSORS))
    assert all(torch.equal(first[name], second[name]) for name in numbers), variance
"""


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: no kernels here"
)
def test_the_kernels_give_the_same_integers():
    """By Triton's interpreter, which decides when the kernels are imported: another process."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
