"""What a caller may hand over: words and settings, never what public images or a paid probe are to
decide.
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module

import pytest
import torch

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS, PublicAnswers
from sfumato.options import declared
from sfumato.planning.task import GROUPS

ROWS = {"to_q": torch.ones(2, 8)}
EXACT = [
    {"start": ROWS},
    {"scores": [3.0, 1.0]},
    {"public": PublicAnswers(selected=["to_q"])},
    {"method": "saliency", "choose": "public", "selected": ["to_q"]},
    {"method": "saliency", "selected": ["to_q"]},
    {"method": "lora", "adapter_init": "public", "start": ROWS},
    {"method": "inversion", "subspace": "public", "start": ROWS},
]


@pytest.mark.parametrize("said", EXACT)
@pytest.mark.parametrize("verb", ["plan", "adapt", "resume"])
def test_exact_figures_cannot_be_handed_in_as_public_ones(
    verb, said, tmp_path, monkeypatch, ledger_of_the_test
):
    """Refused before a picture is read, let alone charged."""

    def read(*_, **__):
        raise AssertionError("the images were read")

    for page in ("plan", "adapt"):
        monkeypatch.setattr(import_module(f"sfumato.verbs.{page}"), "records_of", read)
    with pytest.raises(SfumatoError, match="no option|does not go with --resume") as found:
        if verb == "plan":
            verbs.plan(tmp_path, epsilon=1.0, **said)
        else:
            verbs.adapt(
                tmp_path, output=tmp_path / "run", epsilon=1.0, resume=verb == "resume", **said
            )
    assert (
        found.value.exit_code == 2
        and not ledger_of_the_test.exists()
        and not (tmp_path / "run").exists()
    )


def test_no_option_class_holds_what_is_handed_over_from_inside():
    """A new hand-over of tensors or scores must be put where callers cannot reach it."""
    inside = {field.name for field in fields(PublicAnswers)}
    assert inside == {"start", "selected", "scores"}
    for kind in (*GROUPS.values(), *METHODS.values()):
        for one in declared(kind):
            assert one.name not in inside and "Tensor" not in str(one.kind), (kind, one.name)


def test_a_misspelt_option_is_named_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(SfumatoError, match="no option 'methd' here: did you mean 'method'"):
        verbs.plan(tmp_path, epsilon=1.0, methd="lora")
