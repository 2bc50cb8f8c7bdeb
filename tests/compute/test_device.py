"""Devices and seeds."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from sfumato.compute import device, fingerprint
from sfumato.errors import MachineError, SfumatoError


@pytest.fixture
def gpus(monkeypatch):
    """How many GPUs torch finds."""

    def found(count, built=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return found


def test_a_device_is_found(gpus, monkeypatch):
    gpus(0, built=False)
    assert device.settle("auto") == device.settle("cpu") == ("cpu", torch.device("cpu"))
    gpus(2)
    assert device.settle("cpu") == ("cpu", torch.device("cpu"))
    assert device.settle("auto") == device.settle("cuda") == ("cuda", torch.device("cuda:0"))
    assert device.settle("cuda:1") == ("cuda:1", torch.device("cuda:1"))
    monkeypatch.setenv("LOCAL_RANK", "1")  # each of torchrun's processes has its own
    assert device.settle("auto") == ("cuda", torch.device("cuda:1"))
    assert device.settle("cuda:0") == ("cuda:0", torch.device("cuda:0"))


@pytest.mark.parametrize("word", ["gpu", "CPU", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x",
                                  "mps", "cuda:\u0661", " cuda", ""])  # fmt: skip
def test_another_word_is_no_device(gpus, word):
    gpus(4)
    with pytest.raises(SfumatoError, match="choose auto, cpu, cuda or cuda:N"):
        device.settle(word)


@pytest.mark.parametrize(
    ("count", "built", "asked", "said"),
    [
        (
            0,
            False,
            "cuda",
            "torch is built for the CPU alone here: install .* --device cpu",
        ),
        (0, True, "cuda:0", "torch finds none here: look at the driver .*, or say --device cpu"),
        (2, True, "cuda:2", "--device cuda:2: there are 2 GPUs here, counted from 0"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(gpus, count, built, asked, said):
    gpus(count, built)
    with pytest.raises(MachineError, match=said) as found:
        device.settle(asked)
    assert "\n" not in str(found.value)


def test_a_process_without_a_gpu_of_its_own_is_refused(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(MachineError, match="process 2 of this machine: there are 2 GPUs"):
        device.settle("auto")


def test_the_device_in_use_ends_with_the_block():
    assert device.device() == torch.device("cpu") and device.device_name() == "cpu"
    with device.using(torch.device("meta")) as where:
        assert device.device() == where == torch.device("meta")
        with device.using("cpu"):
            assert device.device_name() == "cpu"
        assert device.device() == where
    assert device.device() == torch.device("cpu")


def test_kernels_repeat_and_what_was_set_comes_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn
    now = lambda: (  # noqa: E731
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        cudnn.allow_tf32,
    )
    before = now()
    with pytest.raises(KeyError), device.repeating():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert cudnn.deterministic and not cudnn.benchmark and not cudnn.allow_tf32
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise KeyError
    assert now() == before


def test_a_workspace_with_which_products_do_not_repeat_is_refused(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(MachineError, match="do not repeat: unset it"), device.repeating():
        pass


def test_a_gpu_is_described_by_all_that_decides_its_bits(monkeypatch, tmp_path):
    found = SimpleNamespace(name="NVIDIA X", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda where: found)
    monkeypatch.setattr(device, "device", lambda: torch.device("cuda:1"))
    monkeypatch.setattr(device, "_driver", lambda: "550.54.15")
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    said = device.describe()
    assert said.startswith("cuda: NVIDIA X, capability 9.0, driver 550.54.15, cuda 12.6, cudnn ")
    assert fingerprint.kind_of({"device": said}) == "cuda"
    assert fingerprint.kind_of({"device": "cpu"}) == fingerprint.kind_of({}) == "cpu"
    for name, value in (("name", "NVIDIA Y"), ("minor", 1)):
        monkeypatch.setattr(found, name, value)
        assert device.describe() != said
        said = device.describe()
    monkeypatch.setattr(device, "_driver", lambda: "560.1")
    assert device.describe() != said


def test_a_driver_says_its_version(tmp_path):
    place = tmp_path / "version"
    place.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n")
    assert device._driver(place) == "550.54.15"
    assert device._driver(tmp_path / "none") == device._driver(tmp_path / "none")


def test_a_tensor_for_numpy_has_no_graph():
    leaf = torch.ones(2, 3, requires_grad=True)
    found = device.on_host(leaf * 2, torch.float64)
    assert found.numpy().sum() == 12 and found.dtype == torch.float64


def test_a_seed_moves_nobody_elses_numbers():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with device.seeded(7):
        first = torch.randn(3)
    assert torch.equal(torch.randn(3), expected)
    with pytest.raises(KeyError), device.seeded(7):
        assert torch.equal(torch.randn(3), first)
        raise KeyError
    torch.manual_seed(5)
    assert torch.equal(torch.randn(3), expected)
