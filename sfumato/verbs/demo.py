"""`sfumato demo`: the whole workflow on bundled data, offline.

60,000 private digits in, a release folder out.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import verbs
from ..bases import base_info
from ..compute.device import using
from ..compute.memory import peak_resident
from ..errors import SfumatoError
from ..evaluation import train_classifier
from ..options import Recipe, Sampling
from ..privacy.plan import Plan
from ..records import bundled_digits
from ..runs.looks import record_look
from ..training import Progress
from .real_images import images_of
from .row_images import draw, non_private_base, public_base

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# The letter that looks most like each digit: where a base that never saw a digit starts from.
LOOK_ALIKE = (
    "capital o",
    "small l",
    "capital z",
    "capital b",
    "small y",
    "capital s",
    "small b",
    "capital t",
    "capital b",
    "small q",
)
# Chosen so that all of it takes about four minutes on two cores; more steps and images gain half
# a point at most.
TUNING = (
    "The demo's settings were looked at with these digits while sfumato was written; that search is"
    " not covered. MNIST is public: the demo shows the mechanism, it protects nobody."
)
STEPS, IMAGES, PUBLIC_IMAGES, SAMPLER_STEPS, CLASSIFIER_STEPS = 60, 5_000, 3_000, 8, 900
BATCH = 1024  # expected; `plan`'s own for so many digits would take most of an hour


def demo_prompts(base: str) -> dict[str, Any]:
    """Returns the prompts of the demo.

    For a base without digits, with the public look-alikes from which its new class tokens start.
    """
    if base == "letters":
        prompt = {
            str(i): f"a handwritten {where.split()[0]} letter {{class}}"
            for i, where in enumerate(LOOK_ALIKE)
        }
        return {
            "prompt": prompt,
            "init": {str(i): where.split()[1] for i, where in enumerate(LOOK_ALIKE)},
        }
    if base_info(base).condition == "class":
        return {"embedder": False}  # a class of the base is called as the digit
    return {
        "prompt": {str(i): f"a handwritten digit {name}" for i, name in enumerate(DIGIT_NAMES)},
        "embedder": False,
    }


def run_demo(
    *,
    base: str = "glyphs",
    epsilon: float = 1.0,
    method: str = "attention",
    output: Path = Path("demo"),
    controls: bool = False,
    steps: int | None = None,
    device: str = "auto",
    on_stage: Callable[[str], None] = lambda stage: None,
    progress: Callable[[Progress, Plan], None] = lambda progress, plan: None,
) -> dict[str, Any]:
    """Adapts, synthesizes, checks and releases.

    `accuracy` is that of a small CNN trained on the synthetic images and tested once on the 10,000
    real test digits: the short form of `sfumato evaluate` (one classifier, one seed). The test
    digits are not part of the private set.

    Args:
        base: A bundled base.
        epsilon: The target.
        method: Name of a method.
        output: A new folder.
        controls: Run the controls, too.
        steps: Training steps; None: the demo's own.
        device: Where to compute, as `sfumato.Machine` has it.
        on_stage: Called with a line for every stage that begins.
        progress: Called after every step.

    Returns:
        epsilon, delta, accuracy, seconds, peak_rss_mb, release.

    Raises:
        SfumatoError: The folder holds a demo already, or the release does not verify.
    """
    started = time.monotonic()
    output = Path(output)
    if (output / "release").exists() or (output / "run").exists():
        raise SfumatoError(
            f"{output} holds a demo already: remove it, or name another folder with -o"
        )
    private, test = bundled_digits("train"), bundled_digits("test")
    try:
        run = verbs.adapt(
            private,
            output=output / "run",
            # public digits: the user's own ledger is not for them
            ledger=output / "ledger" / "ledger.sqlite",
            epsilon=epsilon,
            delta=1e-5,
            method=method,
            base=base,
            steps=steps or STEPS,
            expected_batch_size=BATCH,
            noise_draws=1,
            anyway=True,  # public digits: whatever the epsilon, it shows the mechanism
            recipe=Recipe(),
            device=device,
            tuning=TUNING,
            progress=progress,
            on_stage=on_stage,
            **demo_prompts(base),
        )
        sampling = Sampling(steps=SAMPLER_STEPS, seed=0)
        on_stage("synthesizing")
        folder = verbs.synthesize(run, IMAGES, output / "release", sampling=sampling, device=device)
        on_stage("releasing")
        verbs.release(folder)
        report = verbs.verify(folder)
        if not report.ok:
            raise SfumatoError("the demo's own release does not verify: please report this")

        with using(device):
            # The digits stand for private ones, so their exact figures are a look like any owner's.
            record_look(
                run,
                ("accuracy",),
                test,
                *([private] if controls else []),
                rows=("synthetic", "public_only"),
            )
            resolution = base_info(base).resolution
            test_images, test_labels = test.images(range(test.n), resolution), test.labels

            def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
                classifier = train_classifier(
                    "cnn", images, labels, len(run.plan.classes), seed=0, steps=CLASSIFIER_STEPS
                )
                return round(100 * classifier.accuracy(test_images, test_labels), 2)

            on_stage("evaluating: classifier on synthetic digits")
            scores = {
                "synthetic": accuracy(*images_of(folder, run.plan.classes, resolution, "train"))
            }
            on_stage("evaluating: classifier on the public base's digits")
            scores["public_only"] = accuracy(
                *draw(public_base(run), run.plan.prompts, PUBLIC_IMAGES, sampling)
            )
            if controls:
                on_stage("evaluating: the same recipe without privacy")
                scores["non_private"] = accuracy(
                    *draw(non_private_base(run), run.plan.prompts, IMAGES, sampling)
                )
                on_stage("evaluating: the real digits themselves")
                scores["real"] = accuracy(
                    private.images(range(private.n), resolution), private.labels
                )
    except BaseException:
        shutil.rmtree(output / "run" / "cache", ignore_errors=True)
        raise
    return {
        "epsilon": run.plan.epsilon,
        "delta": run.plan.delta,
        "accuracy": scores,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mb": round(peak_resident() / 2**20),
        "release": str(folder),
    }
