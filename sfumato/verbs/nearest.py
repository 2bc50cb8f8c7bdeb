"""Audit of the pictures: how near the release's are to private and to held-out ones. PRIVATE."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..errors import DataError, SfumatoError
from ..evaluation.nearest import RATIO, SURE, Nearness, nearness
from ..evaluation.nearest_page import nearest_page
from ..options import Machine, Reading, gather, takes
from ..records import RecordSet
from ..runs.folder import Run
from ..runs.looks import record_look
from ..runs.prepared import original_base
from ..training import write_file
from .figures import latents_of
from .keywords import NearestOptions
from .machine import computes
from .pictures import require_pictures
from .real_images import Images, Real, real_images, records_of

MOST = 10_000  # pictures of each sort that are compared, drawn by a public seed
FILE, PAGE = "nearest.json", "nearest.html"
WHAT = ("nearest neighbours",)


@dataclass(frozen=True)
class PictureAudit:
    """How near the released pictures are. PRIVATE.

    Attributes:
        found: Distances, shares and copies.
        verdict: What they say, a sentence each.
        page: The file to open: the closest pictures beside their nearest real ones.
    """

    found: Nearness
    verdict: tuple[str, ...]
    page: Path


@takes(reading=Reading, machine=Machine)
@computes
def audit_pictures(
    run: Run | str | Path,
    release: str | Path,
    *,
    test: Images | None = None,
    train: Images | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Unpack[NearestOptions],
) -> PictureAudit:
    """Compares released pictures with private and with held-out ones, in the base's latents.

    Exact figures of private images: a look, whose row is in the ledger before one is computed, and
    that every later certificate of a run on these images counts. They are written to
    `evaluation/nearest.json` and `nearest.html` in the private run folder, never into the release.
    What may be said outside is the certificate's bound on attacks, which holds for every attack.

    Args:
        run: A finished run, or its folder.
        release: A folder of `synthesize`.
        test: Held-out real images; by default the held-out part of the run's split, whose units
            were set apart by lot, as the test needs.
        train: The private images themselves (default: those that the run remembers).
        on_stage: Called with a line for every stage.
        options: Fields of `Reading` and `Machine`, or whole objects.

    Returns:
        Distances with intervals, and the verdict. PRIVATE.

    Raises:
        SfumatoError: A release without pictures, too few pictures or units, or the private images
            are not known.
        DataError: Held-out images that the run was trained on, or images that vanished.
    """
    said: Reading = gather({"reading": Reading}, options, ("test", "train"))["reading"]
    run = run if isinstance(run, Run) else Run.open(run)
    require_pictures(release)
    on_stage("reading the real images")
    real = real_images([run], test, train, said, want_train=True, allow_overlap=None)
    if real.train is None:
        raise SfumatoError("the private images are not known, or not as they were: give --train")
    made = records_of(Path(release), run.plan.classes, "train")
    record_look(run, WHAT, real.test, real.train)
    base = original_base(run.plan, run.options)
    latents, size = latents_of(base), base.resolution
    pictures: dict[str, np.ndarray] = {}
    units: dict[str, np.ndarray] = {}
    for name, records in (("released", made), ("private", real.train), ("held-out", real.test)):
        on_stage(f"encoding the {name} pictures")
        use = _some(records)
        pictures[name], good = records.load(use, size)
        units[name] = records.unit[use]
        if not good.all():
            raise DataError(
                f"{int((~good).sum())} of the {name} images changed or vanished while they were"
                " read: start again"
            )
    features = {name: latents(images) for name, images in pictures.items()}
    on_stage("comparing")
    found = nearness(
        features["released"],
        features["private"],
        features["held-out"],
        units["private"],
        units["held-out"],
        features="the base's latents",
    )
    verdict = in_words(found, real, made.n)
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    write_file(folder / FILE, json.dumps(_body(found, verdict), indent=1).encode())
    title = f"{run.folder.name}: pictures beside the nearest real ones"
    write_file(folder / PAGE, nearest_page(title, verdict, found, pictures).encode())
    return PictureAudit(found, verdict, folder / PAGE)


def _some(records: RecordSet) -> np.ndarray:
    """Slots that are compared: all that can be used, or `MOST` of them."""
    use = np.flatnonzero(records.usable)
    return use if len(use) <= MOST else np.sort(np.random.default_rng(0).permutation(use)[:MOST])


def in_words(found: Nearness, real: Real, made: int) -> tuple[str, ...]:
    """The verdict, a sentence each.

    Args:
        found: The figures.
        real: What they were compared with.
        made: How many pictures the release holds.

    Returns:
        Sentences. PRIVATE.
    """
    low, high = found.expected
    said = [
        f"{found.nearer.value:.1%} of {found.released:,} released pictures are nearer to a private"
        f" picture than to a held-out one ({SURE:.0%} interval {found.nearer.low:.1%} to"
        f" {found.nearer.high:.1%}); {low:.1%} to {high:.1%} is what dealing the same"
        f" {found.units:,} and {found.units:,} units by lot gives (p = {found.p:.3f}).",
        f"Median distance to the nearest private picture {found.to_train.value:.3g}"
        f" ({found.to_train.low:.3g} to {found.to_train.high:.3g}), to the nearest held-out one"
        f" {found.to_test.value:.3g} ({found.to_test.low:.3g} to {found.to_test.high:.3g}), in"
        f" {found.features}.",
        f"{found.copies.value:.2%} ({found.copies.low:.2%} to {found.copies.high:.2%}) are less"
        f" than {RATIO:g} times as far from one private picture as from the next: copies, perhaps;"
        f" against held-out pictures, which no model saw, {found.control.value:.2%}"
        f" ({found.control.low:.2%} to {found.control.high:.2%}).",
        "More than chance: look at the closest pairs on the page before anything is handed over."
        if found.memorised
        else "Nothing here that chance does not explain; that is no proof that nothing is there.",
        *real.remarks,
    ]
    if made > found.released:
        said.append(f"{found.released:,} of {made:,} released pictures were compared.")
    return tuple(said)


def _body(found: Nearness, verdict: tuple[str, ...]) -> dict[str, Any]:
    figures = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(found).items()
    }
    own = "computed against private and held-out images; not covered by epsilon"
    return {"PRIVATE": own, "in_ledger": True, "verdict": verdict, "figures": figures}
