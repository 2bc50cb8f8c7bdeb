"""Two ranks warm up alike: one asks the class moments, both make the same plain steps on them."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from sfumato.methods.warm_up.fit import FILE
from sfumato.privacy.ledger.notes import MomentsMade
from sfumato.runs.folder import Run

from ...processes import succeed

# Every rank writes down whether it asked, and what it holds when the warm-up is over.
SCRIPT = """
    import importlib
    import safetensors.torch
    from sfumato.compute import ranks
    from sfumato.methods import Full
    from sfumato.options import Performance
    images, base, output, seen = sys.argv[1:]
    warming = importlib.import_module("sfumato.methods.warm_up.fit")
    release, train_on, asked = warming.release, warming.train_on, []

    def watched(*given):
        asked.append(1)
        return release(*given)

    def kept(prepared, *given):
        train_on(prepared, *given)
        held = {name: p.detach().clone() for name, p in prepared.adaptation.trainable.items()}
        held["asked"] = torch.tensor(len(asked))
        safetensors.torch.save_file(held, f"{seen}-{ranks.rank()}")

    warming.release, warming.train_on = watched, kept
    method = Full(warm_up="means", warm_up_steps=3, warm_up_size=2)
    verbs.adapt(images, output=output, ledger=output + ".sqlite", epsilon=8.0, delta=1e-3,
                method=method, base=base, anyway=True, yes_public=True, steps=2,
                expected_batch_size=8, noise_draws=1,
                performance=Performance(samples_every=0, micro_batch=8, precision="float32"))
"""


@pytest.mark.slow
def test_two_ranks_ask_the_moments_once_and_warm_up_to_equal_weights(
    tiny_images, tiny_base, tmp_path
):
    held, noisy = {}, []
    for world in (1, 2):
        output, seen = tmp_path / f"run-{world}", tmp_path / f"seen-{world}"
        succeed(world, SCRIPT, tiny_images, tiny_base, output, seen)
        assert len(Run.open(output).ledger.entries(MomentsMade)) == 1
        noisy.append((output / FILE).read_bytes())
        for rank in range(world):
            held[world, rank] = safetensors.torch.load_file(f"{seen}-{rank}")
    assert noisy[0] == noisy[1]
    assert [int(one.pop("asked")) for one in held.values()] == [1, 1, 0]
    alone, first, second = held.values()
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], weight), name
