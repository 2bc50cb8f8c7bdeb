"""`release` says on the terminal what the certificate says against the release: nobody reads the
middle of a page.
"""

from __future__ import annotations

from sfumato.cli.release import weaknesses


def test_a_failed_audit_looks_and_weakenings_are_said_aloud():
    facts = {
        "audit": {"run": True, "passed": False},
        "looks": {"exact": 2, "statement": ""},
        "not_private": {"opt_ins": ["the class list was read off the data"]},
    }
    audit, looks, weaker = weaknesses(facts)
    assert audit.startswith("WARNING") and "FAILED" in audit
    assert "states 2 looks at exact private scores" in looks and weaker.endswith(
        "the class list was read off the data"
    )


def test_nothing_is_said_where_there_is_nothing_to_say():
    assert (
        weaknesses({"audit": {"run": False}, "looks": {"exact": 0}, "not_private": {"opt_ins": []}})
        == []
    )
    assert weaknesses({"audit": {"run": True, "passed": True}, "looks": {"exact": None}}) == []
