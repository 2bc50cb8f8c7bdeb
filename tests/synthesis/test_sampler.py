"""Generation: every image is its own, whoever computes it, and the pictures are those of diffusers'
pipeline.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.options import Sampling
from sfumato.synthesis import sampler
from sfumato.synthesis.sampler import image_seed, pictures, resolved

CLASSES = ("circle", "cross", "square")


@pytest.fixture(scope="module")
def base(whole_tiny_base):
    return load_base(whole_tiny_base)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def draw(base, indices, sampling=None):
    """The pictures of `indices`, computed as one piece."""
    indices = np.array(list(indices))
    sampling = sampling or Sampling(steps=3)
    ((part, images),) = pictures(base, CLASSES, np.arange(100) % 3, indices, sampling)
    assert np.array_equal(part, indices)
    return images


def close(a, b):
    """Equal but for the rounding of batched half-precision kernels."""
    return np.abs(a.astype(int) - b.astype(int)).mean() < 1.5


@pytest.mark.parametrize(
    "scheduler",
    [
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "DDPMScheduler",
        "DDIMScheduler",
    ],
)
def test_an_image_does_not_depend_on_its_batch(base, scheduler):
    sampling = Sampling(scheduler=scheduler, steps=3)
    together = draw(base, range(6), sampling)
    assert np.array_equal(together, draw(base, range(6), sampling))
    # same batch size
    assert np.array_equal(draw(base, [5, 0, 4, 3, 2, 1], sampling)[[1, 5, 4, 3, 2, 0]], together)
    assert close(draw(base, [4], sampling)[0], together[4])
    assert not close(together[0], together[3])  # same class, another seed
    assert together.shape == (6, 16, 16, 3) and together.dtype == np.uint8


def test_global_generators_play_no_part(base):
    sampling = Sampling(scheduler="EulerAncestralDiscreteScheduler", steps=2)
    torch.manual_seed(0)
    first = draw(base, range(3), sampling)
    torch.manual_seed(1)
    np.random.seed(1)
    assert np.array_equal(first, draw(base, range(3), sampling))


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "KDPM2DiscreteScheduler",
    ],
)
def test_other_schedulers_work(base, name):
    images = draw(base, range(2), Sampling(scheduler=name, steps=4))
    assert images.std() > 1


def test_pictures_that_are_not_finite_are_no_pictures(base):
    with pytest.raises(SfumatoError, match="non-finite"):
        draw(base, range(2), Sampling(scheduler="KDPM2AncestralDiscreteScheduler", steps=4))


def test_the_sampler_is_the_pipelines_own(base):
    """The pictures are those of diffusers' own pipeline from the same latents."""

    sampling = Sampling(steps=4, guidance_scale=2.0)
    own = draw(base, [0, 1], sampling)
    pipe = base.as_pipeline()
    pipe.scheduler = base.sampler(base.default_sampler, sampling.steps)
    pipe.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(image_seed(0, i)) for i in (0, 1)]
    latents = torch.stack([torch.randn(4, 8, 8, generator=g) for g in seeds])
    theirs = pipe(
        ["circle", "cross"],
        negative_prompt=["", ""],
        latents=latents,
        num_inference_steps=4,
        guidance_scale=2.0,
        height=16,
        width=16,
        output_type="np",
    ).images
    assert np.abs(own.astype(float) - theirs * 255).mean() < 2


def test_guidance_changes_the_picture_and_one_means_none(base):
    plain = draw(base, range(2), Sampling(steps=2))
    guided = draw(base, range(2), Sampling(steps=2, guidance_scale=30.0))
    almost = draw(base, range(2), Sampling(steps=2, guidance_scale=1.0 + 1e-6))
    assert not np.array_equal(plain, guided) and close(plain, almost)


def test_seeds_are_public_hashes():
    assert image_seed(0, 0) != image_seed(0, 1) != image_seed(1, 0)
    assert image_seed(1, 23) != image_seed(12, 3)
    assert all(0 <= image_seed(3, i) < 2**63 for i in range(100))


def test_pieces_come_in_order_and_do_not_depend_on_the_workers(base, monkeypatch, two_threads):
    monkeypatch.setattr(sampler, "PIECE", 3)
    labels, numbers, names = np.arange(100) % 3, np.arange(40, 51), set()
    drawn = sampler.Sampler.draw

    def watched(self, *args):
        names.add((threading.current_thread().name, torch.get_num_threads()))
        return drawn(self, *args)

    monkeypatch.setattr(sampler.Sampler, "draw", watched)
    alone = list(pictures(base, CLASSES, labels, numbers, Sampling(steps=2, batch=3)))
    assert {threads for _, threads in names} == {2} and len(names) == 1
    names.clear()
    together = list(pictures(base, CLASSES, labels, numbers, Sampling(steps=2, batch=6)))
    assert {threads for _, threads in names} == {1} and torch.get_num_threads() == 2
    assert [len(part) for part, _ in together] == [3, 3, 3, 2]
    for (part, images), (same, others) in zip(alone, together):
        assert np.array_equal(part, same)
        # but for rounding: kernels of one and of two threads add in another order
        assert abs(images.astype(int) - others).max() <= 1
    assert np.array_equal(np.concatenate([part for part, _ in together]), numbers)


def test_closing_the_iterator_stops_the_workers(base, two_threads, monkeypatch):
    monkeypatch.setattr(sampler, "PIECE", 1)
    before = threading.active_count()
    running = pictures(
        base, CLASSES, np.arange(100) % 3, np.arange(100), Sampling(steps=50, batch=2)
    )
    next(running)
    running.close()
    assert threading.active_count() == before and torch.get_num_threads() == 2


def test_the_error_of_a_worker_reaches_the_caller(base, two_threads, monkeypatch):
    def broken(latents):
        raise SfumatoError("no decoder today")

    monkeypatch.setattr(base, "decode", broken)
    with pytest.raises(SfumatoError, match="no decoder today"):
        draw(base, range(4))
    assert torch.get_num_threads() == 2


def test_auto_is_the_quick_sampler_or_the_bases_own(whole_tiny_base):
    base = load_base(whole_tiny_base)
    assert resolved(Sampling(), base).scheduler == "DPMSolverMultistepScheduler"
    assert resolved(Sampling(scheduler="DDIMScheduler"), base).scheduler == "DDIMScheduler"
    base.scheduler = LCMScheduler.from_config(base.scheduler.config)
    assert resolved(Sampling(), base).scheduler == "LCMScheduler"
