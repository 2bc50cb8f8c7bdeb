"""Families that a language model tells what to draw, each on its tiny random pipeline."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.methods import Lora
from sfumato.methods.dpsgd import fit_to_memory
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from tests.bases.family_checks import (
    CAPTIONS,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    pipeline,
    refused,
)
from tests.bases.published_language_models import OWN

MEASURED_MEMORY = True  # conftest.py

PROMPTS = ["a picture of a circle", "cross"]
# One of each family runs through the command line; the others differ in their parts alone.
TRAINED = ["lumina_2", "z_image", "qwen_image", "prx"]
WITH_ADAPTERS = TRAINED[:3]


@pytest.mark.parametrize("name", OWN)
def test_row_losses_are_the_published_objective(name: str, folder_of: Any) -> None:
    check_objective(folder_of(name), PROMPTS, OWN[name].loss, captions=CAPTIONS)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", OWN)
def test_pictures_are_those_of_the_pipeline(name: str, guidance: float, folder_of: Any) -> None:
    folder = folder_of(name)
    check_sampling(
        load_base(folder), pipeline(folder), PROMPTS, OWN[name].draw, guidance_scale=guidance
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "lora") for name in WITH_ADAPTERS] + [(name, "attention") for name in TRAINED],
)
def test_a_noised_run_opens_in_plain_diffusers(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path
) -> None:
    run = adapt(folder_of(name), tiny_images, tmp_path / "run", method)
    # a whole pipeline is saved in half precision, and read so by both
    check_output(run, folder_of(name), OWN[name].draw, guidance_scale=2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "full") for name in TRAINED]
    + [(name, method) for name in WITH_ADAPTERS for method in ("saliency", "loda")],
)
def test_other_methods_run(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path
) -> None:
    assert adapt(folder_of(name), tiny_images, tmp_path / "run", method).model.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["embedding", "inversion"])
@pytest.mark.parametrize("name", TRAINED)
def test_methods_that_teach_tokens_are_refused_before_any_charge(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    said = refused(folder_of(name), tiny_images, run, "--method", method, capsys=capsys)
    assert said.startswith("11: ") and "has no tokens that can be taught" in said


def test_embedders_whose_rows_are_no_records_stay_as_they_are(folder_of: Any) -> None:
    base = load_base(folder_of("z_image"))
    names = {name.split(".")[0] for name, _ in base.denoiser.named_parameters()}
    packed = {"all_x_embedder", "cap_embedder", "x_pad_token", "cap_pad_token"}
    assert packed < names
    assert {name.split(".")[0] for name in base.learnable()} == names - packed


@pytest.mark.parametrize("name", ["lumina_2", "z_image"])
def test_families_that_join_texts_to_the_longest_learn_from_one_unit_at_a_time(
    name: str, folder_of: Any
) -> None:
    records = PublicFacts(40, ("circle", "a cross of two lines"))
    task = task_of(
        base=str(folder_of(name)), method=Lora(rank=2), epsilon=8.0, delta=1e-2, steps=2,
        expected_batch_size=4,
    )[2]  # fmt: skip
    prepared = prepare(records, task)
    assert fit_to_memory(prepared).performance.micro_batch == 1
    several = replace(prepared, performance=replace(prepared.performance, micro_batch=2))
    with pytest.raises(SfumatoError, match="--micro-batch-size 2: the longest prompt of a pass"):
        fit_to_memory(several)
    reference = replace(prepared.performance, micro_batch=2, engine="reference")
    assert fit_to_memory(replace(prepared, performance=reference)).performance.micro_batch == 2


def test_text_that_reaches_nothing_is_left_out(folder_of: Any) -> None:
    base = load_base(folder_of("qwen_image"))
    told = base.condition(PROMPTS)
    noisy = torch.ones(2, *base.latent_shape)
    base.denoiser.requires_grad_(True)
    base.predict(noisy, torch.tensor([500, 900]), told).square().sum().backward()
    reached = {
        name
        for name, tensor in base.denoiser.named_parameters()
        if tensor.grad is not None and bool(tensor.grad.any())
    }
    assert reached == set(base.learnable())


def test_one_thread_at_a_time_is_in_the_autoencoder_of_videos(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base: Any = load_base(folder_of("qwen_image"))
    vae, within, met = base.parts["vae"], threading.Semaphore(1), []
    own = vae.decode

    def decode(z: torch.Tensor) -> Any:
        met.append(not within.acquire(blocking=False))
        time.sleep(0.05)
        within.release()
        return own(z)

    monkeypatch.setattr(vae, "decode", decode)
    latents = torch.zeros(1, *base.latent_shape)
    threads = [threading.Thread(target=base.decode, args=(latents,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [False] * 3


@pytest.mark.parametrize("method", ["lora", "saliency", "loda"])
def test_a_family_without_a_format_for_adapters_refuses_them(
    method: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    said = refused(folder_of("prx"), tiny_images, run, "--method", method, capsys=capsys)
    assert "a prx base has no file format for adapters" in said


@pytest.mark.parametrize("name", TRAINED)
def test_a_missing_text_encoder_is_refused(
    name: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    bad = shutil.copytree(folder_of(name), tmp_path / "bad")
    shutil.rmtree(bad / "text_encoder")
    said = refused(bad, tiny_images, tmp_path / "run", "--method", "attention", capsys=capsys)
    assert said.startswith("11: ") and "has no text_encoder" in said
