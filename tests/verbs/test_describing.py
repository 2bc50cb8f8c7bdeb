"""`sfumato bases FOLDER` on a tiny pipeline of every family: what trains, and what is refused."""

from __future__ import annotations

import pytest

from sfumato.bases import load_base
from sfumato.cli.listings import lines_of
from sfumato.methods import METHODS
from sfumato.verbs import describe_base
from tests.bases import tiny_language_models, tiny_transformers
from tests.bases.tiny_pipelines import PIPELINES

LANGUAGE = ("lumina_2", "z_image", "qwen_image")
TRANSFORMERS = ("stable_diffusion_3", "pixart_sigma", "flux", "sana", "flux2_klein")
FAMILIES = {
    **PIPELINES,
    **{name: getattr(tiny_transformers, name) for name in TRANSFORMERS},
    **{name: getattr(tiny_language_models, name) for name in LANGUAGE},
}
QUICK = ("stable_diffusion", "ddpm")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_every_method_trains_or_is_refused_by_name(tmp_path, name):
    folder = FAMILIES[name](tmp_path / name)
    report, base = describe_base(folder), load_base(folder)
    assert list(report.trains) + list(report.refused) and report.info.family == base.family
    assert set(report.trains) | set(report.refused) == set(METHODS)
    learnable = sum(tensor.numel() for tensor in base.learnable().values())
    # and with classes the row of one
    assert learnable <= report.trains["full"] <= 1.1 * learnable
    assert 0 < report.trains["attention"] <= learnable
    for method, why in report.refused.items():
        assert why and "\n" not in why, method
    if base.adapters:
        assert 0 < report.trains["lora"] < learnable
    said = "\n".join(lines_of(report))
    assert f"{report.trains['full']:,}" in said and all(method in said for method in METHODS)


def test_random_numbers_say_what_they_may_train_before_a_plan_refuses_it():
    report = describe_base("none:8x8x1")
    assert set(report.trains) == {"full"}
    assert all("random numbers know nothing" in why for why in report.refused.values())
