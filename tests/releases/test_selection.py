"""A choice of matrices in certificate, verifier and report."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.releases import build_privacy_json, consistency
from sfumato.releases.report import network
from sfumato.releases.verify_privacy import check_privacy

GROUPS = tuple(
    f"mid_block.attentions.0.transformer_blocks.0.attn{a}.{p}"
    for a in (1, 2)
    for p in ("to_q", "to_k", "to_out.0")
)
SCORES = [3.5, -1.0, 20.0, 7.25, 0.0, 19.0]
CHOSEN = [GROUPS[2], GROUPS[5]]


def probed(kit, expected=200.0, **changes):
    probe = Probe(GROUPS, 2, "votes", 2, None, False, expected, 4, 6.0, 1.9)
    event = {
        "type": "poisson_gaussian",
        "sampling_rate": expected / 1000,
        "noise_multiplier": 6.0,
        "steps": 1,
    }
    if expected == 1000:
        event = {"type": "gaussian", "noise_multiplier": 6.0, "count": 1}
    plan = kit.plan(method="saliency", rank=4, target_modules=list(GROUPS))
    plan |= {"probe": probe.to_json(), "events": [event, *plan["events"]], "epsilon": None}
    selection = {"how": "private", "groups": list(GROUPS), "selected": CHOSEN, "scores": SCORES}
    selection |= {"targets": CHOSEN, "trainable": 77}
    return kit.facts(plan=kit.plan(**plan | changes), conditions={"selection": selection})


def certificate(facts):
    return build_privacy_json(facts["facts"], facts["settings"])


def holds(made):
    return all(ok for _, ok, _ in [*check_privacy(made), *consistency.check_facts(made)])


@pytest.mark.parametrize("expected", [200.0, 1000.0])
def test_the_certificate_names_event_noise_candidates_and_choice(kit, expected):
    made = certificate(probed(kit, expected))
    query = made["mechanism"]["one_shot"][0]
    assert (
        query["name"] == "saliency probe"
        and query["noise"] == 6.0
        and query["sampling_rate"] == expected / 1000
    )
    assert (
        query["sensitivity"] == 2**0.5
        and query["noise_stddev"] >= 6 * 2**0.5
        and query["candidates"] == 6
    )
    assert made["mechanism"]["billed_steps"] == kit.steps and made["selection"]["scores"] == SCORES
    assert (
        made["public_facts"]["target_modules"] == CHOSEN and made["public_facts"]["trainable"] == 77
    )
    assert holds(made)


def test_the_verifier_sees_every_change(kit):
    made = certificate(probed(kit))
    for change in (
        lambda c: c["mechanism"]["one_shot"].pop(0),
        lambda c: c["mechanism"]["one_shot"][0].update(noise=7.0),
        lambda c: c["mechanism"]["one_shot"][0].update(noise_stddev=6.0),
        lambda c: c["events"].pop(0),
        lambda c: c["events"][0].update(sampling_rate=0.1),
        lambda c: c["events"][0].update(steps=2),
        lambda c: c["selection"].update(selected=[GROUPS[0], GROUPS[5]]),
        lambda c: c["selection"]["scores"].reverse(),
    ):
        other = copy.deepcopy(made)
        change(other)
        assert not holds(other)


def test_a_probe_that_is_not_paid_for_or_not_finished_is_refused(kit):
    facts = probed(kit)
    plan = facts["facts"].plan
    unpaid = kit.plan(**{**plan, "events": plan["events"][1:], "epsilon": None})
    with pytest.raises(SfumatoError, match="do not pay"):
        certificate({**facts, "facts": replace(facts["facts"], plan=unpaid)})
    with pytest.raises(SfumatoError, match="not in the ledger"):
        certificate({**facts, "facts": replace(facts["facts"], selection=None)})


def test_a_free_choice_is_told_too(kit):
    selection = {"how": "random", "groups": list(GROUPS), "selected": CHOSEN, "scores": None}
    facts = kit.facts(conditions={"selection": selection})
    made = certificate(facts)
    assert made["selection"] == selection and json.dumps(made)
    assert holds(made)


def test_the_picture_has_a_cell_for_every_candidate():
    drawn = network(
        {"how": "private", "groups": list(GROUPS), "selected": CHOSEN, "scores": SCORES}
    )
    assert len({cell[:2] for cell in drawn["cells"]}) == 6 and len(drawn["rows"]) == 2
    assert [name for _, name in drawn["heads"]] == ["to_q", "to_k", "to_out.0"]
    assert [cell[4] for cell in drawn["cells"]] == [False, False, True, False, False, True]
    assert max(cell[3] for cell in drawn["cells"]) == 1.0 and "20" in drawn["cells"][2][5]
    groups = [
        "up_blocks.0.resnets.0.conv1",
        "up_blocks.0.attentions.1",
        "conv_in",
        "mid_block.attentions.0.a.ff.net.0.proj",
    ]
    plain = network({"how": "random", "groups": groups, "selected": groups[:1], "scores": None})
    assert len({cell[:2] for cell in plain["cells"]}) == 4 and not plain["scores"]
    assert network(None) is None


def test_the_report_shows_it(kit, tmp_path):
    from sfumato.releases import write_release

    out = write_release(kit.images(tmp_path / "source"), tmp_path / "out", **probed(kit))
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<rect") == 6 and page.count("cell chosen") == 2
    assert "2 of 6 candidates" in page and GROUPS[2] in page
    assert "saliency probe" in (out / "PRIVACY.md").read_text("utf-8")
