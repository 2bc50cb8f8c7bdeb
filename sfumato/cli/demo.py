"""`sfumato demo`: the main job on bundled data; its last line on stdout is one JSON object."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from ..errors import SfumatoError
from .live import LiveLine


def demo(
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            "--output-dir",
            help="Folder for run and release; default demo, demo-2, ... [new].",
        ),
    ] = None,
    base: Annotated[
        str,
        Option("--base", "--pretrained-model-name-or-path", help="glyphs, letters or a folder."),
    ] = "glyphs",
    epsilon: Annotated[float, Option("--epsilon", help="The promise.")] = 1.0,
    method: Annotated[str, Option("--method", help="See `sfumato methods`.")] = "attention",
    controls: Annotated[
        bool, Option("--controls", help="Add the rows non_private and real.")
    ] = False,
) -> None:
    """Adapt a bundled base to 60,000 private digits, synthesize, check and release. Offline,
    minutes on two cores.

    \b
    sfumato demo
    sfumato demo --base letters --epsilon 10 -o demo-letters --controls
    """
    if output is None:
        numbers = itertools.count(2)
        output = Path("demo")
        while output.exists():
            output = Path(f"demo-{next(numbers)}")
    for part in ("run", "release"):
        if (output / part).exists():
            raise SfumatoError(
                f"{output} holds a demo already: remove it or name another folder with -o"
            )

    from ..verbs.demo import run_demo

    # Whatever is printed on the way goes to stderr, so that stdout is the JSON object and nothing
    # else.
    with contextlib.redirect_stdout(sys.stderr), LiveLine() as line:
        answer = run_demo(
            base=base, epsilon=epsilon, method=method, output=output, controls=controls,
            on_stage=line.stage, progress=line.step,
        )  # fmt: skip
    report = Path(answer["release"]) / "report.html"
    print(
        "short form: one small CNN, one seed; `sfumato evaluate` runs the full protocol",
        file=sys.stderr,
    )
    print(f"open {report}", file=sys.stderr)
    print(json.dumps(answer))
