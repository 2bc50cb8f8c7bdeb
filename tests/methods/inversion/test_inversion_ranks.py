"""Two ranks share the chunks, one adds them up: the same token as one process makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.bases import embeds_files
from sfumato.runs.folder import Run

from ...processes import succeed

SCRIPT = """
    from sfumato.options import Performance
    images, base, output = sys.argv[1:]
    verbs.adapt(images, output=output, epsilon=4.0, delta=1e-2, base=base, yes_public=True, method="inversion", prompt="a {class} circle",
                dimensions=4, inversion_steps=2, inversion_draws=1,
                performance=Performance(micro_batch=5, precision="float32"))
"""


def launch(world: int, images: Path, base: Path, output: Path) -> list[bytes]:
    succeed(world, SCRIPT, images, base, output)
    return [path.read_bytes() for path in embeds_files(Run.open(output).model)]


@pytest.mark.slow
def test_two_ranks_release_what_one_does(tiny_images, tiny_base, tmp_path):
    one, two = (launch(n, tiny_images, tiny_base, tmp_path / f"run-{n}") for n in (1, 2))
    assert len(one) == 3 and one == two
