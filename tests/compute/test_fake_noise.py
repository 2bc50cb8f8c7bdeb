"""Noise on a device whose tensors do not mix with the host's: the host's integers, and one wait."""

from __future__ import annotations

import torch

from sfumato.privacy.random import noise, on_device
from sfumato.privacy.random.keys import RunKey

from . import fake_device as fake

fake.register()
SUMS = {"a": torch.full((3, 5), 7), "s": torch.tensor(3), "b": torch.zeros(4001, dtype=torch.int64)}


def test_sums_of_a_device_get_the_noise_of_the_host():
    key, how = RunKey(bytes(range(32))), {"multiplier": 2.0, "bound": 10**6}
    here = noise.add_integer_noise(SUMS, key, 1, 0, **how)
    with fake.fake_device() as seen:
        on_device.way.cache_clear()
        there = {name: value.to(fake.DEVICE) for name, value in SUMS.items()}
        assert on_device.way(fake.DEVICE) is on_device.TENSORS
        seen.clear()
        made = noise.add_integer_noise(there, key, 1, 0, **how)
        assert seen.waits == 1 and not seen.made_on_host, seen
        assert all(value.device == fake.DEVICE for value in made.values())
        found = {name: torch.tensor(value.tolist()) for name, value in made.items()}
    assert all(torch.equal(found[name], value) for name, value in here.items())
