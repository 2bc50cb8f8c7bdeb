"""DiT by the checks of every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sfumato.bases import load_base
from tests.bases import published_classes, tiny_pipelines
from tests.bases.family_checks import (
    adapt,
    check_objective,
    check_output,
    check_sampling,
    pipeline,
)

CLASSES = ["circle", "cross", "square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_pipelines.dit(tmp_path_factory.mktemp("pipelines") / "dit")


def test_the_objective(folder):
    check_objective(folder, CLASSES, published_classes.dit)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_pictures(folder, guidance_scale):
    base, pipe = load_base(folder), pipeline(folder)
    drawn = check_sampling(
        base, pipe, CLASSES, published_classes.draw_dit, guidance_scale=guidance_scale
    )
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["attention", "full"])
def test_a_run_and_what_it_saves(folder, tiny_images, tmp_path, method):
    run = adapt(folder, tiny_images, tmp_path / "run", method)
    check_output(run, folder, published_classes.draw_dit)
    check_output(run, folder, published_classes.draw_dit, guidance_scale=3.0)


@pytest.mark.slow
def test_a_new_class_leaves_the_null_class_where_diffusers_looks_for_it(
    folder, tiny_images, tmp_path
):
    """`--init` gives a class a row of its own, after the null row; guidance still finds that."""
    run = adapt(folder, tiny_images, tmp_path / "run", "attention", "--init", "circle=great star")
    told = dict(zip(run.plan.classes, run.plan.prompts))
    assert told == {"circle": "<circle>", "cross": "cross", "square": "square"}
    names = json.loads((run.model / "model_index.json").read_text())["id2label"]
    assert names["1001"] == "<circle>" and names["1000"] == ""
    before, after = load_base(folder).table, load_base(run.model).table
    assert after.null == published_classes.NULL and len(after.rows) == published_classes.NULL + 2
    assert torch.allclose(after.rows[: published_classes.NULL + 1], before.rows, atol=1e-3)
    assert not torch.allclose(after.rows[published_classes.NULL + 1], before.rows[3], atol=1e-3)
    check_output(run, folder, published_classes.draw_dit, guidance_scale=3.0)
