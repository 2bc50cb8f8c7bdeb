"""A LoRA is a LoRA and words stay words: from a folder with one class that the base does not know
to what a stranger opens with diffusers, and what a second run goes on from.
"""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sfumato import verbs
from sfumato.bases import KOHYA_FILE, LORA_FILE, base_info, load_base
from sfumato.bases.tiny import make_tiny_images
from sfumato.cli.app import command
from sfumato.errors import ModelError, SfumatoError
from sfumato.methods import Loda, Lora, Saliency
from sfumato.options import Sampling
from sfumato.releases.figures import plain
from sfumato.runs import preflight  # noqa: F401  (has what it imports before a test changes it)
from sfumato.runs.folder import Run
from sfumato.verbs.facts import adapted_base
from sfumato.verbs.row_images import public_base

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
CLASSES = ["circle", "cross", "zebra"]
METHODS = {
    "lora": Lora(rank=4, alpha=16.0),
    "saliency": Saliency(rank=2, alpha=1.0, keep=4, probe_units=8),
    "loda": Loda(rank=2, alpha=4.0),
    "mixed": Lora(rank=2, target_modules=("attention", "residual")),
}


@pytest.fixture(scope="module", autouse=True)
def without_groups():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.releases.prices.record_groups", lambda *_: None)
        patch.setattr("sfumato.releases.consistency.record_groups", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_base):
    """Images of two known classes and a zebra, with the base under a name of its own beside."""
    place = tmp_path_factory.mktemp("adapters")
    make_tiny_images(place / "images")
    (place / "images" / "square").rename(place / "images" / "zebra")
    shutil.copytree(tiny_base, place / "base")
    return place


def adapt(world, output, base="base", **more):
    said = {
        "epsilon": 2.0,
        "delta": 1e-3,
        "steps": 2,
        "expected_batch_size": 8,
        "noise_draws": 1,
        "classes": CLASSES,
        "ledger": world / "ledger.sqlite",
    }
    said |= {"anyway": True, "yes_public": True}
    return verbs.adapt(world / "images", base=str(world / base), output=output, **(said | more))


def weights(unet, targets):
    """The matrices that a LoRA was fused into, or not, by name."""
    return {name: unet.get_submodule(name).weight.detach().clone() for name in targets}


def same(found, expected, base):
    """Whether two sets of matrices are the same change of the base's, up to rounding."""
    moved = max(float((expected[n] - base[n]).norm()) for n in base)
    assert moved > 1e-3
    return all(float((found[n] - expected[n]).norm()) <= 1e-3 * moved for n in base)


