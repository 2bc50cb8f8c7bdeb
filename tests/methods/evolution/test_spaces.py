"""Feature spaces: a picture's features are its own, finite, and computed once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.methods.evolution import spaces
from sfumato.methods.evolution.spaces import (
    Space,
    of_candidates,
    of_images,
    require_alone,
    space_of,
)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


class Whole(torch.nn.Module):
    """Features of one picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3))


class Centred(torch.nn.Module):
    """Features that look at the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3)) - x.float().mean((0, 2, 3))


class Stretched(torch.nn.Module):
    """Features on the scale of the batch's darkest and brightest pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        return ((x - x.min()) / (x.max() - x.min())).flatten(1)


class Following(torch.nn.Module):
    """Features that know what went before."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(1).cumsum(0)


class Broken(torch.nn.Module):
    """Features that are no numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3)) * float("nan")


def script(kind, place) -> str:
    torch.jit.save(torch.jit.script(kind()), str(place))
    return str(place)


@pytest.mark.parametrize("name", ["latents", "pixels"])
def test_bundled_spaces_are_of_one_picture_at_a_time(base, name):
    require_alone(base, space_of(base, name))


def test_a_file_of_features_is_a_space_with_its_name(base, tmp_path):
    space = space_of(base, script(Whole, tmp_path / "colours.pt"))
    require_alone(base, space)
    found = of_candidates(base, space, torch.randn(3, *base.latent_shape))
    assert (
        space.name.startswith("colours, SHA-256 ")
        and found.shape == (3, 3)
        and found.dtype == np.float32
    )


@pytest.mark.parametrize("kind", [Centred, Stretched, Following])
def test_features_that_look_at_the_batch_are_refused(base, kind, tmp_path):
    with pytest.raises(SfumatoError, match="depend on which others"):
        require_alone(base, space_of(base, script(kind, tmp_path / "features.pt")))


def test_features_that_are_not_finite_are_refused(base, tmp_path):
    with pytest.raises(SfumatoError, match="not finite"):
        require_alone(base, space_of(base, script(Broken, tmp_path / "broken.pt")))


def test_there_is_no_other_space(base, tmp_path):
    with pytest.raises(SfumatoError, match="latents or pixels"):
        space_of(base, str(tmp_path / "nothing.pt"))


def test_features_are_computed_once_and_do_not_couple_images(base, tmp_path, monkeypatch):
    monkeypatch.setattr(spaces, "ROWS", 4)
    calls = []

    def of_latents(latents):
        calls.append(len(latents))
        return latents.flatten(1).numpy()

    space, mean = Space("own", of_latents), np.random.default_rng(0).random((10, 4, 2, 2), "f4")
    order = np.random.default_rng(1).permutation(10)
    found = of_images(tmp_path, space, mean.astype(np.float16), order)
    assert np.array_equal(found, mean.astype(np.float16).astype(np.float32).reshape(10, -1))
    assert calls == [4, 4, 2]
    assert np.array_equal(of_images(tmp_path, space, mean, order), found) and len(calls) == 3
    # a start that died while it wrote does them again
    (tmp_path / spaces.FOLDER / "features.done").unlink()
    of_images(tmp_path, space, mean, order)
    assert len(calls) == 6


def test_an_exchanged_file_of_features_is_another_space(base, tmp_path):
    """Else a replay would ask another question under the noise of the first."""
    from types import SimpleNamespace

    from sfumato.methods import Evolution
    from sfumato.options import Performance

    place = script(Whole, tmp_path / "own.pt")
    planned = space_of(base, place)
    script(Broken, tmp_path / "own.pt")
    prepared = SimpleNamespace(
        plan=SimpleNamespace(voting=SimpleNamespace(features=planned.name)),
        adaptation=SimpleNamespace(space=space_of(base, place)),
        base=base,
        performance=Performance(),
    )
    with pytest.raises(SfumatoError, match="not the one that this run was planned with"):
        Evolution(features=place).check(prepared, lambda stage: None)
