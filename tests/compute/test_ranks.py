"""`adapt` under two ranks: one run folder, one ledger, and the weights that one rank gets."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from sfumato.compute import ranks
from sfumato.runs.folder import Run

from ..processes import launch, succeed

SCRIPT = """
    from sfumato.options import Performance
    images, base, output = sys.argv[1:]
    verbs.adapt(images, output=output, base=base, epsilon=2.0, delta=1e-2, method="lora", expected_batch_size=8, steps=3,
                performance=Performance(micro_batch=4, precision="float32", checkpoint_steps=2))
"""


def test_a_world_of_one_needs_no_process_group():
    assert (ranks.world_size(), ranks.rank()) == (1, 0)
    assert (
        ranks.on_first_rank(lambda: "x") == "x"
        and ranks.any_rank(True)
        and not ranks.any_rank(False)
    )
    assert ranks.same_on_all_ranks("x")
    tensors = {"a": torch.ones(2)}
    ranks.sum_over_ranks(tensors)
    assert torch.equal(tensors["a"], torch.ones(2))


@pytest.mark.slow
def test_two_ranks_make_the_run_of_one(tiny_images, whole_tiny_base, tmp_path):
    found = []
    for world in (1, 2):
        succeed(world, SCRIPT, tiny_images, whole_tiny_base, tmp_path / str(world))
        run = Run.open(tmp_path / str(world))
        assert [r.kind for r in run.ledger.rows] == [
            "PLAN",
            "CHARGE",
            "ATTEMPT",
            "NOTE",
            "NOTE",
            "NOTE",
        ]
        assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 3
        found.append(load_file(run.model / "pytorch_lora_weights.safetensors"))
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
def test_an_error_that_nobody_foresaw_reaches_every_rank():
    script = """
        from sfumato.compute import ranks as parallel
        parallel.start()
        parallel.on_first_rank(lambda: 1 / 0)
    """
    (first, zero), (second, told) = launch(2, script)
    assert first and "ZeroDivisionError" in zero
    assert second and "SfumatoError: the first process failed" in told


@pytest.mark.slow
def test_a_ledger_that_does_not_open_stops_every_rank(
    tiny_images, whole_tiny_base, tmp_path, ledger_of_the_test
):
    """The first rank alone opens it; the others must hear of the error instead of waiting
    for days.
    """
    ledger_of_the_test.write_bytes(b"no ledger of ours")
    for code, err in launch(2, SCRIPT, tiny_images, whole_tiny_base, tmp_path / "run"):
        assert code and "SfumatoError: the ledger's key is gone" in err, err[-2000:]
    assert not (tmp_path / "run").exists()
