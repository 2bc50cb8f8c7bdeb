"""Per-group clipping in certificate, verifier, report and statement."""

from __future__ import annotations

import copy

import pytest

from sfumato.releases import write_release
from sfumato.releases.verify_privacy import check_privacy

GROUPS = 25


@pytest.mark.parametrize(("clipping", "total"), [("per-group", 0.5), ("per-group-normalised", 1.0)])
def test_the_certificate_says_the_total_and_the_verifier_checks_it(kit, clipping, total):
    facts = kit.facts(plan=kit.plan(clipping=clipping, clip_groups=GROUPS, clip_norm=total))
    made = kit.certificate(facts)
    m = made["mechanism"]
    assert (
        m["clipping"] == clipping
        and m["clip_groups"] == GROUPS
        and m["clip_norm_per_group"] == total / 5
    )
    assert m["sensitivity"] == pytest.approx(total) and m["noise_stddev"] == pytest.approx(
        kit.sigma * total
    )
    assert all(ok for _, ok, _ in check_privacy(made))
    for change in (
        # Noise for one group's bound, although one unit fills them all.
        {"sensitivity": total / 5, "noise_stddev": kit.sigma * total / 5},
        {"clip_groups": GROUPS - 1},
        {"clip_norm_per_group": total},
        {"clip_groups": None},
        {"clipping": "per-layer"},
    ):
        other = copy.deepcopy(made)
        other["mechanism"].update(change)
        try:
            assert "sums" in [name for name, ok, _ in check_privacy(other) if not ok], change
        except (ValueError, TypeError):
            pass  # `checks` makes a failed check of it


def test_report_and_statement_say_it(kit, tmp_path):
    facts = kit.facts(plan=kit.plan(clipping="per-group", clip_groups=GROUPS))
    out = write_release(kit.images(tmp_path / "source"), tmp_path / "out", **facts)
    page = (out / "report.html").read_text("utf-8")
    assert (
        "per-group: 0.1 for each group, sensitivity 0.5 in total" in page
        and "all clipped in 25 groups" in page
    )
    assert "each of 25 groups of tensors to 0.1" in " ".join(
        (out / "PRIVACY.md").read_text("utf-8").split()
    )