@pytest.mark.parametrize("method", METHODS)
def test_an_export_is_a_lora_with_its_tokens_beside_it(world, tmp_path, method):
    from diffusers import StableDiffusionPipeline

    said = []
    run = adapt(world, tmp_path / "run", method=METHODS[method], on_stage=said.append)
    assert [
        line for line in said if "'zebra': a token <zebra> is trained for it" in line
    ] and run.plan.prompts == ("circle", "cross", "<zebra>")
    out = verbs.export(run, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {
        LORA_FILE,
        KOHYA_FILE,
        "learned_embeds.safetensors",
        "samples",
        "synthesis.json",
    }
    with safe_open(out / LORA_FILE, "pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    assert header["unet.r"] == header["unet.lora_alpha"] == METHODS[method].rank

    token = load_file(out / "learned_embeds.safetensors")["<zebra>"][0]
    adapted, base = adapted_base(run), load_base(world / "base")
    targets = run.selection["targets"] if method == "saliency" else run.plan.target_modules
    expected, before = weights(adapted.unet, targets), weights(base.unet, targets)
    (tmp_path / "blind").mkdir()
    save_file(load_file(out / LORA_FILE), tmp_path / "blind" / LORA_FILE, {"format": "pt"})
    for place, name in ((out, LORA_FILE), (out, KOHYA_FILE), (tmp_path / "blind", LORA_FILE)):
        pipe = StableDiffusionPipeline.from_pretrained(world / "base", local_files_only=True)
        pipe.load_lora_weights(place, weight_name=name)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        assert same(weights(pipe.unet, targets), expected, before), (place, name)
    assert torch.equal(adapted.word_vectors[adapted.token_ids(["<zebra>"])[0]], token)
    assert not torch.equal(public_base(run).word_vectors[-1], token)


def test_a_run_of_before_leaves_its_lora_and_its_tokens(world, tmp_path, monkeypatch):
    """Such a run kept its tokens in a pipeline, with the LoRA merged in it, beside the LoRA."""

    def merged(base, folder, prompts):
        base.denoiser.fuse_lora()
        base.denoiser.unload_lora()
        base.save(folder)

    monkeypatch.setattr("sfumato.methods.adaptation.save_tokens", merged)
    run = adapt(world, tmp_path / "run", method=METHODS["lora"])
    monkeypatch.undo()
    assert (run.model / "model_index.json").exists() and not list(run.model.glob("learned_*"))
    out = verbs.export(run, tmp_path / "out", samples=False)
    assert {path.name for path in out.iterdir()} == {
        LORA_FILE,
        KOHYA_FILE,
        "learned_embeds.safetensors",
        "synthesis.json",
    }
    token = load_file(out / "learned_embeds.safetensors")["<zebra>"][0]
    kept = load_base(run.model)
    assert torch.equal(kept.word_vectors[kept.token_ids(["<zebra>"])[0]], token)
    assert verbs.verify(verbs.release(out)).ok
    shutil.copytree(world / "base", tmp_path / "base")
    opened, prompts = load_base(out), list(run.plan.prompts)
    assert torch.allclose(opened.condition(prompts), kept.condition(prompts), atol=1e-2)
    before = dict(load_base(world / "base").unet.named_parameters())
    for (name, p), q in zip(opened.unet.named_parameters(), kept.unet.parameters()):
        assert torch.allclose(p, q, atol=1e-3), name  # the pipeline has half precision
    moved = [n for n, p in opened.unet.named_parameters() if not torch.equal(p, before[n])]
    assert moved


@pytest.fixture(scope="module")
def exported(world):
    """A LoRA run, exported and released."""
    run = adapt(world, world / "run", method=METHODS["lora"])
    verbs.export(run, world / "out", keep_key=True)
    return verbs.release(world / "out", title="A zebra")


def test_the_cards_lines_run_as_pasted(world, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    assert verbs.verify(exported, world / "ledger.sqlite").ok
    card = (exported / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    lines = lines.replace("path/to/the/base", str(world / "base"))
    exec(lines.replace("path/to/this/folder", str(exported)), known := {})
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (16, 16)
    adapted = adapted_base(Run.open(world / "run", world / "ledger.sqlite"))
    theirs, _ = known["pipe"].encode_prompt("<zebra>", "cpu", 1, False)
    assert torch.allclose(theirs, adapted.condition(["<zebra>"]), atol=1e-5)
    assert f"| Trained words | {plain('<zebra>')}; all" in card
    shown = re.findall(r'<img src="([^"]*)"', card)
    assert len(shown) == 8 and all((exported / name).is_file() for name in shown)
    assert base_info(world / "base").digest in card and "bases --copy" not in card


def test_pictures_and_a_second_run_follow(world, exported, tmp_path):
    run = Run.open(world / "run", world / "ledger.sqlite")
    images = verbs.synthesize(run, 3, tmp_path / "drawn", sampling=Sampling(steps=1))
    rows = [json.loads(line) for line in next(images.rglob("metadata.jsonl")).open()]
    assert {row["label"]: row["prompt"] for row in rows} == {
        "circle": "circle",
        "cross": "cross",
        "zebra": "<zebra>",
    }
    assert verbs.verify(verbs.release(images)).ok
    first = load_base(exported)
    assert torch.equal(
        first.condition(CLASSES[:2]), load_base(world / "base").condition(CLASSES[:2])
    )
    again = adapt(world, tmp_path / "again", "out", method=METHODS["lora"])
    assert again.plan.prompts == ("circle", "cross", "<zebra2>")
    assert again.plan.base_digest == first.digest != base_info(world / "base").digest
    verbs.export(again, tmp_path / "more")
    # an export of an export: both adapters are put in, one after the other
    shutil.copytree(exported, tmp_path / "out")
    with pytest.raises(ModelError, match="put that base's folder beside this one"):
        load_base(tmp_path / "more")
    shutil.copytree(world / "base", tmp_path / "base")
    both, expected = load_base(tmp_path / "more"), adapted_base(again)
    words = ["<zebra>", "<zebra2>", "cross"]
    assert torch.equal(both.condition(words), expected.condition(words))
    assert all(
        torch.equal(p, q) for p, q in zip(both.unet.parameters(), expected.unet.parameters())
    )


def test_certificates_that_name_each_other_end_in_one_line(world, tmp_path, exported):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        shutil.copy(exported / LORA_FILE, tmp_path / name)
        said = {"conditions": {"base": other, "base_digest": "0" * 64}}
        (tmp_path / name / "privacy.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="put that base's folder beside"):
        base_info(tmp_path / "a")


@pytest.mark.parametrize("name", ["..", "a/b", "/", "", "."])
def test_a_certificate_names_no_place(tmp_path, exported, name):
    (tmp_path / "one").mkdir()
    shutil.copy(exported / LORA_FILE, tmp_path / "one")
    said = {"conditions": {"base": name, "base_digest": "0" * 64}}
    (tmp_path / "one" / "privacy.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="does not come with sfumato"):
        base_info(tmp_path / "one")


def test_a_private_base_beside_an_export_is_refused(world, exported, tmp_path):
    from sfumato.planning.provenance import trace_base

    shutil.copytree(exported, tmp_path / "out")
    shutil.copytree(world / "base", tmp_path / "base")
    assert trace_base(str(tmp_path / "out"), None)
    (tmp_path / "base" / "PRIVATE").touch()  # a file that the base of that digest does not have
    with pytest.raises(ModelError, match="marked PRIVATE|does not come with sfumato"):
        trace_base(str(tmp_path / "out"), None)


def test_a_recipient_gets_the_base(tmp_path, capsys):
    known = base_info("letters")
    digest = verbs.copy_base("letters", tmp_path / "letters")
    assert digest == known.digest == base_info(tmp_path / "letters").digest
    command().main(["bases", "--copy", "letters", str(tmp_path / "two")], standalone_mode=False)
    assert digest in capsys.readouterr().out
    assert base_info(tmp_path / "two").digest == digest
    for name, folder, why in (
        ("letters", tmp_path / "two", "already exists"),
        ("nobody", tmp_path / "three", "choose glyphs"),
    ):
        with pytest.raises(SfumatoError, match=why):
            verbs.copy_base(name, folder)
    assert {p.name for p in tmp_path.iterdir()} == {"letters", "two"}
