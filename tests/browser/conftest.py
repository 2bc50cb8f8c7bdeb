"""A studio of its own, and a browser that looks at it: make test-browser (docs/studio.md).

Chromium is the machine's own, from PATH; where it or playwright is missing, all of this is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.releases.fake_hub import TOKEN, running

from .eye import Eye

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (found := shutil.which(name))
    ),
    None,
)
SEEN = ROOT / "build" / "browser"
AXE = ROOT / "build" / "axe" / "package" / "axe.min.js"


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    library = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-browser")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with library.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that the studio may see."""
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="module")
def hub():
    """A hub on this machine: nothing leaves it."""
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def eye(chromium, place, hub):
    """A page of a studio that runs on the folder, with what was seen on it."""
    words = ["studio", str(place), "--no-browser", "--projects", str(place / "projects")]
    with subprocess.Popen(
        [sys.executable, "-m", "sfumato", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ
        | {"PYTHONUNBUFFERED": "1", "HOME": str(place)}
        | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        },
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            address = re.search(r"http://\S+", "".join(lines))[0]
            context = chromium.new_context(viewport=Eye.DESKTOP, color_scheme="light")
            context.set_default_timeout(300_000)  # verbs wait for each other on a busy machine
            SEEN.mkdir(parents=True, exist_ok=True)
            axe = AXE.read_text("utf-8") if AXE.exists() else None
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("h1")
            yield Eye(page, SEEN, axe, str(place / "projects"))
            context.close()
        finally:
            process.kill()
