"""Weights stay in memory as they are stored, in every family: the same numbers come out."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.bases import add_lora, load_base, load_lora, save_lora, weights, weights_of_base
from sfumato.bases.conditioning import Conditioning
from sfumato.cli import main
from sfumato.compute import device
from sfumato.compute.stored import Stored
from sfumato.errors import ModelError
from sfumato.gradients import Engine, Ratios
from sfumato.methods import METHODS, Given, Prompts
from sfumato.methods.reach import apply_noted
from sfumato.privacy.rounding import Rounding
from sfumato.training.dummy import dummy_rows
from sfumato.verbs import describe_base
from tests.bases import tiny_language_models, tiny_transformers
from tests.bases.family_checks import adapt, check_output, draw
from tests.bases.tiny_pipelines import PIPELINES

LANGUAGE = ("lumina_2", "z_image", "qwen_image", "prx")
TRANSFORMERS = ("stable_diffusion_3", "pixart_sigma", "flux", "sana", "flux2_klein")
FAMILIES = {
    **PIPELINES,
    **{name: getattr(tiny_transformers, name) for name in TRANSFORMERS},
    **{name: getattr(tiny_language_models, name) for name in LANGUAGE},
}
PROMPTS = Prompts(("circle",))
# both kinds of U-Net, of autoencoder and of text encoder; the rest is slower
QUICK = ("stable_diffusion", "ldm_classes", "dit")


def rewrite(folder: Path, dtype: torch.dtype, but: str = "") -> Path:
    """Stores all weights in a precision, but for tensors of a name."""
    for path in folder.rglob("*.safetensors"):
        tensors = {
            name: t.to(dtype) if t.is_floating_point() and not (but and but in name) else t
            for name, t in load_file(path).items()
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


def models(base) -> dict[str, nn.Module]:
    held = vars(base)["parts"].held() if "parts" in vars(base) else vars(base)
    return {name: part for name, part in held.items() if isinstance(part, nn.Module)}


def opened(folder: Path, monkeypatch, least: int):
    monkeypatch.setattr(weights, "LEAST", least)
    return load_base(folder)


def flat(condition: Conditioning) -> list[torch.Tensor]:
    return [condition] if isinstance(condition, torch.Tensor) else list(condition.values())


def computed(base) -> list[torch.Tensor]:
    """Latents, conditions, a prediction, the gradient at its input, and a picture."""
    g = torch.Generator().manual_seed(0)
    side = base.resolution
    images = torch.randint(0, 256, (2, side, side, 3), generator=g, dtype=torch.uint8).numpy()
    mean, std = base.encode(images)
    prompts = ["", "circle"] if base.prompted and not hasattr(base, "table") else [""] * 2
    told = base.condition(prompts)
    noisy = torch.randn(2, *base.latent_shape, generator=g, requires_grad=True)
    said = base.predict(noisy, torch.tensor([5, 400]), told)
    (grad,) = torch.autograd.grad(said.square().sum(), noisy)
    picture = torch.from_numpy(np.ascontiguousarray(base.decode(mean)))
    return [mean, std, *flat(told), said.detach(), grad, picture]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES],
)
def test_what_a_family_computes_does_not_change(name, dtype, tmp_path, monkeypatch):
    folder = rewrite(FAMILIES[name](tmp_path / "base"), dtype)
    plain = opened(folder, monkeypatch, 2**40)
    kept = opened(folder, monkeypatch, 0)
    assert not any(isinstance(p, Stored) for m in models(plain).values() for p in m.parameters())
    for part, model in models(kept).items():
        held = list(model.parameters())
        half = sum(p.numel() for p in held if isinstance(p, Stored))
        assert half > 0.5 * sum(p.numel() for p in held), part
        assert {p.kept.dtype for p in held if isinstance(p, Stored)} == {dtype}
    for a, b in zip(computed(plain), computed(kept), strict=True):
        assert torch.equal(a, b)


def test_a_large_part_is_kept_and_a_small_one_is_not(tmp_path, monkeypatch):
    folder = rewrite(FAMILIES["stable_diffusion"](tmp_path / "base"), torch.float16)
    sizes = {name: sum(p.stat().st_size for p in (folder / name).glob("*.safetensors"))
             for name in ("unet", "vae", "text_encoder")}  # fmt: skip
    between = sorted(sizes.values())[1:]
    base = opened(folder, monkeypatch, sum(between) // 2)
    for name, model in models(base).items():
        kept = any(isinstance(p, Stored) for p in model.parameters())
        assert kept == (name == max(sizes, key=lambda n: sizes[n]))
    held = sum(
        (2 if isinstance(p, Stored) else 4) * p.numel()
        for model in models(base).values()
        for p in model.parameters()
    )
    assert base.info.held == pytest.approx(held, rel=0.01) and held < 4 * base.info.parameters


@pytest.mark.parametrize("name", ["stable_diffusion", "ddpm_classes"])
def test_parts_stored_in_two_precisions_keep_what_half_precision_holds(name, tmp_path, monkeypatch):
    folder = rewrite(FAMILIES[name](tmp_path / "base"), torch.float16, but="norm")
    plain, kept = opened(folder, monkeypatch, 2**40), opened(folder, monkeypatch, 0)
    assert any(isinstance(p, Stored) for p in kept.denoiser.parameters())
    for a, b in zip(computed(plain), computed(kept), strict=True):
        assert torch.equal(a, b)


def large(folder: Path, monkeypatch) -> Path:
    """The folder in float16; every part counts as a large one."""
    monkeypatch.setattr(weights, "LEAST", 0)
    return rewrite(folder, torch.float16)


def step(base, method: str, **options) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One clipped sum of dummy records: sums by name, and norms."""
    words = Prompts(("<it>",), ("<it>",), (None,)) if method == "embedding" else PROMPTS
    given = Given(words)
    with device.seeded(0):
        made = apply_noted(METHODS[method](**options).apply(base, given), {})
    batch = dummy_rows(base, 1, 3, 2)
    rounding = Rounding.of(1.0, made.most_trainable)
    with Engine(made.model, made.trainable, ratios=Ratios()) as engine:
        return engine.clipped_sum(
            made.row_losses, batch, draws=2, clip=lambda n: 1 / n, rounding=rounding
        )


