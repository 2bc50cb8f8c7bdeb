"""Public doors from outside: images, bases, words. What a ledger has charged or a run has made is
public under no name.
"""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sfumato import verbs
from sfumato.bases import load_base, made_contents, weights_of_base
from sfumato.bases.tiny import make_tiny_images
from sfumato.errors import BudgetError, DataError, ModelError, SfumatoError
from sfumato.methods import Given, Inversion, Lora, Prompts, Saliency
from sfumato.options import Performance, Sampling
from sfumato.planning import provenance
from sfumato.planning.inputs import prepare_as_asked
from sfumato.planning.provenance import require_public_place
from sfumato.planning.task import task_of
from sfumato.privacy.ledger.notes import Made
from sfumato.records import load_records
from sfumato.runs import budget, certified
from sfumato.runs.attempts import frozen_contents
from sfumato.runs.facts import lineage
from sfumato.runs.folder import Run
from sfumato.verbs.row_images import non_private_base

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
EXACT = Performance(precision="float32", micro_batch=8)


@pytest.fixture(scope="module", autouse=True)
def without_groups():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.releases.prices.record_groups", lambda *_: None)
        patch.setattr("sfumato.releases.consistency.record_groups", lambda *_: None)
        yield


def adapt(images, base, output, **more):
    said = {
        "epsilon": 2.0,
        "delta": 1e-3,
        "base": str(base),
        "method": Lora(rank=2),
        "embedder": True,
        "steps": 2,
        "expected_batch_size": 8,
        "noise_draws": 1,
        "classes": ["circle", "cross", "square"],
        "performance": EXACT,
    }
    more = {"ledger": images.parent / "ledger.sqlite", **more}
    return verbs.adapt(images, anyway=True, yes_public=True, output=output, **(said | more))


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_base):
    """A run on `p`, exported as an adapter; one on `p`, exported whole; two on `p` that nothing
    was exported from, a pipeline with a control model and an adapter; `q` and `public`, never
    charged.
    """
    place = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("p", "q", "public")):
        make_tiny_images(place / name, seed=seed)
    kept = adapt(
        place / "p",
        tiny_base,
        place / "run",
        public_data=make_tiny_images(place / "old", 2, seed=9),
        method=Lora(rank=2, adapter_init="public"),
    )
    verbs.export(kept, place / "out")
    shutil.copytree(tiny_base, place / tiny_base.name)  # the base that the adapter was made for
    whole = adapt(place / "p", tiny_base, place / "whole", method="attention")
    verbs.export(whole, place / "whole-out")
    hidden = adapt(place / "p", tiny_base, place / "hidden", method="attention")
    non_private_base(hidden)
    adapt(place / "p", tiny_base, place / "secret")
    return place


def plan(world, **more):
    """What `plan` says to a second run on `q`; nothing is charged."""
    said = {
        "epsilon": 2.0,
        "delta": 1e-3,
        "method": Lora(rank=2),
        "steps": 2,
        "expected_batch_size": 8,
        "classes": ["circle", "cross", "square"],
        "ledger": world / "ledger.sqlite",
    }
    return verbs.plan(world / "q", **(said | more))


def charges(world) -> int:
    return len(budget.open_ledger(world / "ledger.sqlite").chain.of("CHARGE"))


def as_arrays(world, folder):
    records = load_records(world / "p")
    np.savez(folder / "p.npz", images=records.images(range(records.n), 16), labels=records.labels)
    return folder / "p.npz"


