"""The process of one verb: `python -m sfumato.web.job FOLDER`.

The words of the command line come from a file of the folder, so that no other user of the machine
reads private paths in the list of processes. The exit code is left there, too: whoever asks later
knows how it ended, also if nobody was there.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

ASKED, ENDED = "asked.json", "ended"


def run(folder: Path) -> int:
    """Runs the verb and leaves its exit code; 70 for what is no exit code."""
    words = json.loads((folder / ASKED).read_text("utf-8"))["argv"]
    sys.argv = ["sfumato", *words]
    code = 70
    try:
        runpy.run_module("sfumato", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 70
    finally:
        part = folder / (ENDED + ".part")
        part.write_text(str(code), "ascii")
        os.replace(part, folder / ENDED)
    return code


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
