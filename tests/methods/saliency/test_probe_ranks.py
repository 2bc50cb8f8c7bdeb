"""Two ranks ask the same units, add integers, and draw one noise: the same scores and the same
choice as one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.runs.folder import Run

from ...processes import succeed

SCRIPT = """
    from sfumato.options import Performance
    images, base, output = sys.argv[1:]
    verbs.adapt(images, output=output, epsilon=4.0, delta=1e-2, base=base, yes_public=True, method="saliency", expected_batch_size=8,
                steps=2, keep=5, probe_units=12, probe_draws=2, rank=2,
                performance=Performance(micro_batch=8, precision="float32"))
"""


def launch(world: int, images: Path, base: Path, output: Path) -> dict:
    succeed(world, SCRIPT, images, base, output)
    (probe,) = Run.open(output).ledger.bodies("PROBE")
    return probe


@pytest.mark.slow
def test_two_ranks_choose_as_one(tiny_images, whole_tiny_base, tmp_path):
    assert launch(1, tiny_images, whole_tiny_base, tmp_path / "one") == launch(
        2, tiny_images, whole_tiny_base, tmp_path / "two"
    )
