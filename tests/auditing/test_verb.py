"""`sfumato.audit`: what the command line prints, as an object."""

from __future__ import annotations

import pytest

import sfumato
from sfumato.errors import SfumatoError


def test_checks_of_the_package_by_name():
    seen = []
    found = sfumato.audit(only=["B"], quick=True, on_finding=seen.append)
    assert found.passed and not found.failed and list(found.findings) == seen
    assert {finding.check for finding in seen} == {"B"}
    assert found.lines[0].startswith("PASS") and any("does not prove" in t for t in found.lines)


def test_bad_requests_in_one_line(tmp_path):
    with pytest.raises(SfumatoError, match="--only Q: choose"):
        sfumato.audit(only=["Q"])
    with pytest.raises(SfumatoError, match="not a run folder"):
        sfumato.audit(tmp_path)
