"""What a type checker tells somebody who uses the package: right calls are clean, and a misspelt or
unfit option is an error before anything runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RIGHT = """\
import sfumato

method = sfumato.Lora(rank=4)
run = sfumato.adapt("x", output="y", epsilon=1, method=method, privacy=sfumato.Privacy(delta=1e-5))
sfumato.plan("x", epsilon=4, method="lora", rank=4, classes=["a", "b"], clipping="flat")
release = sfumato.synthesize(run, 100, "release", steps=8)
print(sfumato.verify(release).ok, run.plan.epsilon, sfumato.ledger().rows)
"""
# each is wrong in one place, and the checker says what
WRONG = {
    'sfumato.adapt("x", output="y", epsilom=1)': "epsilom",
    'sfumato.adapt("x", output="y", epsilon="1")': "epsilon",
    'sfumato.adapt("x", epsilon=1)': "output",
    'sfumato.plan("x", epsilon=1, clipping="flatt")': "flatt",
    'sfumato.resume("x", "y", epsilon=1)': "epsilon",
    "sfumato.Lora(rnak=4)": "rnak",
    "sfumato.adpat": "adpat",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, list[tuple[int, str]]]:
    """File -> (line, message) of all that the checker says of it, in its strict mode."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text("import sfumato\n\n" + "".join(f"{x}\n" for x in WRONG))
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    found: dict[str, list[tuple[int, str]]] = {"right.py": [], "wrong.py": []}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        line = one["range"]["start"]["line"]
        found[Path(one["file"]).name].append((line, one["message"]))
    return found


def test_right_calls_are_clean(told):
    assert told["right.py"] == []


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_an_error(told, call):
    line = 2 + list(WRONG).index(call)
    messages = [message for at, message in told["wrong.py"] if at == line]
    assert any(WRONG[call] in message for message in messages), told["wrong.py"]