@pytest.mark.parametrize("method", ["lora", "attention", "full", "loda", "saliency", "embedding"])
def test_a_private_step_is_the_same(method, tmp_path, monkeypatch):
    folder = large(FAMILIES["stable_diffusion"](tmp_path / "base"), monkeypatch)
    kept = step(load_base(folder), method)
    monkeypatch.setattr(weights, "LEAST", 2**40)
    plain = step(load_base(folder), method)
    assert torch.equal(kept[1], plain[1]) and kept[0].keys() == plain[0].keys()
    for name, value in plain[0].items():
        assert torch.equal(kept[0][name], value), name


def test_what_trains_is_single_and_the_rest_as_stored(tmp_path, monkeypatch):
    base = load_base(large(FAMILIES["stable_diffusion"](tmp_path / "base"), monkeypatch))
    made = apply_noted(METHODS["attention"]().apply(base, Given(PROMPTS)), {})
    assert not any(isinstance(p, Stored) for p in made.trainable.values())
    named = {f"{base.prefix}.{name}" for name, p in base.denoiser.named_parameters()
             if isinstance(p, Stored)}  # fmt: skip
    assert named and not named & set(made.trainable)


def test_text_encoders_are_let_go_and_read_again_for_saving(tmp_path, monkeypatch):
    for name in ("stable_diffusion", "stable_diffusion_xl", "pixart_sigma"):
        folder = large(FAMILIES[name](tmp_path / name), monkeypatch)
        base = load_base(folder)
        before = flat(base.condition(["circle"]))
        kept = weakref.ref(models(base)["text_encoder"])
        base.drop_encoders()
        gc.collect()
        assert kept() is None and "text_encoder" not in models(base)
        base.save(tmp_path / f"{name}-saved")
        for a, b in zip(before, flat(base.condition(["circle"])), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(before, flat(load_base(tmp_path / f"{name}-saved").condition(["circle"]))):
            assert torch.equal(a, b)


def test_a_text_encoder_that_learnt_a_token_is_not_let_go(tmp_path, monkeypatch):
    base = load_base(large(FAMILIES["stable_diffusion"](tmp_path / "base"), monkeypatch))
    (row,) = base.add_tokens(["<mine>"], [None])
    base.write_embeddings([row], torch.ones(1, base.word_vectors.shape[1]))
    base.drop_encoders()
    assert "text_encoder" in vars(base)
    base.save(tmp_path / "saved")
    again = load_base(tmp_path / "saved")
    assert torch.equal(again.word_vectors[row], torch.ones_like(again.word_vectors[row]))


def test_a_part_whose_file_has_changed_is_not_read_again(tmp_path, monkeypatch):
    folder = large(FAMILIES["stable_diffusion"](tmp_path / "base"), monkeypatch)
    base = load_base(folder)
    base.drop_encoders()
    rewrite(folder, torch.bfloat16)
    with pytest.raises(ModelError, match="text_encoder .* has changed since it was opened"):
        base.condition(["circle"])


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES],
)
def test_no_file_of_weights_is_read_whole(name, tmp_path, monkeypatch):
    folder = FAMILIES[name](tmp_path / "base")
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        assert path.suffix != ".safetensors", f"{path.name} is read whole"
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    base = load_base(folder)
    assert base.digest and weights_of_base(folder) and describe_base(folder).info.held


def test_adapters_merge_into_what_is_kept_as_stored(tmp_path, monkeypatch):
    folder = large(FAMILIES["stable_diffusion"](tmp_path / "base"), monkeypatch)
    base = load_base(folder)
    targets = [n for n, m in base.denoiser.named_modules() if n.endswith("to_q")]
    add_lora(base, targets, 2, 2.0)
    for name, p in base.denoiser.named_parameters():
        if "lora_B" in name:
            nn.init.ones_(p)
    save_lora(base, tmp_path / "lora")
    merged = []
    for least in (0, 2**40):
        base = opened(folder, monkeypatch, least)
        load_lora(base, tmp_path / "lora")
        merged.append(computed(base))
    for a, b in zip(*merged, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("stable_diffusion", "lora", ["--no-embedder"]),
        ("stable_diffusion", "attention", ["--no-embedder"]),
        ("stable_diffusion", "embedding", []),
        ("stable_diffusion_xl", "full", ["--no-embedder"]),
        ("stable_diffusion_3", "lora", []),
    ],
)
def test_a_run_and_its_pictures_come_through(
    name, method, words, tiny_images, tmp_path, monkeypatch
):
    folder = large(FAMILIES[name](tmp_path / "base"), monkeypatch)
    run = adapt(folder, tiny_images, tmp_path / "run", method, *words)
    if method != "embedding":
        check_output(run, folder, draw)
    assert main(["synthesize", str(tmp_path / "run"), "-n", "3", "-o", str(tmp_path / "out")]) == 0
