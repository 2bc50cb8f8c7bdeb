"""What a caller may hand over: words and settings, never what public images or a paid probe are to
decide.
"""

from __future__ import annotations

import inspect
import sys

import pytest
import torch

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS
from sfumato.planning.inputs import INTERNAL, INTERNAL_OF_METHODS
from sfumato.planning.prepare import prepare

ROWS = {"to_q": torch.ones(2, 8)}
EXACT = [
    {"start": ROWS},
    {"scores": [3.0, 1.0]},
    {"method": "saliency", "method_options": {"choose": "public", "selected": ["to_q"]}},
    {"method": "saliency", "method_options": {"selected": ["to_q"]}},
    {"method": "lora", "method_options": {"adapter_init": "public", "start": ROWS}},
    {"method": "inversion", "method_options": {"subspace": "public", "start": ROWS}},
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
        monkeypatch.setattr(sys.modules[f"sfumato.verbs.{page}"], "records_of", read)
    with pytest.raises(SfumatoError, match="no option|takes no") as found:
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


def test_every_tensor_or_list_that_prepare_and_methods_take_from_inside_is_on_the_lists():
    """A new hand-over of tensors or scores must be put where callers cannot reach it."""
    inside = {
        n
        for n, p in inspect.signature(prepare).parameters.items()
        if "Tensor" in str(p.annotation) or n == "scores"
    }
    assert inside == set(INTERNAL)
    for method in METHODS.values():
        taken = inspect.signature(method).parameters
        assert {
            n for n, p in taken.items() if "Tensor" in str(p.annotation) or n == "selected"
        } <= set(INTERNAL_OF_METHODS)


def test_a_misspelt_option_is_named_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(SfumatoError, match="no option 'methd' here: did you mean 'method'"):
        verbs.plan(tmp_path, epsilon=1.0, methd="lora")
