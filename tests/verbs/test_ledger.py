"""`sfumato.ledger`: what the command line prints, as an object."""

from __future__ import annotations

import pytest

import sfumato
from sfumato.errors import SfumatoError


@pytest.fixture
def charged(tiny_images, tiny_base, tmp_path, ledger_of_the_test):
    return sfumato.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        base=tiny_base,
        method=sfumato.Lora(rank=2),
        epsilon=2.0,
        delta=1e-3,
        steps=2,
        expected_batch_size=8,
        precision="float32",
        micro_batch=4,
    )


def test_what_was_spent_and_a_cap(charged, tiny_images, ledger_of_the_test):
    found = sfumato.ledger()
    (group,) = found.groups
    assert found.path == ledger_of_the_test and found.rows > 3 and len(found.head) == 64
    assert group.epsilon == charged.plan.epsilon and group.cap is None and group.looks == 0
    assert [run["run"] for run in group.runs] == [charged.id]
    known = sfumato.ledger(tiny_images)
    assert "have cost epsilon" in known.remark and known.images == charged.plan.n_units
    assert known.own["delta"] == charged.plan.delta

    capped = sfumato.ledger(tiny_images, cap=8.0)
    assert capped.before is None and capped.groups[0].cap == 8.0
    with pytest.raises(SfumatoError):
        sfumato.ledger(tiny_images, cap=9.0)
    assert sfumato.ledger(tiny_images, cap=9.0, raising=True).groups[0].cap == 9.0


def test_bad_requests_in_one_line(tmp_path, ledger_of_the_test):
    with pytest.raises(SfumatoError, match="a cap belongs to images"):
        sfumato.ledger(cap=3.0)
    with pytest.raises(SfumatoError):
        sfumato.ledger(path=tmp_path / "none.sqlite")
    with pytest.raises(SfumatoError, match="no option 'lables'"):
        sfumato.ledger(tmp_path, cap=1.0, lables="x")
    assert not (tmp_path / "none.sqlite").exists()
