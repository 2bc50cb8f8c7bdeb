"""Forecast against outcome: what `plan` said in one word, beside what a run was worth.

    python benchmarks/forecast.py --run          # measure the outcomes that are missing, one by one
    python benchmarks/forecast.py                # the table: word, outcome, right or not

What counts as an outcome was written down before any of `NEW` was measured. A CNN of 400 steps (one
seed) is trained on 2,000 pictures of the run, and one on 2,000 pictures of the public base alone;
both are asked about the same 5,000 real held-out pictures. Of the errors that the public base
leaves, the share that is gone says what was learned: a quarter and more is *something*, less than a
twentieth is *nothing*, what lies between is *little*. A word is right if it is the outcome's word.
"""

from __future__ import annotations

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
    ("fashion-mnist", "icons", 300, 4.0, "icons"),
    ("fashion-mnist", "glyphs", 300, 10.0, "glyphs"),
    ("mnist", "icons", 3000, 4.0, "icons"),
    ("fashion-mnist", "letters", 6000, 10.0, "letters"),
)
COMMAND = (
    "--threads 1 --images 2000 --classifiers cnn --seeds 1 --classifier-steps 400 --rows"
    " synthetic,public_only --test 5000"
)


def outcome(synthetic: float, public: float) -> tuple[str, float]:
    """What a run was worth: its word, and the share of the public base's errors that are gone.

    Both accuracies in percent.
    """
    share = (synthetic - public) / max(100 - public, 1e-9)
    word = "something" if share >= SOMETHING else "nothing" if share < NOTHING else "little"
    return word, share
