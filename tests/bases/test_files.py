"""What a base is made of: files that somebody looked at, and nothing that a loader would find
elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

from sfumato.bases import contents_of_files, folder_digest, load_base
from sfumato.bases.files import base_files
from sfumato.errors import ModelError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_base(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["unet", "unet/deep", "more"])
def test_a_linked_folder_is_refused_by_whoever_lists_a_base(copy, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    if (copy / name).exists():
        shutil.move(copy / name, elsewhere)
    else:
        shutil.copytree(copy / "vae", elsewhere)
    os.symlink(elsewhere, copy / name)
    refused(copy, f"{name} in .* is a link to a folder: put a copy of the folder there")
    for look in (contents_of_files, folder_digest):
        with pytest.raises(ModelError, match="link to a folder"):
            look(copy)


def test_a_folder_of_the_hubs_cache_opens_as_its_copy_does(copy, tmp_path):
    """There every file is a link to a blob without an ending."""
    cache = tmp_path / "models--x" / "snapshots" / "1"
    (tmp_path / "models--x" / "blobs").mkdir(parents=True)
    for i, path in enumerate(base_files(copy)):
        link = cache / path.relative_to(copy)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "models--x" / "blobs" / str(i))
        link.symlink_to(os.path.relpath(tmp_path / "models--x" / "blobs" / str(i), link.parent))
    assert load_base(cache).digest == load_base(copy).digest
    assert contents_of_files(cache) == contents_of_files(copy)
    (tmp_path / "models--x" / "blobs" / "0").unlink()
    refused(cache, "dead link|no model_index.json")


def test_what_is_no_file_is_refused(copy):
    os.mkfifo(copy / "unet" / "x.safetensors")
    refused(copy, "is no file: remove it")


@pytest.mark.parametrize(
    ("part", "taken"),
    [
        (WEIGHTS, True),
        ("other.safetensors", False),
        ("../vae/" + WEIGHTS, False),
        ("weights.dat", False),
        ("w.safetensors.2", False),
        (3, False),
    ],
)
def test_shards_are_safetensors_beside_their_index(copy, part, taken):
    for name in ("weights.dat", "w.safetensors.2"):
        if part == name:
            (copy / "unet" / name).write_bytes(b"x")
    index = copy / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": part}}))
    if taken:
        from sfumato.bases.files import check_kinds

        check_kinds(copy, {"unet"})
    else:
        refused(copy, "no safetensors file beside it")


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', "{"])
def test_an_index_that_names_nothing(copy, text):
    (copy / "unet" / f"{WEIGHTS}.index.json").write_text(text)
    refused(copy, "no safetensors file beside it|not readable JSON")


@pytest.mark.parametrize("name", ["w.dat", "model.SAFETENSORS", "weights", "deep/er/model.onnx"])
def test_a_component_holds_only_what_is_read(copy, name):
    (copy / "text_encoder" / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / "text_encoder" / name).write_bytes(b"x")
    refused(copy, "weights are read from safetensors alone")


def test_beside_the_components_lies_what_likes(copy):
    (copy / "LICENSE").write_text("free")
    (copy / "picture.png").write_bytes(b"x")
    assert load_base(copy)


def test_a_loader_is_not_sent_elsewhere(copy):
    config = copy / "text_encoder" / "config.json"
    body = json.loads(config.read_text())
    config.write_text(json.dumps(body | {"transformers_weights": "other.safetensors"}))
    refused(copy, "names another file for its weights")
    config.write_text(json.dumps(body))
    (copy / "text_encoder" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "elsewhere"})
    )
    refused(copy, "sends its loader to another model")
