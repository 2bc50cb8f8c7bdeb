"""Options of performance: what a new attempt is billed by cannot be switched off."""

from __future__ import annotations

import pytest

from sfumato.errors import SfumatoError
from sfumato.options import Performance, declared


@pytest.mark.parametrize("name", ["micro_batch", "memory_budget", "threads", "checkpoint_steps"])
@pytest.mark.parametrize("value", [0, -25, True, 1.5, float("nan"), "8"])
def test_numbers_below_one_and_no_numbers_are_refused(name, value):
    (flag,) = [one.flag for one in declared(Performance) if one.name == name]
    with pytest.raises(SfumatoError, match=flag):
        Performance(**{name: value})


def test_what_may_be_missing_may():
    missing = dict.fromkeys(("micro_batch", "memory_budget", "threads"))
    assert Performance(**missing).checkpoint_steps == 25
    with pytest.raises(SfumatoError):
        Performance(checkpoint_steps=None)
