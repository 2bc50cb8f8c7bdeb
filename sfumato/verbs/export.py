"""`export`: the adapted model itself, with pictures of it beside its public base."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..bases import LORA_FILE, Base, pipeline_class, resolve_base
from ..errors import MachineError, ModelError, SfumatoError
from ..methods import METHODS
from ..methods.given import Drawing
from ..methods.prompts import Prompts
from ..options import Machine, Sampling, gather, takes
from ..privacy.ledger.entries import Released
from ..releases import (
    DRAFT,
    MOST_PICTURES,
    SAMPLE_TABLE,
    SAMPLES,
    TOKEN_ROWS,
    drawn_by,
    marked_png,
    write_draft,
)
from ..runs.attempts import require_sealed
from ..runs.facts import certificate_facts
from ..runs.folder import Run
from ..runs.preflight import lay_out_model
from ..runs.prepared import public_side
from ..synthesis.dataset import class_of_each
from ..synthesis.sampler import image_seed, resolved
from ..synthesis.samples import few_pictures
from .facts import adapted_base, public_base
from .keywords import MachineOptions
from .machine import computes

LEAST_PICTURES = 6  # of a row, whatever the number of classes
SECONDS = 300.0  # of all rows together


@takes(machine=Machine)
@computes
def export(
    run: Run | str | Path,
    output: str | Path,
    *,
    ledger: str | Path | None = None,
    keep_key: bool = False,
    samples: bool = True,
    progress: Callable[[str], None] = lambda line: None,
    **options: Unpack[MachineOptions],
) -> Path:
    """Copies the adapted model (LoRA file or pipeline folder) into a new folder for `release`.

    Beside it a few pictures, drawn by the model and by its public base from the same public
    prompts and seeds: for the report and the card. They cost no privacy, and no further one is
    begun after five minutes.

    Args:
        run: A finished run, or its folder.
        output: A new folder.
        ledger: Where the run's ledger is, if it was moved.
        keep_key: Do not erase the run's secret key afterwards.
        samples: Draw the pictures.
        progress: Called with a line for every stage.
        options: Fields of `Machine`, or one as `machine`: where the pictures are drawn.

    Returns:
        The folder.

    Raises:
        SfumatoError: The folder exists, or the base of the samples is not there.
        MachineError: It cannot be written.
    """
    gather({}, options)
    run = run if isinstance(run, Run) else Run.open(run, ledger)
    output = Path(output)
    if output.exists():
        raise SfumatoError(f"{output} already exists: name a new folder (nothing is overwritten)")
    if METHODS[run.plan.method].hands_over == "pictures" and not (run.model / LORA_FILE).exists():
        raise SfumatoError(
            f"a run of --method {run.plan.method} trained no model: `sfumato synthesize` writes its"
            " pictures (--fine-tune of adapt would train one on them, at no cost)"
        )
    require_sealed(run)
    run.record(Released(sort="model"))
    temporary = output.with_name(f".{output.name}.part")
    try:
        lay_out_model(run.model, temporary, Prompts.of(run.options["prompts"]))
        beside = _draw(run, temporary, progress) if samples else _controls(run)
        write_draft(
            temporary,
            certificate_facts(run, keep_key=keep_key),
            artefacts="model",
            controls=beside,
            pipeline=_pipeline(run),
            place=str(run.ledger_path),
            run_folder=str(run.folder),
        )
        temporary.rename(output)
    except OSError as error:
        raise MachineError(
            f"cannot write {output}: {error.strerror}; free some space or choose another disk"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    run.certify(output / DRAFT, keep_key)
    return output


def pictures_of_a_row(classes: int) -> int:
    """How many pictures a report shows of a model, or of its public base."""
    return min(MOST_PICTURES, max(LEAST_PICTURES, classes))


def _controls(run: Run) -> dict[str, Any] | None:
    """What a report shows beside a token, in figures alone; None for another method."""
    public = public_side(run)
    return public and public.method.report_controls(public, run.model)


def _pipeline(run: Run) -> str | None:
    """The class of its base in diffusers; None where the base is not there any more."""
    try:
        return pipeline_class(resolve_base(run.plan.base))
    except SfumatoError:
        return None


def _draw(run: Run, folder: Path, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """Writes the samples into `folder`; returns what `_controls` does."""
    plan = run.plan
    n = pictures_of_a_row(len(plan.classes))
    shares = [1 / len(plan.classes)] * len(plan.classes)
    labels, beside = class_of_each(n, shares), None
    try:
        public = public_side(run)
        base = adapted_base(run)
    except SfumatoError as error:
        raise ModelError(f"{error}, or export with --no-samples") from None
    if public is None:
        rows, sampling = _two_rows(run, base, labels, progress)
    else:
        progress("drawing the token beside its controls")
        sampling = resolved(Sampling(), base)
        drawing = Drawing(base, n, shares, (0, 1), sampling, SECONDS)
        beside = public.method.report_controls(public, run.model, drawing)
        drawn: dict[str, list[str]] = {} if beside is None else beside.pop("pictures", {})
        rows = {TOKEN_ROWS[name]: list(map(base64.b64decode, row)) for name, row in drawn.items()}
    prompts = [plan.prompts[int(label)] for label in labels.tolist()]
    write_samples(folder, rows, prompts, sampling, pipeline_class(base.info.folder))
    return beside


def _two_rows(
    run: Run, adapted: Base, labels: np.ndarray, progress: Callable[[str], None]
) -> tuple[dict[str, list[bytes]], Sampling]:
    """Pictures of the adapted model, and as many of its public base; and how they were drawn."""
    own = Sampling(scheduler=adapted.own_sampler, steps=50)
    drawn: dict[str, list[np.ndarray]] = {}

    def row(name: str, base: Base, count: int, sampling: Sampling, seconds: float | None) -> None:
        done = 0

        def more(number: int) -> None:
            nonlocal done
            done += number
            progress(f"drawing samples of {name}: {done} of at most {count}")

        drawn[name] = few_pictures(
            base, run.plan.prompts, labels, np.arange(count), sampling, seconds, more
        )

    sampling = resolved(Sampling(), adapted)
    try:
        row("the adapted model", adapted, len(labels), sampling, SECONDS / 2)
    except MachineError:
        raise
    except SfumatoError:  # as in the trial before the charge: the base's own sampler does
        sampling = own
        row("the adapted model", adapted, len(labels), sampling, SECONDS / 2)
    row("the public base", public_base(run), len(drawn["the adapted model"]), sampling, None)
    found = [list(map(marked_png, images)) for images in drawn.values()]
    return dict(zip(("adapted", "base"), found)), sampling


def write_samples(
    folder: Path,
    rows: Mapping[str, Sequence[bytes]],
    prompts: Sequence[str],
    sampling: Sampling,
    pipeline: str | None,
) -> None:
    """Writes PNG files and a table that says of each how anybody draws it again.

    Args:
        folder: The export.
        rows: Pictures as PNG by row, all in the same order.
        prompts: Of every picture of a row.
        sampling: How they were drawn.
        pipeline: The base's class in diffusers.
    """
    place = folder / SAMPLES
    place.mkdir()
    how = drawn_by(sampling.scheduler, sampling.steps, sampling.guidance_scale, pipeline)
    lines: list[str] = []
    for row, images in rows.items():
        for i, image in enumerate(images):
            name = f"{row}-{i:03d}.png"
            (place / name).write_bytes(image)
            seed = image_seed(sampling.seed, i)
            about = {"file_name": name, "prompt": prompts[i], "seed": seed, **how}
            lines.append(json.dumps(about, ensure_ascii=False) + "\n")
    (folder / SAMPLE_TABLE).write_text("".join(lines), encoding="utf-8")
