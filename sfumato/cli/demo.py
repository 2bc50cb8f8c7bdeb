"""`sfumato demo`: the whole path on bundled data; the last line on stdout is one JSON object."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from ..errors import SfumatoError
from ..options import Machine, parse
from .live import LiveLine
from .options import options


@options(machine=(Machine,))
def demo(
    machine: dict,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            "--output-dir",
            help="A new folder for run and release (default: demo, demo-2, ...).",
        ),
    ] = None,
    base: Annotated[
        str,
        Option(
            "--base",
            "--pretrained-model-name-or-path",
            help="Bundled base (glyphs, letters) or a pipeline folder.",
        ),
    ] = "glyphs",
    epsilon: Annotated[
        float, Option("--epsilon", help="Privacy budget: 1 is strong, 10 is weak.")
    ] = 1.0,
    method: Annotated[str, Option("--method", help="See `sfumato methods`.")] = "attention",
    controls: Annotated[
        bool, Option("--controls", help="Also score the rows non_private and real.")
    ] = False,
) -> None:
    """Adapt a bundled base to 60,000 digits, synthesize, release and verify: offline, in minutes.

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
                f"{output} holds a demo already: remove it, or name another folder with -o"
            )

    from ..verbs.demo import run_demo

    # Whatever is printed on the way goes to stderr, so that stdout is the JSON object and nothing
    # else.
    with contextlib.redirect_stdout(sys.stderr), LiveLine() as line:
        answer = run_demo(
            base=base, epsilon=epsilon, method=method, output=output, controls=controls,
            on_stage=line.stage, progress=line.step, **machine,
        )  # fmt: skip
    for sentence in in_words(answer):
        print(sentence, file=sys.stderr)
    print(json.dumps(answer))


def in_words(answer: dict) -> list[str]:
    """What happened and what to open, a line each."""
    scores, release = answer["accuracy"], Path(answer["release"])
    lines = [
        f"done in {parse.about(answer['seconds'])}: the base was adapted to 60,000 digits"
        f" at epsilon {answer['epsilon']:.3g}, delta {answer['delta']:.3g}, and drew new, synthetic"
        " digits",
        f"a small classifier trained on them alone reads {scores['synthetic']:.1f} % of 10,000 real"
        f" digits; trained on digits of the public base as it came, {scores['public_only']:.1f} %"
        " (one seed; `sfumato evaluate` runs the full protocol)",
    ]
    if "real" in scores:
        lines.append(
            f"controls: {scores['non_private']:.1f} % without privacy, {scores['real']:.1f} % with"
            " the real digits themselves"
        )
    return [
        *lines,
        f"open {release / 'report.html'} (samples, and what an attacker could gain) and"
        f" {release / 'PRIVACY.md'} (the guarantee on one page)",
        f"{release} may be handed over; {release.parent / 'run'} stays private",
    ]
