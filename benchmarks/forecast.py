"""Forecast against outcome: what `plan` said in one word, beside what a run was worth.

    python benchmarks/forecast.py --commands | sh   # measures the outcomes (hours on one core)
    python benchmarks/forecast.py                   # the table: word, outcome, right or not

What counts as an outcome was written down before any of `NEW` was measured. A CNN of 400 steps (one
seed) is trained on 2,000 pictures of the run, and one on 2,000 pictures of the public base alone;
both are asked about the same 5,000 real held-out pictures. Of the errors that the public base
leaves, the share that is gone says what was learned: a quarter and more is *something*, less than a
twentieth is *nothing*, what lies between is *little*. A word is right if it is the outcome's word.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

SOMETHING, NOTHING = 0.25, 0.05
# (private set, base, private pictures, epsilon); no threshold of the forecast was chosen with these
NEW = (
    ("fashion-mnist", "icons", 1000, 4.0),
    ("fashion-mnist", "letters", 1000, 4.0),
    ("mnist", "icons", 1000, 4.0),
    ("fashion-mnist", "icons", 100, 4.0),
    ("fashion-mnist", "glyphs", 3000, 10.0),
    ("mnist", "glyphs", 1000, 4.0),
    ("mnist", "glyphs", 300, 1.0),
    ("fashion-mnist", "icons", 3000, 2.0),
    ("mnist", "letters", 1000, 0.5),
)
# the same once more: added when the rule for the fit of a base (`planning/fit.py`) stood, before
# they were measured; the last of each is the bundled base whose words are used
HELD_OUT = (
    ("mnist", "letters", 1000, 4.0, "icons"),
    ("mnist", "letters", 3000, 10.0, "icons"),
    ("fashion-mnist", "icons", 3000, 10.0, "icons"),
)
COMMAND = (
    "python benchmarks/results.py --data {} --base {} --private {} --epsilon {} --words {}"
    " --threads 1 --images 2000 --classifiers cnn --seeds 1 --classifier-steps 400 --rows"
    " synthetic,public_only --test 5000 --out benchmarks/results/forecast-new.jsonl"
)
ROWS = Path(__file__).parent / "results"
TRIED = 5000  # test pictures from here on stand in for public ones; no run is judged on them


def outcome(synthetic: float, public: float) -> tuple[str, float]:
    """What a run was worth: its word, and the share of the public base's errors that are gone.

    Both accuracies in percent.
    """
    share = (synthetic - public) / max(100 - public, 1e-9)
    word = "something" if share >= SOMETHING else "nothing" if share < NOTHING else "little"
    return word, share


def rows() -> list[dict]:
    """What was measured: the rows of which the noise thresholds were read off, then the others."""
    found = []
    for name in ("forecast.jsonl", "forecast-new.jsonl"):
        for line in (ROWS / name).read_text().splitlines():
            found.append(json.loads(line) | {"fitted": name == "forecast.jsonl"})
    return found


def kind(row: dict) -> tuple[str, str, str]:
    """(private set, base, whose words): what the fit and the public base depend on."""
    return tuple(row["settings"][name] for name in ("data", "base", "words"))


def noise(plan: dict) -> float:
    """R of docs/results.md, at zero-out and one clip."""
    return plan["sigma"] * plan["trainable"] ** 0.5 / (plan["batch"] * plan["steps"] ** 0.5)


def fit(data: str, base: str, named: str):
    """The fit of a base, with the last test pictures as the stand-in."""
    from private_sets import read, words

    from sfumato.bases import load_base
    from sfumato.methods.prompts import choose_prompts
    from sfumato.planning.fit import fit_of

    tests = read(data, "test")
    late = np.arange(tests.n) >= TRIED
    stand_in = replace(tests, usable=tests.usable & late)
    prompts = choose_prompts(load_base(base), tests.classes, **words(data, named))
    return fit_of(base, tests.classes, prompts, stand_in)


def table() -> None:
    """One line for each run: noise, fit, forecast, outcome, and whether the two agree."""
    from sfumato.planning.fit import HARDER
    from sfumato.planning.forecast import CLEAR, DROWNED

    measured = rows()
    public = {kind(r): r["mean"]["public_only"]["cnn"] for r in measured if not r["fitted"]}
    fits = {one: fit(*one) for one in dict.fromkeys(map(kind, measured))}
    right = []
    for row in measured:
        known, made = row["settings"], fits[kind(row)]
        felt = noise(row["plan"]) * HARDER[made.word]
        said = "something" if felt <= CLEAR else "nothing" if felt >= DROWNED else "little"
        accuracy = row["mean"]["synthetic"]["cnn"]
        was, share = outcome(accuracy, public[kind(row)])
        right.append((row["fitted"], said == was))
        cells = (
            *kind(row), known["private"], f"{known['epsilon']:g}", f"{noise(row['plan']):.2f}",
            made.word, said, was, f"{100 * share:.0f} %", f"{public[kind(row)]:.1f}",
            f"{accuracy:.1f}", "fitted" if row["fitted"] else "new", "" if said == was else "WRONG",
        )  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    for one, made in fits.items():
        print(*one, made.sentence)
    for which in (True, False):
        own = [agrees for fitted, agrees in right if fitted == which]
        print("fitted:" if which else "new:", sum(own), "right of", len(own))


if __name__ == "__main__":
    if sys.argv[1:] == ["--commands"]:
        for one in (*NEW, *HELD_OUT):
            print(COMMAND.format(*one, *([one[1]] if len(one) == 4 else [])))
    else:
        table()
