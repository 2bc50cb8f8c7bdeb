"""A folder of private images in, a release folder out.

Usage: python examples/quickstart.py FOLDER [BASE].
"""

from __future__ import annotations

import sys

import sfumato

images, base = sys.argv[1], (sys.argv[2:] or ["glyphs"])[0]

report = sfumato.plan(images, epsilon=4, base=base)
print(
    f"noise multiplier {report.plan.noise_multiplier}, {report.plan.steps} steps:"
    f" {report.estimate.seconds:.0f} s"
)

run = sfumato.adapt(images, epsilon=4, base=base, output="run")  # PRIVATE: stays here
sfumato.synthesize(run, 200, "release")
sfumato.release("release", title="Synthetic images")

checked = sfumato.verify("release")
print(
    f"epsilon {run.plan.epsilon}, delta {run.plan.delta}:",
    "verified" if checked.ok else checked.failed,
)
