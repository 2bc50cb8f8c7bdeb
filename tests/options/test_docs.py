"""docs/options.md says what the classes say."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_options_is_made_from_the_classes():
    page = runpy.run_path(str(ROOT / ".ci" / "options"))["page"]()
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == page, (
        ".ci/options > docs/options.md"
    )
