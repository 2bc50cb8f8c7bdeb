"""Weights are known by their numbers: another file, name, shard or precision makes no other model
of them.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sfumato.bases import contents_of_files, made_contents, made_contents_of_files
from sfumato.bases.contents import BLOCK, LARGE, LARGE_BLOCK, content_of, contents
from sfumato.errors import ModelError

torch.manual_seed(0)
SIDE, SMALL, TABLE = torch.randn(8, 16), torch.randn(4, 8), torch.randn(5, 16)


def model(folder, tensors, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name)
    return folder


def all_of(made):
    return {content for blocks in made for content in blocks}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_copy_is_known(tmp_path, dtype):
    made = all_of(
        made_contents_of_files(model(tmp_path / "run", {"a.weight": SIDE, "b.weight": SMALL}))
    )
    copy = model(
        tmp_path / "copy" / "unet", {"other.name.weight": SIDE.to(dtype)}, "part-1.safetensors"
    )
    model(copy, {"again.weight": SMALL.to(dtype)}, "part-2.safetensors")
    assert made and made <= set(contents_of_files(tmp_path / "copy"))
    assert not made & set(contents_of_files(model(tmp_path / "else", {"a.weight": SIDE + 1e-2})))


def test_what_the_base_held_before_is_nobodys(tmp_path):
    before = contents_of_files(model(tmp_path / "base", {"a.weight": SIDE}))
    run = model(tmp_path / "run", {"a.weight": SIDE.half(), "b.weight": SMALL.half()})
    (made,) = made_contents_of_files(run, before)
    assert len(made) == 1 and made[0] in contents_of_files(model(tmp_path / "b", {"x": SMALL}))


@pytest.mark.parametrize(("numbers", "size"), [(3 * BLOCK + 40, BLOCK), (LARGE + 100, LARGE_BLOCK)])
def test_an_edited_number_hides_its_own_block_alone(numbers, size):
    tensor = torch.randn(numbers)
    (made,) = made_contents([("a", tensor)])
    assert len(made) == -(-numbers // size)
    edited = tensor.clone()
    edited[size + 7] += 1
    found = contents([("b", edited)])
    assert [content in found for content in made] == [i != 1 for i in range(len(made))]
    # What the run left as it was in the base is in no block of its own.
    assert made_contents([("b", edited)], contents([("a", tensor)])) == [
        [next(c for c in found if c not in made)]
    ]


def test_every_tensor_is_noted_however_many_there_are():
    tensors = [(f"{i}.weight", torch.randn(32)) for i in range(300)]
    assert len(made_contents(tensors)) == 300
    assert len(made_contents([("token_embedding.weight", torch.randn(300, 32))])) == 300


def test_blocks_that_say_too_little_are_left_out():
    same, few, number = torch.zeros(99), torch.randn(4), torch.arange(99)
    steps = torch.arange(600) % 11 / 11
    assert made_contents([("same", same), ("few", few), ("number", number), ("steps", steps)]) == []
    # One number among zeros would be found in anybody's model.
    same[7] = 0.3
    assert (
        made_contents([("same", same)])
        == []
        == made_contents([("large", torch.nn.functional.pad(same, (0, LARGE)))])
    )
    # Different ones that a first glance misses count.
    late = torch.zeros(LARGE)
    late[1 : LARGE_BLOCK : LARGE_BLOCK // 32] = torch.randn(32)
    assert len(made_contents([("late", late)])[0]) == 1


@pytest.mark.parametrize(
    "name",
    ["text_model.embeddings.token_embedding.weight", "<artwork>", "<a.b>", "weight/tokens.weight"],
)
def test_a_token_is_known_in_another_table(tmp_path, name):
    token = all_of(made_contents([(name, TABLE[:2])]))
    larger = {
        "text_model.embeddings.token_embedding.weight": torch.cat([torch.randn(3, 16), TABLE[1:2]])
    }
    assert len(token & set(contents_of_files(model(tmp_path, larger)))) == 1


def test_older_rows_know_whole_tensors_and_tokens():
    found = contents([("a.weight", SIDE), ("tokens.weight", TABLE)])
    assert {content_of(SIDE), content_of(TABLE), *map(content_of, TABLE)} <= set(found)


def test_a_torn_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        contents_of_files(tmp_path)
