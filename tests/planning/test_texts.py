"""Captions in a plan: when they train, what is refused before the charge, and who is told what."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato.bases.interface import Base
from sfumato.bases.stable_diffusion.pipeline import StableDiffusion
from sfumato.errors import ModelError, SfumatoError
from sfumato.planning.inputs import prepare_as_asked
from sfumato.planning.prepare import CAPTIONS_SAID
from sfumato.planning.task import task_of
from sfumato.planning.warnings import CAPTIONS_COMPARED, CAPTIONS_TRAIN, remarks_on
from sfumato.privacy.plan import Plan
from sfumato.records import load_records
from sfumato.runs.prepared import rebuild


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return table(tmp_path_factory.mktemp("captioned"), lambda i: f"picture of {chr(97 + i)}")


def table(root, caption):
    rows = [("file_name", "label", "text")]
    for i in range(16):
        noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(root / f"{i}.png")
        rows.append((f"{i}.png", ("circle", "cross")[i % 2], caption(i)))
    with open(root / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return load_records(root, classes=["circle", "cross"], caption_column="text")


@pytest.fixture
def made(records, tiny_base):
    def build(of=None, **more):
        said = {"epsilon": 2.0, "delta": 1e-2, "base": str(tiny_base), "steps": 3, "method": "lora"}
        return prepare_as_asked(of or records, task_of(**said | more)[2])

    return build


def test_captions_train_where_their_column_is_named(made, records):
    prepared = made()
    assert prepared.plan.captions is True and CAPTIONS_TRAIN in remarks_on(prepared, records)
    assert not prepared.adaptation.reads_prompts  # they are read once, before training
    assert Plan.from_json(json.loads(json.dumps(prepared.plan.to_json()))) == prepared.plan
    again = rebuild(prepared.plan, prepared.options)
    assert not again.options["prompts"]["placeholders"]


def test_they_are_only_compared_on_request_and_where_none_are_read(made, records):
    compared = made(condition="classes")
    assert compared.plan.captions is None and "captions" not in compared.plan.to_json()
    assert CAPTIONS_COMPARED in remarks_on(compared, records)
    without = made(replace(records, captions=None))
    assert without.plan.captions is None
    # a plan that trains none has the digest that it had before captions could train
    assert without.plan.digest == compared.plan.digest


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "embedding"}, "learns the tokens of classes, which no caption holds"),
        ({"method": "inversion"}, "learns the tokens of classes, which no caption holds"),
        ({"embedder": True}, "leave --embedder and --init out"),
        ({"init": {"circle": "a ring"}}, "leave --embedder and --init out"),
    ],
)
def test_what_does_not_go_with_captions_is_refused(made, more, said):
    with pytest.raises(SfumatoError, match=said) as error:
        made(**more)
    assert "--condition classes" in str(error.value) and "\n" not in str(error.value)


def test_captions_that_are_not_read_cannot_train(made, records):
    with pytest.raises(SfumatoError, match="none are read: name their column with --captions"):
        made(replace(records, captions=None), condition="captions")


def test_a_family_without_a_rule_is_refused_before_the_charge(made, monkeypatch):
    monkeypatch.setattr(StableDiffusion, "condition_of_captions", Base.condition_of_captions)
    with pytest.raises(ModelError, match="has no rule for captions yet.*--condition classes"):
        made()


def test_what_captions_say_and_how_many_there_are_shapes_no_plan(made, records):
    texts = ["", "one", "x" * 10_000, "a\nb\nc\nd"] * 4
    other = replace(records, captions=tuple(texts))
    none = replace(records, captions=("",) * 16)
    first, *rest = (made(of) for of in (records, other, none))
    for prepared in rest:
        assert prepared.plan == first.plan and prepared.options == first.options


def test_the_opt_in_follows_from_the_flag_alone(made, records):
    """Whether a prompt is a caption is for the owner's eyes; no release may tell."""
    said = {"prompt": "picture of d", "condition": "classes"}
    with pytest.raises(SfumatoError, match="captions in the private table"):
        made(**said, embedder=False)
    of_a_match = made(**said, embedder=False, allow_caption_prompts=True)
    other = replace(records, captions=("nothing of the kind",) * 16)
    of_none = made(other, **said, embedder=False, allow_caption_prompts=True)
    without = made(
        replace(records, captions=None), **said, embedder=False, allow_caption_prompts=True
    )
    found = [one.options["statements"]["opt_ins"] for one in (of_a_match, of_none, without)]
    assert found[0] == found[1] == found[2] and CAPTIONS_SAID in found[0]
    assert of_a_match.options == of_none.options and of_a_match.plan == of_none.plan
    assert CAPTIONS_SAID not in made().options["statements"]["opt_ins"]


def test_prompts_of_synthesis_are_named_by_their_hash_and_compared(made, tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,label\na ring,circle\n")
    prepared = made(prompts_file=str(file))
    assert len(prepared.plan.prompts_file) == 64
    file.write_text("prompt,label\na rings,circle\n")
    assert made(prompts_file=str(file)).plan.digest != prepared.plan.digest
    file.write_text("prompt,label\nPicture  of D,circle\n")
    with pytest.raises(SfumatoError, match="captions in the private table"):
        made(prompts_file=str(file))
    assert made(prompts_file=str(file), allow_caption_prompts=True).plan.prompts_file
    file.write_text("prompt,label\na ring,ring\n")
    with pytest.raises(SfumatoError, match="row 2: its label is no class of the plan"):
        made(prompts_file=str(file))
