"""Remarks on a plan, before anything is spent: what will be published, and what will not pay."""

from __future__ import annotations

from collections.abc import Mapping

from ..privacy.plan import Plan
from ..records import spelling
from ..runs.inversion import expectation
from ..runs.prepared import Prepared

MOST_NAMES = 40  # classes that a remark names


def remarks_on(prepared: Prepared, records) -> tuple[str, ...]:
    """One line each, for the person who plans; local, since some follow from the records."""
    plan, remarks = prepared.plan, [_on_ancestor(ancestor) for ancestor in prepared.ancestors]
    if records.classes_found:
        names = ", ".join(plan.classes[:MOST_NAMES]) + (
            ", ..." if len(plan.classes) > MOST_NAMES else ""
        )
        remarks.append(
            f"the class list was read off the data and will be published ({names}): declare it with"
            " --classes"
        )
    if records.unit_column:
        remarks += spelling(records)
    ratio = plan.noise_norm_expected() / plan.signal_bound
    if prepared.adaptation.inversion is not None:
        said = expectation(prepared).remark
        remarks += [said] if said else []
    elif ratio > 20:
        remarks.append(
            f"the noise is {ratio:.0f} times the largest possible signal per step: expect little to"
            " be learnt"
        )
    if plan.n_units < 100 and prepared.adaptation.inversion is None:
        remarks.append(
            f"{plan.n_units} units cannot teach a model anything that each of them may deny: bring"
            " some hundred, or take --method inversion"
        )
    if plan.probe is not None:
        remarks.extend(_probe_remarks(plan))
    if plan.delta >= 1 / plan.n_units:
        remarks.append("delta is not below 1/n: such a run may publish somebody outright")
    if plan.unit == "record":
        remarks.append(
            "the unit is one image: where several show the same person, name the column that says"
            " so (--unit)"
        )
    return tuple(remarks)


def _probe_remarks(plan: Plan) -> list[str]:
    """Where the probe does not pay, from public numbers alone."""
    probe, remarks = plan.probe, []
    rise = plan.noise_multiplier / probe.noise_before - 1
    if rise > 0.05:
        remarks.append(
            f"the probe raises training's noise by {100 * rise:.0f} %: give it more noise or fewer"
            " units"
        )
    # What all units together say of a candidate, on average, beside the noise on it.
    said = probe.expected_batch_size * (probe.votes or probe.sensitivity) / len(probe.groups)
    noise = probe.noise_stddev * probe.grid
    if said < 3 * noise:
        remarks.append(
            f"the probe's noise ({noise:.3g}) hides its scores (at most {said:.3g} a candidate, on"
            " average): its choice will be close to chance; --choose public costs nothing, and so"
            " does --method lora without a choice"
        )
    if (
        probe.expected_batch_size * probe.noise_draws
        > plan.steps * plan.expected_batch_size * plan.noise_draws
    ):
        remarks.append("the probe takes longer than training: lower --probe-units or --probe-draws")
    return remarks


def _on_ancestor(run: Mapping) -> str:
    what = "the base was adapted" if run["through"] == "base" else "the public images were drawn"
    why = "that the two share an image or unit cannot be ruled out, so its cost is added"
    if not run["charges"]:
        why = "its cost is in the total where the two share an image"
    return (
        f"{what} by run {run['run']} of {run['owner']} (epsilon {run['epsilon']:.3g}, unit"
        f" {run['unit']!r}): {why}"
    )
