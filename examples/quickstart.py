"""A folder of private images in, a release folder out.

Usage: python examples/quickstart.py FOLDER BASE.
"""

from __future__ import annotations

import sys

import sfumato

images, base = sys.argv[1:]  # BASE: a bundled name, or a pipeline folder

report = sfumato.plan(images, epsilon=4, base=base)
print(
    f"noise multiplier {report.plan.noise_multiplier}, {report.plan.steps} steps:"
    f" {report.estimate.seconds:.0f} s"
)

# yes_public: the names of the folders may be published. The run is PRIVATE and stays here.
run = sfumato.adapt(images, epsilon=4, base=base, yes_public=True, output="run")
sfumato.synthesize(run, 200, "release")
sfumato.release("release", title="Synthetic images")

checked = sfumato.verify("release")
print(
    f"epsilon {run.plan.epsilon}, delta {run.plan.delta}:",
    "verified" if checked.ok else checked.failed,
)
