"""A verb is the same function whichever way it was reached."""

from __future__ import annotations

import subprocess
import sys

FIRST = (
    "from sfumato import verbs; verbs.plan",
    "import sfumato.verbs.plan",
    "import sfumato.verbs.adapt",
    "from sfumato.verbs.plan import PlanReport",
)


def test_a_verb_is_no_page():
    """Each way first, in one process that forgets the package in between."""
    code = f"""
import importlib, sys
for first in {FIRST}:
    for name in [n for n in sys.modules if n.split(".")[0] == "sfumato"]:
        del sys.modules[name]
    exec(first)
    import sfumato
    from sfumato import verbs
    page = importlib.import_module("sfumato.verbs.plan")
    assert verbs.plan is verbs.plan is sfumato.plan is page.plan, first
    for name in verbs.__all__:
        assert getattr(verbs, name).__name__ == name, (first, name)
    assert not hasattr(verbs, "no_verb")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
