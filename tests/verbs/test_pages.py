"""A verb is the same function whichever way it was reached."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST = {
    "the verb": "from sfumato import verbs; verbs.plan",
    "its page": "import sfumato.verbs.plan",
    "another page": "import sfumato.verbs.adapt",
    "from the page": "from sfumato.verbs.plan import PlanReport",
}


@pytest.mark.parametrize("first", FIRST)
def test_a_verb_is_no_page(first):
    code = (
        f"{FIRST[first]}\n"
        "import importlib, sfumato\n"
        "from sfumato import verbs\n"
        "page = importlib.import_module('sfumato.verbs.plan')\n"
        "assert verbs.plan is verbs.plan is sfumato.plan is page.plan\n"
        "for name in verbs.__all__: assert getattr(verbs, name).__name__ == name, name\n"
        "assert not hasattr(verbs, 'no_verb')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
