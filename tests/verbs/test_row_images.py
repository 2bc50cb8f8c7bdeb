"""What the rows of an evaluation are drawn from."""

from __future__ import annotations

import pytest

from sfumato import verbs
from sfumato.options import Recipe
from sfumato.verbs import row_images


class Stopped(Exception):
    """Before anything trains."""


@pytest.mark.parametrize(("asked", "without_noise"), [(None, 0.04), (0.003, 0.003)])
def test_a_rate_that_noise_lowered_is_no_part_of_the_recipe(
    tiny_images, tiny_base, tmp_path, monkeypatch, asked, without_noise
):
    """Else the row without noise would be slow, too, and the loss to privacy seem smaller."""
    run = verbs.adapt(
        tiny_images,
        base=str(tiny_base),
        output=tmp_path / "run",
        ledger=tmp_path / "ledger.sqlite",
        method="lora",
        rank=2,
        epsilon=0.5,
        delta=1e-3,
        steps=2,
        expected_batch_size=8,
        noise_draws=1,
        recipe=Recipe(learning_rate=asked),
        anyway=True,
        yes_public=True,
    )
    assert run.plan.learning_rate < 0.04
    trained = []

    def stop(*given, recipe, **more):
        trained.append(recipe.learning_rate)
        raise Stopped

    monkeypatch.setattr(row_images, "train_without_privacy", stop)
    with pytest.raises(Stopped):
        row_images.non_private_base(run)
    assert trained == [without_noise]
