"""A draft entry for the registry of deployments says what privacy.json says and marks the rest."""

from __future__ import annotations

import json

import yaml

from sfumato.cli import main
from sfumato.releases import registry

# Tier by tier what the registry asks (its schema of 2026-07); each is text, number or list.
ASKED = (
    "basic.name basic.data_curators basic.description basic.intended_use basic.data_product_type"
    " basic.data_product_region basic.publication_date dp_variant.variant_name"
    " dp_variant.data_domain dp_variant.unprotected_quantities privacy_loss.privacy_unit"
    " privacy_loss.privacy_unit_details privacy_loss.privacy_parameters"
    " deployment_model.model_name deployment_model.actors deployment_model.release_type"
    " deployment_model.data_source_type deployment_model.access_type accounting.post_processing"
    " accounting.composition implementation.preprocessing_and_hyperparameter_tuning"
    " implementation.mechanisms implementation.justification administrative.evidence_sources"
    " administrative.status administrative.registry_authors administrative.tier"
).split()


def run(*words) -> int:
    try:
        return main([str(word) for word in words]) or 0
    except SystemExit as end:
        return int(end.code or 0)


def test_an_entry_has_every_field_and_the_figures_of_the_certificate(finished):
    facts = json.loads((finished / "privacy.json").read_text("utf-8"))
    found = yaml.safe_load(registry.to_yaml(facts))
    assert set(found) == {"url_slug", "deployment"} and found["url_slug"]
    for field in ASKED:
        room, name = field.split(".")
        assert found["deployment"][room][name], field
    loss = found["deployment"]["privacy_loss"]
    assert loss["privacy_parameters"] == {"epsilon": facts["epsilon"], "delta": facts["delta"]}
    assert loss["privacy_unit"] == "Record-level"
    assert "cat, dog" in found["deployment"]["dp_variant"]["unprotected_quantities"]


def test_a_unit_is_named_as_it_is_and_a_model_is_a_model(kit, tmp_path):
    facts = kit.certificate(kit.facts(plan=kit.plan(unit="visit_id", max_per_unit=8)))
    facts["synthesis"] = {}
    found = registry.entry(facts)["deployment"]
    assert found["privacy_loss"]["privacy_unit"] == "One visit_id"
    assert "visit_id" in found["privacy_loss"]["privacy_unit_details"].replace("\\", "")
    assert found["basic"]["data_product_type"] == "Machine learning model"


def test_verify_writes_it_once_and_only_for_a_release_that_passes(kit, tmp_path, copy, capsys):
    file = tmp_path / "entry.yaml"
    assert run("verify", copy, "--registry-entry", file) == 0
    assert registry.FILL_IN in file.read_text("utf-8") and "a draft" in capsys.readouterr().out
    assert run("verify", copy, "--registry-entry", file) != 0
    assert "already exists" in capsys.readouterr().err
    file.unlink()
    (copy / "README.md").write_text("other", "utf-8")
    assert run("verify", copy, "--registry-entry", file) == 1 and not file.exists()
