"""`synthesize`: images that leave a run folder, with a draft of their certificate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..bases import open_adapted
from ..errors import SfumatoError
from ..methods.given import Drawing
from ..options import Machine, Sampling, Signing, gather, takes
from ..options.progress import tell
from ..privacy.ledger.entries import Released
from ..releases import DRAFT, marked_png, prompts_facts, write_draft
from ..runs.attempts import require_sealed
from ..runs.facts import certificate_facts
from ..runs.folder import Run
from ..runs.prepared import public_side, shares_of
from ..synthesis.dataset import (
    Classes,
    check_request,
    class_of_each,
    shard_indices,
    write_dataset,
)
from ..synthesis.prompts import read_prompts
from ..synthesis.sampler import image_seed, resolved
from ..synthesis.samples import few_pictures
from .drawing import base_that_draws, drawn_how
from .export import SECONDS, pictures_of_a_row
from .facts import public_base
from .keywords import SynthesizeOptions
from .machine import computes


@takes(sampling=Sampling, signing=Signing, machine=Machine)
@computes
def synthesize(
    run: Run | str | Path,
    n: int | None,
    output: str | Path,
    *,
    prompts: str | Path | None = None,
    class_shares: Mapping[str, float] | None = None,
    ledger: str | Path | None = None,
    keep_key: bool = False,
    form: str = "imagefolder",
    shard: tuple[int, int] = (0, 1),
    controls: bool = True,
    progress: Callable[[int], None] = lambda done: None,
    **options: Unpack[SynthesizeOptions],
) -> Path:
    """Writes `n` labelled synthetic images into a new folder, with their certificate.

    Args:
        run: A finished run, or its folder.
        n: How many images; None: as many as the file of prompts asks for.
        output: A new folder.
        prompts: File of public prompts, CSV or JSON lines of prompt and, if wanted, label and
            count; whether it was written before training follows from the plan. Default: the
            prompts of classes.
        class_shares: Declared shares of the classes, scaled to sum to 1; they count as public.
            Default: uniform, or the noisy histogram that the plan paid for.
        ledger: Where the run's ledger is, if it was moved.
        keep_key: Do not erase the run's secret key afterwards.
        form: "imagefolder" or "parquet".
        shard: (i, k): only every k-th image, from i. Image i's seed is a hash of the public seed
            and i, so shards fit together.
        controls: Draw a few images more for the report: by the public base alone, where it can be
            opened, or after an inversion with tokens that no private image decides.
        progress: Called with the number of images that were just written.
        options: Fields of `Sampling`, `Signing` and `Machine`, or whole objects.

    Returns:
        The folder.

    Raises:
        SfumatoError: An unfinished run, an existing folder, options that there are not.
    """
    run = run if isinstance(run, Run) else Run.open(run, ledger)
    require_sealed(run)
    plan, source = run.plan, "uniform"
    said = gather({"sampling": Sampling, "signing": Signing}, options)
    sampling: Sampling = said["sampling"]
    encode = _encode(said["signing"])
    how = drawn_how(run, sampling, prompts is not None)
    sampling = how.sampling
    public = public_side(run)
    shares = shares_of(plan, None)
    counts = run.folder / "model" / "class_counts.json"
    told = None if prompts is None else read_prompts(prompts, plan.classes)
    if told is not None and class_shares is not None:
        raise SfumatoError("--prompts says how much of each is drawn: leave --class-shares out")
    if n is None:
        if told is None:
            raise SfumatoError("-n is required without --prompts: how many images")
        n = told.n
    if class_shares is not None:
        if set(class_shares) != set(plan.classes):
            raise SfumatoError(
                f"--class-shares must name every class once: {', '.join(plan.classes)}"
            )
        shares, source = [class_shares[c] for c in plan.classes], "declared"
    elif counts.exists():
        shares, source = (
            shares_of(plan, np.array(json.loads(counts.read_text("utf-8")))),
            "noisy-histogram",
        )
    classes = Classes(plan.classes, plan.prompts, shares, source)
    if told is not None:
        said = prompts_facts(told.sha256, len(told.texts), plan.prompts_file)
        classes = Classes.of_file(plan.classes, told, said)
    check_request(Path(output), n, classes.shares, form, shard)
    # before the adapted base is opened: memory holds one of them
    row = _of_base(run, n, classes, shard, sampling) if controls and public is None else {}
    if public is None:
        base = base_that_draws(run, how)
    else:
        base = open_adapted(run.model, lambda: public.base)
    if told is not None:
        told = told.on(base, plan.classes, plan.prompts)
        classes = Classes.of_file(plan.classes, told, said)
    sampling = resolved(sampling, base)
    base.sampler(sampling.scheduler, sampling.steps)
    run.record(Released(sort="images", n=n, seed=sampling.seed))

    def seal(folder: Path, settings: dict[str, Any]) -> None:
        drawing = Drawing(base, n, shares, shard, sampling) if controls else None
        beside = public and public.method.report_controls(public, run.model, drawing)
        write_draft(
            folder,
            certificate_facts(run, keep_key=keep_key),
            artefacts="images",
            settings=settings | how.facts,
            controls=beside,
            base_pictures=row,
            place=str(run.ledger_path),
            run_folder=str(run.folder),
        )

    write_dataset(
        base,
        Path(output),
        n=n,
        classes=classes,
        sampling=sampling,
        encode=encode,
        seal=seal,
        form=form,
        shard=shard,
        progress=progress,
        draw=how.draw,
    )
    run.certify(Path(output) / DRAFT, keep_key)
    return Path(output)


def _of_base(
    run: Run, n: int, classes: Classes, shard: tuple[int, int], sampling: Sampling
) -> dict[int, bytes]:
    """Draws the first images of the request with the public base alone.

    Returns:
        PNG by seed; empty where the base is not there any more, or cannot draw so: only the report
        wants them.
    """
    indices = shard_indices(n, shard)[: pictures_of_a_row(len(classes.names))]

    def more(number: int) -> None:
        nonlocal done
        done += number
        tell("drawing pictures of the public base", done, len(indices))

    done, told = 0, class_of_each(n, classes.shares)
    try:
        base = public_base(run)
        sampling = resolved(sampling, base)
        base.sampler(sampling.scheduler, sampling.steps)
        drawn = few_pictures(base, classes.prompts, told, indices, sampling, SECONDS / 2, more)
    except SfumatoError:
        return {}
    return {image_seed(sampling.seed, int(i)): marked_png(x) for i, x in zip(indices, drawn)}


def _encode(how: Signing) -> Callable[[np.ndarray], bytes]:
    """What makes a PNG of a picture: with the mark, and signed if that was asked for."""
    if how.pair is None:
        return marked_png
    from ..releases.credentials import Signatory

    return Signatory(*how.pair).png
