"""Bases and adapters that are harmed, or of others (BM)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.runs.prepared import original_base

from .reading import each, ends, outcome
from .runs import adapted


def base(harm):
    """A copy of the tiny base with `harm(folder)` done to it."""

    def act(kit) -> str:
        folder = shutil.copytree(kit.base, kit.tmp / "base")
        harm(folder)
        return outcome(lambda: load_base(folder) and "read")

    return act


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def header(change):
    """Another header, with the data as they are."""

    def harm(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        size = int.from_bytes(data[:8], "little")
        text = change(json.loads(data[8 : 8 + size]))
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])

    return base(harm)


def overlap(entries: dict) -> dict:
    first, second = [name for name in entries if name != "__metadata__"][:2]
    entries[second]["data_offsets"] = entries[first]["data_offsets"]
    return entries


def doubled(entries: dict) -> bytes:
    name = next(name for name in entries if name != "__metadata__")
    return (
        json.dumps(entries)[:-1].encode()
        + f", {json.dumps(name)}: {json.dumps(entries[name])}}}".encode()
    )


def tensors(change):
    def harm(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return base(harm)


def config(folder: Path, name: str, **fields) -> None:
    place = folder / name
    place.write_text(json.dumps(json.loads(place.read_text()) | fields))


WHOLE = "refuse 11: .*not a whole safetensors file"


def adapter_for_another(kit) -> str:
    run = adapted(kit)
    from safetensors.torch import load_file, save_file

    place = run.model / "pytorch_lora_weights.safetensors"
    state = load_file(place)
    save_file(
        {name.replace("down_blocks.1", "down_blocks.7"): value for name, value in state.items()},
        place,
    )
    return outcome(lambda: str(verbs.synthesize(run, 2, kit.tmp / "out")))


def other_base(kit) -> str:
    copy = shutil.copytree(kit.base, kit.tmp / "base")
    plan = verbs.plan(kit.images, base=str(copy), epsilon=4.0, delta=1e-2).plan
    config(copy, "unet/config.json", note="x")
    return outcome(lambda: str(original_base(plan, {"performance": {"precision": "auto"}})))


INPUTS = (
    (
        "BM01",
        "pickled weights",
        base(lambda folder: (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin"))),
        "refuse 11: .*is a pickle",
    ),
    (
        "BM02",
        "header of 2^63",
        base(
            lambda folder: (folder / WEIGHTS).write_bytes((2**63).to_bytes(8, "little") + bytes(99))
        ),
        WHOLE,
    ),
    ("BM03", "overlapping offsets", header(overlap), WHOLE),
    ("BM04", "duplicate keys", header(doubled), WHOLE),
    (
        "BM05",
        "truncated tail",
        base(lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])),
        WHOLE,
    ),
    (
        "BM06",
        "wrong dtype or shape",
        each(
            tensors(
                lambda state: state.update(
                    {"conv_in.weight": state["conv_in.weight"][:, :2].contiguous()}
                )
            ),
            tensors(lambda state: state.update({"conv_in.weight": state["conv_in.weight"].char()})),
        ),
        "refuse 11: ",
    ),
    (
        "BM07",
        "NaN weights",
        tensors(lambda state: state["conv_in.weight"].view(-1)[:1].fill_(float("nan"))),
        "refuse 11: .*not finite",
    ),
    (
        "BM08",
        "config asks for code",
        each(
            *(
                base(lambda folder, word=word: config(folder, "unet/config.json", **{word: True}))
                for word in ("auto_map", "custom_pipelines", "trust_remote_code")
            ),
            base(lambda folder: config(folder, "model_index.json", unet=["mine", "UNet"])),
        ),
        "refuse 11: .*(code of its own|does not know)",
    ),
    (
        "BM09",
        "LoRA for another base",
        adapter_for_another,
        "refuse 13: .*is not the model that the ledger knows",
    ),
    ("BM10", "wrong base hash", other_base, "refuse 11: .*its hash differs"),
    (
        "BM08 width",
        "a config of a billion layers",
        base(lambda folder: config(folder, "unet/config.json", layers_per_block=10**9)),
        "refuse 11: .*layers_per_block that no such model has",
    ),
)


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    ends(act(kit), what, expected)


def test_all_10_are_here():
    assert [row[0] for row in INPUTS][:10] == [f"BM{i:02d}" for i in range(1, 11)]
