"""What verbs print, and jobs that look as if they had run."""

from __future__ import annotations

import json
import time

from sfumato.web.project import open_project

PLANNED = {
    "plan": {
        "classes": ["a", "b"],
        "epsilon": 4.0,
        "noise_multiplier": 1.0,
        "steps": 5,
        "trainable": 10,
    },
    "estimate": {"seconds": 1.0, "peak_bytes": 1.0},
    "outlook": None,
    "public": {"classes": "a, b"},
    "remarks": [],
    "refused": None,
    "needs": ["--yes-public"],
    "pixels": ["8x8", "8x8"],
    "fixes": "--steps 5",
}
LOOKED = {"kinds": {"PNG": 6}, "questions": {}, "n": 6, "usable": 6, "n_classes": 2, "n_units": 6}
LOOKED |= {"smallest": [8, 8], "largest": [8, 8], "duplicates": 0, "classes": {"a": 3, "b": 3}}
LOOKED |= {"values": [], "proposals": [], "stops": [], "warnings": []}
LOOKED["questions"] = {
    "what": {"text": "", "choices": [["classes", "x"], ["style", "y"]], "default": "classes"},
    "unit": {"text": "", "choices": [["image", "x"], ["patient", "y"]], "default": "image"},
}


def done(browser, project: str, name: str, argv: list[str], out: object = "") -> None:
    """A job as if it had run."""
    folder = browser.studio.top / project / "jobs" / f"{name}-1"
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text(json.dumps({"argv": argv, "started": time.time()}))
    (folder / "stdout").write_text(out if isinstance(out, str) else json.dumps(out))
    (folder / "stderr").write_text("")
    (folder / "ended").write_text("0")


def opened(browser, project: str):
    found = open_project(browser.studio.top, project)
    assert found is not None
    return found
