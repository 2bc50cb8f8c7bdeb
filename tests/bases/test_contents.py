"""Weights are known by their numbers: another file, name, shard or precision makes no other model of them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sfumato.bases import contents_of_files, made_contents, made_contents_of_files
from sfumato.errors import ModelError

torch.manual_seed(0)
LARGE, SMALL, TABLE = torch.randn(8, 16), torch.randn(4, 8), torch.randn(5, 16)


def model(folder, tensors, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_copy_is_known(tmp_path, dtype):
    made = made_contents_of_files(model(tmp_path / "run", {"a.weight": LARGE, "b.weight": SMALL}))
    copy = model(tmp_path / "copy" / "unet", {"other.name": LARGE.to(dtype)}, "part-1.safetensors")
    model(copy, {"again": SMALL.to(dtype)}, "part-2.safetensors")
    assert set(made) == set(contents_of_files(tmp_path / "copy"))
    assert not set(made) & set(contents_of_files(model(tmp_path / "else", {"a.weight": LARGE + 1e-2})))


def test_what_the_base_held_before_is_nobodys(tmp_path):
    before = contents_of_files(model(tmp_path / "base", {"a.weight": LARGE}))
    made = made_contents_of_files(model(tmp_path / "run", {"a.weight": LARGE.half(), "b.weight": SMALL.half()}), before)
    assert len(made) == 1 and made[0] in contents_of_files(model(tmp_path / "b", {"x": SMALL}))


def test_tensors_that_say_too_little_are_left_out():
    assert made_contents([("zero", torch.zeros(99)), ("few", torch.randn(4)), ("number", torch.arange(99))]) == []


@pytest.mark.parametrize("name", ["text_model.embeddings.token_embedding.weight", "<artwork>", "weight/tokens.weight"])
def test_a_token_is_known_in_another_table(tmp_path, name):
    token = made_contents([(name, TABLE[:2])])
    larger = {"text_model.embeddings.token_embedding.weight": torch.cat([torch.randn(3, 16), TABLE[1:2]])}
    assert set(token) & set(contents_of_files(model(tmp_path, larger)))


def test_a_torn_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        contents_of_files(tmp_path)