def as_parquet(world, folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((world / "p").rglob("*.png"))
    images = pa.array([{"bytes": f.read_bytes(), "path": None} for f in files])
    pq.write_table(
        pa.table({"image": images, "label": [f.parent.name for f in files]}), folder / "p.parquet"
    )
    return folder / "p.parquet"


def stored_anew(world, folder):
    for file in (world / "p").rglob("*.png"):
        (folder / file.parent.name).mkdir(exist_ok=True)
        Image.open(file).save(folder / file.parent.name / f"{file.stem}-copy.bmp")
    return folder


def one_among_many(world, folder):
    shutil.copytree(world / "public", folder / "many")
    shutil.copy(world / "p" / "cross" / "000.png", folder / "many" / "circle" / "zzz.png")
    return folder / "many"


def as_they_are(world, folder):
    return world / "p"


FORMS = (as_they_are, as_arrays, as_parquet, stored_anew, one_among_many)


@pytest.mark.parametrize(
    ("form", "use"),
    [*((f, "start") for f in FORMS), (FORMS[-1], "choice"), (FORMS[-1], "inversion")],
)
def test_charged_images_are_not_public(world, tiny_base, tmp_path, form, use):
    options = {
        "start": {"method": Lora(rank=2, adapter_init="public")},
        "choice": {
            "method": Saliency(rank=2, choose="public", keep=3),
        },
        "inversion": {
            "method": Inversion(),
            "steps": None,
            "expected_batch_size": None,
        },
    }[use]
    with pytest.raises(DataError, match="were charged as private in this ledger"):
        plan(world, base=str(tiny_base), public_data=form(world, tmp_path), **options)


def test_public_images_are_stated_and_never_private_again(world, tiny_base, tmp_path):
    certificate = json.loads((world / "out" / "synthesis.json").read_text())["certificate"]
    given = certificate["public_facts"]["public_inputs"]
    assert [(g["what"], g["count"], g["decided"]) for g in given] == [
        ("images", 6, "where the adapters start")
    ]
    assert any(
        "6 public images" in text and "conditional" in text
        for text in certificate["conditions"]["not_covered"]
    )
    before = charges(world)
    shutil.copytree(world / "q", tmp_path / "mixed")
    shutil.copy(world / "old" / "cross" / "000.png", tmp_path / "mixed" / "cross" / "another.png")
    for images in (world / "old", tmp_path / "mixed"):
        with pytest.raises(BudgetError, match="taken as public before"):
            adapt(
                images,
                tiny_base,
                tmp_path / "run",
                ledger=world / "ledger.sqlite",
                expected_batch_size=4,
            )
    assert charges(world) == before and not (tmp_path / "run").exists()


def test_a_file_is_not_public_as_a_whole_and_private_in_part(tmp_path):
    objects = []
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        objects.append({"id": i, "image_id": i, "category_id": 0, "bbox": [2, 2, 12, 12]})
    body = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": objects,
        "categories": [{"id": 0, "name": "cat"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(body))
    private = load_records(tmp_path, objects="crops", yes_public=True)
    whole = shutil.copytree(tmp_path, tmp_path.parent / "whole")
    (whole / "coco.json").unlink(), (whole / "0.png").unlink()
    task = task_of(Lora(rank=2, adapter_init="public"), "glyphs", 0, epsilon=2.0)[2]
    with pytest.raises(SfumatoError, match="2 images of --public-data are also among the private"):
        prepare_as_asked(private, task, load_records(whole, unlabelled=True))


def test_nothing_below_a_private_mark_is_public(world, tiny_base, tmp_path):
    marked = tmp_path / "marked"
    shutil.copytree(world / "public", marked / "inner" / "images")
    (marked / "PRIVATE").write_text("")
    links = tmp_path / "links"
    links.mkdir()
    os.symlink(marked / "inner" / "images", links / "folder")
    (tmp_path / "files" / "circle").mkdir(parents=True)
    os.symlink(
        marked / "inner" / "images" / "circle" / "000.png", tmp_path / "files" / "circle" / "a.png"
    )
    for place in (
        marked,
        marked / "inner" / "images",
        tmp_path,
        links,
        links / "folder",
        tmp_path / "files",
        marked / "inner" / "images" / "circle" / "000.png",
    ):
        with pytest.raises(DataError, match="marked PRIVATE"):
            require_public_place(place, "--public-data", DataError)
    require_public_place(world / "public", "--public-data", DataError)
    with pytest.raises(DataError, match="marked PRIVATE"):
        plan(
            world,
            base=str(tiny_base),
            public_data=marked / "inner" / "images",
            method=Lora(adapter_init="public"),
        )
    for base in (
        world / "run",
        world / "run" / "model",
        world / "hidden" / "evaluation" / "non-private-model",
    ):
        with pytest.raises(ModelError, match="marked PRIVATE"):
            plan(world, base=str(base))


def base_of_checkpoint(world, tiny_base, folder):
    """The public base with the averaged adapters of a checkpoint's file beside it, under another
    name.
    """
    shutil.copytree(tiny_base, folder)
    (newest,) = sorted((world / "hidden" / "checkpoints").glob("*.safetensors"))[-1:]
    shutil.copy(newest, folder / "unet" / "more.safetensors")
    return folder


def moved_model(world, tiny_base, folder):
    return shutil.copytree(world / "hidden" / "model", folder)


def moved_adapter(world, tiny_base, folder):
    return shutil.copytree(world / "secret" / "model", folder)


def packed_model(world, tiny_base, folder):
    """The same as single precision, in files and under names of their own."""
    shutil.copytree(world / "hidden" / "model", folder)
    for file in folder.rglob("*.safetensors"):
        save_file(
            {name: tensor.float() for name, tensor in load_file(file).items()},
            file,
            metadata={"format": "pt"},
        )
    return folder


def adapter_beside(world, tiny_base, folder):
    shutil.copytree(tiny_base, folder)
    shutil.copy(
        world / "secret" / "model" / "pytorch_lora_weights.safetensors",
        folder / "unet" / "lora.safetensors",
    )
    return folder


def control_model(world, tiny_base, folder):
    return shutil.copytree(world / "hidden" / "evaluation" / "non-private-model", folder)


def trained_and_public(world, tiny_base):
    """(file below a base, its tensors as the run left them, as the public base holds them) for the
    denoiser.
    """
    file = "unet/diffusion_pytorch_model.safetensors"
    return file, load_file(world / "hidden" / "model" / file), load_file(tiny_base / file)


def all_but_the_largest(world, tiny_base, folder):
    """The public base, with what the run made of its smaller matrices."""
    shutil.copytree(tiny_base, folder)
    file, mine, public = trained_and_public(world, tiny_base)
    changed = sorted(
        (n for n in mine if not torch.equal(mine[n].half(), public[n].half())),
        key=lambda n: -mine[n].numel(),
    )
    assert len(changed) > 16
    save_file(public | {n: mine[n] for n in changed[16:]}, folder / file, metadata={"format": "pt"})
    return folder


def one_number_nudged(world, tiny_base, folder):
    """The model, with the first number of every tensor edited."""
    shutil.copytree(world / "hidden" / "model", folder)
    for file in folder.rglob("*.safetensors"):
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        for tensor in tensors.values():
            if tensor.is_floating_point():
                tensor.view(-1)[0] += 1e-2
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


THIEVES = (
    base_of_checkpoint,
    moved_model,
    moved_adapter,
    packed_model,
    adapter_beside,
    control_model,
    all_but_the_largest,
    one_number_nudged,
)


@pytest.mark.parametrize("thief", THIEVES)
def test_what_a_run_made_is_no_public_base(world, tiny_base, tmp_path, thief):
    maker = "secret" if thief in (moved_adapter, adapter_beside) else "hidden"
    with pytest.raises(
        ModelError,
        match=f"of run {Run.open(world / maker).id}, which was not exported: `sfumato export`",
    ):
        plan(world, base=str(thief(world, tiny_base, tmp_path / "base")))


def test_a_link_to_what_a_run_made_is_no_public_base(world, tiny_base, tmp_path):
    shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copytree(world / "hidden" / "model" / "unet", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "base" / "unet")
    os.symlink(tmp_path / "elsewhere", tmp_path / "base" / "unet")
    before = charges(world)
    with pytest.raises(ModelError, match="unet in .* is a link to a folder"):
        plan(world, base=str(tmp_path / "base"))
    (tmp_path / "base" / "unet").unlink()
    (tmp_path / "base" / "unet").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():  # links to files are read
        os.symlink(path, tmp_path / "base" / "unet" / path.name)
    with pytest.raises(ModelError, match="which was not exported"):
        plan(world, base=str(tmp_path / "base"))
    assert charges(world) == before


def test_parts_of_an_exported_and_of_another_run_are_told_apart(world, tmp_path):
    """Each block answers for itself: tokens of a run that was exported do not vouch for another's
    in the same table.
    """
    file = "text_encoder/model.safetensors"
    shutil.copytree(world / "whole-out" / "model", tmp_path / "base")
    hidden, released = (
        load_file(world / "hidden" / "model" / file),
        load_file(tmp_path / "base" / file),
    )
    (name,) = (n for n in released if n.endswith("token_embedding.weight"))
    book = budget.open_ledger(world / "ledger.sqlite")
    assert provenance._exported_makers(tmp_path / "base", book) == [Run.open(world / "whole").id]
    released[name][-1] = hidden[name][-1]
    save_file(released, tmp_path / "base" / file, metadata={"format": "pt"})
    with pytest.raises(
        ModelError,
        match=f"{name} is part of a .* of run {Run.open(world / 'hidden').id}, which was not",
    ):
        provenance._exported_makers(tmp_path / "base", book)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_does_not_train_is_nobodys(tiny_base, frozen):
    """Adapters that start from the public seed and stay as they are, are the same in every run."""
    opened = load_base(tiny_base)
    made = Lora(rank=4, freeze_a=frozen).apply(opened, Given(Prompts(("a",))))
    inputs = [(n, p) for n, p in opened.unet.named_parameters() if ".lora_A." in n]
    contents = {c for blocks in made_contents(inputs) for c in blocks}
    assert (
        contents
        and (contents <= frozen_contents(made)) is frozen
        and weights_of_base(tiny_base) & frozen_contents(made)
    )
    # Where what trains is not among the model's own tensors, nothing is taken for public.
    made.trainable["x"] = torch.nn.Parameter(torch.zeros(1))
    assert not frozen_contents(made)


def test_the_control_of_an_exported_run_stays_private(world, tiny_base, tmp_path):
    non_private_base(Run.open(world / "whole"))
    control = world / "whole" / "evaluation" / "non-private-model"
    shutil.copytree(control, tmp_path / "base")
    mixed = shutil.copytree(world / "whole-out" / "model", tmp_path / "mixed")
    shutil.copytree(control / "text_encoder", mixed / "text_encoder", dirs_exist_ok=True)
    for base in (tmp_path / "base", mixed):
        with pytest.raises(ModelError, match="part of a control of run"):
            plan(world, base=str(base))


def test_models_of_older_ledgers_are_known_by_their_files(world, tiny_base, tmp_path, monkeypatch):
    """Rows of before hold a hash of the whole model and of each checkpoint's file."""
    monkeypatch.setattr("sfumato.runs.attempts.made_contents_of_files", lambda *_: [])
    monkeypatch.setattr("sfumato.runs.attempts.keyed_contents", lambda *_: Made())
    run = adapt(world / "public", tiny_base, tmp_path / "older", ledger=tmp_path / "ledger.sqlite")
    assert not any("tensors" in note for note in run.ledger.bodies("NOTE"))
    (newest,) = sorted((run.folder / "checkpoints").glob("*.safetensors"))[-1:]
    shutil.copytree(run.model, tmp_path / "model")
    shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copy(newest, tmp_path / "base" / "unet" / "more.safetensors")
    for base in (tmp_path / "model", tmp_path / "base"):
        with pytest.raises(ModelError, match="not exported"):
            plan(world, base=str(base), ledger=tmp_path / "ledger.sqlite")


def second_stage(world, images, output, ledger):
    run = adapt(world / images, world / "out", output, ledger=ledger)
    verbs.export(run, output.with_name(output.name + "-out"))
    release = verbs.release(output.with_name(output.name + "-out"))
    assert verbs.verify(release).ok
    facts = json.loads((release / "privacy.json").read_text())
    assert "adapted by run" in (release / "PRIVACY.md").read_text()
    certified.check_certificate(budget.open_ledger(ledger), release / "privacy.json")
    return run, facts


def test_a_released_base_comes_with_its_lineage(world, tmp_path):
    """Disjoint images of one ledger stand alone; shared ones, and those of an owner who cannot be
    asked, add up.
    """
    first = Run.open(world / "run")
    found = {}
    for images, ledger in (
        ("q", world / "ledger.sqlite"),
        ("p", world / "ledger.sqlite"),
        ("q", tmp_path / "b.sqlite"),
    ):
        run, facts = second_stage(world, images, tmp_path / f"{images}-{ledger.stem}", ledger)
        (ancestor,) = facts["conditions"]["lineage"]
        assert ancestor["run"] == first.id and ancestor["epsilon"] == first.plan.epsilon
        found[images, ledger.stem] = (
            ancestor["owner"],
            ancestor["counted"],
            facts["ledger"]["total_epsilon"],
            facts,
        )
        assert run.options["prompts"]["placeholders"][0] == "<circle2>", (
            "the base has <circle> already"
        )
    alone, shared, foreign = found["q", "ledger"], found["p", "ledger"], found["q", "b"]
    assert alone[:2] == ("this ledger", False) and alone[2] == alone[3]["epsilon"]
    assert shared[:2] == ("this ledger", True) and len(shared[3]["ledger"]["charges"]) == 5
    assert foreign[:2] == ("another owner", True) and foreign[2] > 1.2 * foreign[3]["epsilon"]
    assert first.id in {charge["run"] for charge in foreign[3]["ledger"]["charges"]}


def test_a_certificate_that_does_not_fit_is_no_lineage(world, tmp_path):
    for name in ("weights", "figures", "events", "text"):
        shutil.copytree(world / "out", tmp_path / name)
    file = tmp_path / "weights" / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    for name in ("figures", "events"):
        draft = tmp_path / name / "synthesis.json"
        body = json.loads(draft.read_text())
        if name == "figures":
            body["certificate"]["epsilon"] /= 2
        else:
            body["certificate"]["ledger"]["charges"] = []
        draft.write_text(json.dumps(body))
    (tmp_path / "text" / "synthesis.json").write_text("{}")
    for name, why in {
        "weights": "not the file that its",
        "figures": "does not hold",
        "events": "does not hold",
        "text": "not read",
    }.items():
        with pytest.raises(ModelError, match=why):
            provenance.trace_base(str(tmp_path / name), None)
    assert provenance.trace_base(str(world / "out"), None)[0]["owner"] == "another owner"


def test_pictures_of_a_run_come_with_its_lineage(world, tiny_base, tmp_path):
    verbs.synthesize(
        world / "run", 6, tmp_path / "drawn", ledger=world / "ledger.sqlite", keep_key=True
    )
    (found,) = provenance.trace_images(tmp_path / "drawn", None, DataError)
    assert (found["through"], found["owner"]) == ("images", "another owner") and found["charges"]
    shutil.copy(
        world / "public" / "cross" / "000.png",
        next((tmp_path / "drawn" / "train").iterdir()) / "000000.png",
    )
    with pytest.raises(DataError, match="not the file that its certificate names"):
        provenance.trace_images(tmp_path / "drawn", None, DataError)


def test_a_caption_of_any_charged_set_is_no_prompt(world, tiny_base, tmp_path):
    shutil.copytree(world / "public", tmp_path / "told")
    rows = [
        f"{f.parent.name}/{f.name},{f.parent.name},a picture of {f.parent.name}"
        for f in sorted((tmp_path / "told").rglob("*.png"))
    ]
    (tmp_path / "told" / "metadata.csv").write_text("\n".join(["file_name,label,caption", *rows]))
    ledger = tmp_path / "ledger.sqlite"
    compared = {"caption_column": "caption", "condition": "classes"}
    adapt(tmp_path / "told", tiny_base, tmp_path / "run", **compared, ledger=ledger)
    said = {"base": str(tiny_base), "ledger": ledger}
    for words in (
        {"prompt": "A picture of {class}.", "embedder": False},
        {"init": {"circle": "a  picture of CROSS"}},
    ):
        with pytest.raises(
            SfumatoError, match="contain, captions of images that were charged before"
        ):
            plan(world, **said, **words)
    plan(world, **said, prompt="a {class}", embedder=False)
    allowed = adapt(
        world / "q",
        tiny_base,
        tmp_path / "allowed",
        ledger=ledger,
        prompt="a picture of {class}",
        embedder=False,
        allow_caption_prompts=True,
    )
    assert [text for text in allowed.options["statements"]["opt_ins"] if "caption" in text]


@pytest.mark.slow
def test_an_exported_adapter_goes_on(world, tmp_path):
    """A LoRA file is no pipeline: it is put onto the bundled base that its certificate names, and
    stays known with its lineage.
    """
    ledger = tmp_path / "ledger.sqlite"
    words = {"circle": "capital letter o", "cross": "small letter x", "square": "capital letter d"}
    said = {"ledger": ledger, "prompt": words, "embedder": False, "steps": 1}
    run = adapt(world / "p", "letters", tmp_path / "first", **said)
    assert not (run.model / "model_index.json").exists()
    shutil.copytree(run.model, tmp_path / "copy")
    with pytest.raises(ModelError, match="not exported"):
        plan(world, base=str(tmp_path / "copy"), ledger=ledger)
    verbs.export(run, tmp_path / "out")
    second = adapt(world / "q", tmp_path / "out", tmp_path / "second", **said)
    verbs.release(tmp_path / "out")
    assert [a["run"] for a in lineage(second)] == [run.id]
    images = verbs.synthesize(second, 3, tmp_path / "drawn", sampling=Sampling(steps=1))
    assert verbs.verify(verbs.release(images)).ok
    (tmp_path / "lone").mkdir()
    shutil.copy(tmp_path / "out" / "pytorch_lora_weights.safetensors", tmp_path / "lone")
    with pytest.raises(ModelError, match="an adapter alone"):
        plan(world, base=str(tmp_path / "lone"), ledger=ledger)
