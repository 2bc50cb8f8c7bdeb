"""The base of everyday things: what it may see, its captions, what the recipe draws, a training
that is taken up again, and what of the base icons it starts with.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("scipy")

import torch
from PIL import Image

from recipes import captions, denoiser, drawings, packages, rendered, things
from recipes.icons import Icon


def write(file, colour, size=(80, 80)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return file


def test_no_copy_of_a_reserved_clip_art_is_seen(tmp_path):
    reserved = packages.RESERVED_CLIP_ART[0]
    write(tmp_path / reserved / "deep" / "kite.png", "red")
    write(tmp_path / "toys" / "kite_of_other_bytes_and_name.png", "red")  # the same bytes
    write(tmp_path / "toys" / "kite.png", "blue")  # the same name
    write(tmp_path / "logos" / "brand.png", "black")
    kept = write(tmp_path / "animals" / "cat.png", "green")
    assert drawings.usable_clip_art(tmp_path) == [kept]


def test_a_clip_art_says_its_name_without_its_artist_or_else_its_folder(tmp_path):
    known = {"cat", "tree", "house"}
    subject = drawings.clip_art_subject
    assert subject(tmp_path / "x" / "cat_tree_jane_doe_01.png", known) == "cat tree"
    assert subject(tmp_path / "animals" / "jane_doe_01.png", known) == "animals"


@pytest.mark.parametrize(
    ("size", "seen"), [((80, 60), True), ((400, 100), False), ((20, 20), False)]
)
def test_clip_art_is_square_on_white_or_left_out(tmp_path, size, seen):
    picture = drawings.on_white(write(tmp_path / "a.png", "black", size))
    assert (picture is not None) == seen
    if seen:
        assert picture.shape == (64, 64, 3) and (picture[0] == 255).all()
        assert (picture[32] == 0).all()


def test_unreadable_and_empty_clip_art_is_left_out(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert drawings.on_white(tmp_path / "a.png") is None
    assert drawings.on_white(write(tmp_path / "b.png", "white")) is None


@pytest.mark.parametrize("drawer", [rendered.shape, rendered.texture, rendered.phantom])
def test_rendered_pictures_repeat_and_differ(drawer):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [drawer(rng) for _ in range(40)]

    first = drawn(1)
    for (image, said), (again, same) in zip(first, drawn(1)):
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert np.array_equal(image, again) and said == same
    assert len({image.tobytes() for image, _ in first}) == 40
    assert all(text for _, said in first for text in said)


def test_a_shape_has_the_colour_that_its_caption_says():
    rng = np.random.default_rng(0)
    for _ in range(60):
        image, (said, *_rest) = rendered.shape(rng)
        ground = said.rsplit(" on ", 1)[1]
        assert abs(image[0, 0] - np.array(rendered.COLOURS[ground])).max() < 80, said


def test_phantoms_are_grey():
    rng = np.random.default_rng(0)
    for _ in range(40):
        image, said = rendered.phantom(rng)
        assert (image == image[..., :1]).all() and image.std() > 5
        assert "grey scan" in said


@pytest.mark.parametrize("kind", ["white", "black", "grey"])
def test_silhouettes_stand_in_the_middle_of_their_ground(kind):
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[24:44, 10:50] = (200, 30, 30)
    image = things.grey_picture(picture, kind, np.random.default_rng(0))
    assert (image == image[..., :1]).all()
    ground, middle = (255, 0) if kind == "black" else (0, 255)
    assert (image[0] == ground).all() and (image[:, 0] == ground).all()
    if kind == "grey":
        assert 0 < image[32, 32, 0] < 200
    else:
        assert (image[32, 32] == middle).all()


def test_what_fills_the_frame_is_no_silhouette():
    picture = np.zeros((64, 64, 3), np.uint8)
    assert things.grey_picture(picture, "white", np.random.default_rng(0)) is None


def test_captions_fit_the_tokenizer(tmp_path):
    subject = "fork and knife plate"
    said = things.thing_captions(subject, "outlined colour emoji")
    said += things.avatar_captions("person", "big smile avatar")
    said += [c for kind in ("white", "black", "grey") for c in things.grey_captions(subject, kind)]
    assert said[0] == "a drawing of a fork and knife plate, outlined colour emoji style"
    assert "avatar of a person, big smile style" in said
    tokenizer = captions.make_tokenizer(said, tmp_path / "tokenizer", 16)
    assert max(len(tokenizer(text).input_ids) for text in said) <= 16


def test_only_the_outline_of_a_thing_makes_a_silhouette():
    for subject, style, solid in (
        ("cat", "flat colour emoji", True),
        ("cat face", "flat colour emoji", False),
        ("cat", "outline", False),
        ("cat", "clip art", True),
    ):
        assert things._is_solid(Icon("p", "n", subject, style)) is solid


def test_the_larger_denoiser_starts_with_the_outer_levels_of_the_small_one():
    small, large = denoiser.make_unet(), denoiser.make_large_unet()
    own = {name: value.clone() for name, value in large.state_dict().items()}
    taken = denoiser.grow(small, large)
    found, given = large.state_dict(), small.state_dict()
    for there, here in (
        ("conv_in.weight", "conv_in.weight"),
        ("down_blocks.1.resnets.0.conv1.weight", "down_blocks.1.resnets.0.conv1.weight"),
        ("up_blocks.2.resnets.1.conv2.weight", "up_blocks.1.resnets.1.conv2.weight"),
        ("up_blocks.1.resnets.1.conv1.weight", "up_blocks.0.resnets.1.conv1.weight"),
    ):
        assert torch.equal(found[there], given[here]), there
    inner = "mid_block.resnets.0.conv1.weight"
    assert torch.equal(found[inner], own[inner])
    assert 1_000_000 < taken < small.num_parameters()


def tiny_training(store, steps):
    torch.manual_seed(0)
    tokenizer = captions.make_tokenizer(["a cat"], store.parent / "tokenizer", 8)
    unet = denoiser.make_unet()
    text = captions.make_text_encoder(tokenizer)
    latents = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1)).half()
    examples = denoiser.Examples(latents, 0 * latents, np.zeros(8, int), [["a cat"]])
    return denoiser.train_denoiser(
        unet, text, tokenizer, examples, minutes=60, seed=3, batch=2, max_steps=steps, store=store
    )


def test_an_interrupted_training_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser, "KEEP", 2)
    whole, _, figures = tiny_training(tmp_path / "a" / "store.pt", 4)
    calls = []

    def stop(*given):
        kept(*given)
        calls.append(given)
        raise KeyboardInterrupt

    kept = denoiser.keep
    with monkeypatch.context() as patch:
        patch.setattr(denoiser, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            tiny_training(tmp_path / "b" / "store.pt", 4)
    assert len(calls) == 1
    again, _, found = tiny_training(tmp_path / "b" / "store.pt", 4)
    assert (found["steps"], figures["steps"]) == (4, 4)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)
