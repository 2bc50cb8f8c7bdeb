"""`plan` says before anything is spent what the charge of `adapt` would refuse."""

from __future__ import annotations

import pytest

import sfumato
from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import BudgetError


@pytest.fixture
def settings(tiny_base):
    schedule = {"steps": 2, "expected_batch_size": 8, "micro_batch": 4, "precision": "float32"}
    return {"base": str(tiny_base), "delta": 1e-3, **schedule}


def test_a_plan_over_the_cap_says_what_adapt_says(settings, tiny_images, tmp_path, capsys):
    assert verbs.plan(tiny_images, epsilon=2.0, **settings).refused is None
    sfumato.ledger(tiny_images, cap=1.5)
    over = verbs.plan(tiny_images, epsilon=2.0, **settings)
    assert over.refused.startswith("the cap on these images is epsilon 1.5; ")
    assert over.remarks[0] == f"adapt will refuse: {over.refused}"
    with pytest.raises(BudgetError) as refused:
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            epsilon=2.0,
            **settings,
        )
    assert str(refused.value) == over.refused

    words = [
        "plan",
        str(tiny_images),
        "--base",
        settings["base"],
        "--delta",
        "1e-3",
        *("--steps", "2", "--micro-batch-size", "4", "--mixed-precision", "no"),
    ]
    assert main([*words, "--epsilon", "2"]) == 0
    shown = capsys.readouterr().out
    assert "! adapt will refuse: the cap" in shown and "next: sfumato adapt" not in shown
    assert main([*words, "--epsilon", "1"]) == 0
    shown = capsys.readouterr().out
    assert "adapt will refuse" not in shown and "next: sfumato adapt" in shown


def test_a_plan_after_runs_counts_them(settings, tiny_images, tmp_path):
    run = verbs.adapt(
        tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", epsilon=1.0, **settings
    )
    sfumato.ledger(tiny_images, cap=run.plan.epsilon + 0.05)
    again = verbs.plan(tiny_images, epsilon=1.0, **settings)
    assert "1 earlier charge and this run come to" in again.refused


def test_terms_that_do_not_add_up_are_told(settings, tiny_images, tmp_path):
    verbs.adapt(
        tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", epsilon=1.0, **settings
    )
    other = verbs.plan(tiny_images, epsilon=1.0, **(settings | {"delta": 1e-4}))
    assert "charged before with delta 0.001" in other.refused
