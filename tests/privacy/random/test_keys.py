"""The run key: addresses are independent, draws are reproducible, and no global generator is
touched.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
import random
import stat
import time

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.privacy.random.keys import RunKey

KEY = RunKey(bytes(range(32)))


def test_derivation_is_the_documented_one():
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    address = b'{"attempt":2,"name":"a\\"b","purpose":"noise","step":7,"version":1}'
    subkey = hmac.new(bytes(range(32)), address, hashlib.sha256).digest()
    keystream = (
        Cipher(algorithms.ChaCha20(subkey, bytes(16)), mode=None).encryptor().update(bytes(80))
    )
    assert KEY.stream("noise", 7, 2, 'a"b').words(10).tobytes() == keystream
    assert KEY.id == hashlib.sha256(b"id" + bytes(range(32))).hexdigest()[:16]


def test_addresses_differ_in_every_part():
    addresses = [
        ("noise", 0, 0, ""),
        ("sample", 0, 0, ""),
        ("noise", 1, 0, ""),
        ("noise", 0, 1, ""),
        ("noise", 0, 0, "x"),
    ]
    draws = [KEY.stream(*address).normal(2000) for address in addresses]
    draws.append(RunKey.generate().stream(*addresses[0]).normal(2000))
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.12
    assert (draws[0] == KEY.stream(*addresses[0]).normal(2000)).all()


def test_distributions():
    normal = KEY.stream("noise", 0, 0).normal(200_001)
    assert stats.kstest(normal, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(normal[:-1:2], normal[1::2])[0, 1]) < 0.02
    uniform = KEY.stream("unit", 0, 0).uniform(200_000)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert uniform.min() >= 0 and uniform.max() < 1


def test_box_muller_equals_the_textbook_form():
    words = KEY.stream("noise", 0, 0).words(1000).reshape(-1, 2) >> np.uint64(11)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 1.0) / 2**53))
    angle = 2 * np.pi * words[:, 1] / 2**53
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    np.testing.assert_allclose(KEY.stream("noise", 0, 0).normal(1000), expected, atol=1e-12)


def test_shorter_draws_are_prefixes_and_even_calls_continue():
    whole = KEY.stream("noise", 3, 0).normal(200_000)
    assert (KEY.stream("noise", 3, 0).normal(7) == whole[:7]).all()
    stream = KEY.stream("noise", 3, 0)
    assert (np.concatenate([stream.normal(100_000), stream.normal(9)]) == whole[:100_009]).all()


@pytest.mark.parametrize("count", [1, 16, 513])
def test_batches_equal_single_streams(count):
    names = ["0", "17", "x"]
    normals, uniforms = (
        KEY.normals_for("unit", 4, 1, names, count),
        KEY.uniforms_for("unit", 4, 1, names, count),
    )
    for row, name in enumerate(names):
        assert (normals[row] == KEY.stream("unit", 4, 1, name).normal(count)).all()
        assert (uniforms[row] == KEY.stream("unit", 4, 1, name).uniform(count)).all()
    assert KEY.normals_for("unit", 4, 1, [], count).shape == (0, count)


def test_global_generators_are_neither_read_nor_written():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    draw = KEY.stream("noise", 0, 0).normal(10)
    assert states() == before
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert (KEY.stream("noise", 0, 0).normal(10) == draw).all()


def test_save_and_load(tmp_path):
    path = tmp_path / "run.key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert RunKey.load(path).id == KEY.id
    with pytest.raises(ValueError, match="exists"):
        KEY.save(path)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="0600"):
        RunKey.load(path)
    path.chmod(0o600)
    path.write_text("not hex")
    with pytest.raises(ValueError, match="damaged"):
        RunKey.load(path)
    with pytest.raises(ValueError, match="cannot be read"):
        RunKey.load(tmp_path / "none")


def test_the_secret_does_not_leak_by_printing_or_pickling():
    assert bytes(range(32)).hex() not in repr(KEY) and KEY.id in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_refusals():
    for address in [("dropout", 0, 0), ("noise", -1, 0), ("noise", 0, 1.5), ("noise", True, 0)]:
        with pytest.raises(ValueError):
            KEY.stream(*address)
    with pytest.raises(ValueError):
        RunKey(b"short")
    assert RunKey.generate().id != RunKey.generate().id


@pytest.mark.slow
def test_small_draws_are_cheap():
    start = time.process_time()
    for unit in range(2000):
        KEY.stream("unit", 0, 0, str(unit)).normal(512)
    assert (time.process_time() - start) / 2000 < 100e-6  # 25 us measured on one core
