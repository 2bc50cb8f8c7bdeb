"""A draft entry for the registry of deployments of differential privacy, from privacy.json alone.

The registry: https://registry.opendp.org; its fields as of 2026-07
(https://github.com/opendp/deployments-registry-data). What only the owner knows is marked.
"""

from __future__ import annotations

import re
from typing import Any

from sfumato.releases.figures import unit_phrase

FILL_IN = "FILL IN"
FILE = "privacy.json"


def entry(certificate: dict[str, Any]) -> dict[str, Any]:
    """The entry as nested dictionaries, at the registry's third (fullest) tier.

    Args:
        certificate: The contents of a finished release's privacy.json.

    Returns:
        `url_slug` and `deployment`; `FILL_IN` stands where the owner must write.
    """
    images = certificate["synthesis"].get("n")
    product = f"{images} synthetic images" if images else "an adapted diffusion model"
    name = f"{FILL_IN}: a name ({product})"
    return {
        "url_slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "deployment": {
            "basic": {
                "name": name,
                "data_curators": [
                    {"data_curator_name": FILL_IN, "data_curator_type": FILL_IN},
                ],
                "description": f"{product}, with a certificate. {certificate['statement']}",
                "intended_use": FILL_IN,
                "data_product_type": "Synthetic data" if images else "Machine learning model",
                "data_product_region": FILL_IN,
                "publication_date": f"{FILL_IN}: YYYY-MM-DD",
            },
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": _domain(certificate),
                "unprotected_quantities": _unprotected(certificate),
            },
            "privacy_loss": _loss(certificate),
            "deployment_model": {
                "model_name": "Central",
                "actors": certificate["conditions"]["trust_model"],
                "release_type": "One release",
                "data_source_type": "Static",
                "access_type": "Non-interactive",
            },
            "accounting": {
                "post_processing": (
                    "Images are drawn from the adapted model with public prompts and seeds."
                    if images
                    else "None."
                ),
                "composition": _composition(certificate),
            },
            "implementation": _implementation(certificate),
            "administrative": {
                "evidence_sources": {
                    "certificate": {
                        "evidence_source_type": (
                            "Formal publication by the deploying organization"
                        ),
                        "misc": {"title": FILE, "url": FILL_IN},
                    }
                },
                "status": "Draft",
                "registry_authors": [FILL_IN],
                "tier": 3,
            },
        },
    }


def to_yaml(certificate: dict[str, Any]) -> str:
    """`entry` as YAML, in the registry's order of fields."""
    import yaml  # here: only this page needs it

    return yaml.safe_dump(entry(certificate), sort_keys=False, allow_unicode=True, width=100)


def _domain(certificate: dict[str, Any]) -> str:
    facts = certificate["public_facts"]
    classes = facts["classes"]
    return (
        f"Collections of images with {_units(facts)} units"
        + (f" in {len(classes)} public classes" if classes else "")
        + f". Unit: {unit_phrase(certificate)}."
    )


def _units(facts: dict[str, Any]) -> str:
    return "any number of" if facts["n_units"] is None else str(facts["n_units"])


def _unprotected(certificate: dict[str, Any]) -> str:
    """What is stated in the clear, and what else the owner declared or opted into."""
    facts = certificate["public_facts"]
    lines = []
    if facts["n_units"] is not None:
        lines.append(f"- the number of units: {facts['n_units']} ({facts['n_units_counts']})")
    if facts["classes"]:
        lines.append(f"- class names: {', '.join(facts['classes'])}")
    lines += [f"- {text}" for text in certificate["not_private"]["opt_ins"]]
    return "\n".join(lines)


def _loss(certificate: dict[str, Any]) -> dict[str, Any]:
    total = certificate["ledger"]["total_epsilon"]
    return {
        "privacy_unit": (
            "Record-level" if certificate["unit"] == "record" else f"One {certificate['unit']}"
        ),
        "privacy_unit_details": (
            f"{unit_phrase(certificate)}; {certificate['relation']}:"
            f" {certificate['adjacency']['means']}"
        ),
        "privacy_parameters": {
            "epsilon": certificate["epsilon"],
            "delta": certificate["delta"],
        },
        "privacy_parameters_details": (
            f"All {len(certificate['ledger']['charges'])} runs on overlapping images together:"
            f" epsilon {total} at the same delta."
            if total is not None
            else "No total of all runs can be stated: see ledger in privacy.json."
        ),
    }


def _composition(certificate: dict[str, Any]) -> str:
    accountant = certificate["accountant"]
    return (
        f"Numerical composition of every step by {accountant['name']} {accountant['version']},"
        f" grid {accountant['grid']}, {accountant['discretisation']}. A ledger counts every run on"
        " overlapping images."
    )


def _implementation(certificate: dict[str, Any]) -> dict[str, Any]:
    m = certificate["mechanism"]
    kinds = sorted({event["type"] for event in certificate["events"]})
    return {
        "preprocessing_and_hyperparameter_tuning": (
            f"{certificate['tuning']} {certificate['looks']['statement'] or ''}".strip()
        ),
        "mechanisms": "\n".join(
            [
                f"- method: {m['method']}; mechanisms: {', '.join(kinds)} (privacy.json, events)",
                f"- noise: {m['noise_placement']}" if m["billed_steps"] else "- one-shot queries",
                f"- randomness: {m['random_source']}",
                f"- library: sfumato {certificate['code_version']}",
            ]
        ),
        "justification": FILL_IN,
    }
