"""Everything after the charge, done once before it without a private pixel.

So what is paid for can be released.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bases import LODA_FILE, LORA_FILE, Base, embeds_files, load_base, write_kohya
from ..errors import MachineError, ModelError, SfumatoError
from ..methods import Prepared
from ..methods.adaptation import save_tokens
from ..methods.given import Drawing
from ..methods.prompts import Prompts
from ..options import Sampling
from ..privacy.ledger.entries import Charged
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import noisy_histogram
from ..releases import CertificateFacts, marked_png, prices_of, try_certificate, try_files
from ..synthesis.dataset import Classes, write_dataset
from ..training import write_file
from ..training.dummy import caption_bytes
from .folder import PRICES, Run
from .prepared import opened, shares_of

TRIAL = "trial"  # a folder inside the run's, removed at once
MARGIN = 64 << 20  # bytes for what is small: ledger, metrics, pages


def preflight(
    run: Run,
    prepared: Prepared[Any],
    images: int,
    facts: CertificateFacts,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> None:
    """Prices every field of the certificate, and tries what comes after training.

    The prices are kept in the run folder. Tried are the certificate with all its pages and checks,
    the one-shot noise, saving and opening the model (a second copy of the base, untrained, so that
    training's own stays as it is), the default sampler, the layout of a release, and the room on
    the disk. SfumatoError, before anything is charged.

    Args:
        run: The run.
        prepared: Plan, options and adaptation.
        images: How many private images there are.
        facts: What the certificate will be built from, as if the run were charged.
        on_stage: Called with a line for every stage.
    """
    on_stage("trying what follows the charge")
    try:
        choice = prepared.method.trial_selection(prepared) or facts.selection
        try_certificate(replace(facts, prices=keep_prices(run), selection=choice))
        _try_noise(prepared)
        _try_model(run, prepared, images)
    except SfumatoError:
        raise
    except OSError as error:
        raise MachineError(
            f"cannot write into the run folder ({error.strerror}): free some space or choose"
            " another disk"
        ) from error
    except Exception as error:
        raise ModelError(
            f"what this run would train could not be released ({type(error).__name__}), so it is"
            " not charged: take another base, method or option; --debug shows where"
        ) from error


def keep_prices(run: Run) -> dict[str, Any]:
    """The figures of the certificate that follow from the plan's events.

    Also written to the run folder. A ValueError becomes a SfumatoError.
    """
    plan = run.plan.to_json()
    if run.candidate:  # the first of a run that chooses its base has made them: all cost the same
        return json.loads((run.folder / PRICES).read_bytes())
    try:
        prices = prices_of(
            plan["events"], plan["delta"], plan["relation"], plan["grid"], plan["unit"]
        )
    except ValueError as error:
        raise SfumatoError(
            f"this plan cannot be certified, so it is not charged: {error}"
        ) from error
    write_file(run.folder / PRICES, json.dumps(prices, indent=1, allow_nan=False).encode())
    return prices


def _try_noise(prepared: Prepared[Any]) -> None:
    """Draws one-shot noise on zero sums, with a throw-away key of its own."""
    plan, key = prepared.plan, RunKey.generate()
    if plan.histogram_noise_multiplier is not None:
        nothing = np.zeros(len(plan.classes), np.int64)
        noisy_histogram(
            nothing, plan.histogram_noise_multiplier, key, max_per_unit=plan.max_per_unit
        )
    prepared.method.try_noise(plan, key)


def _try_model(run: Run, prepared: Prepared[Any], images: int) -> None:
    plan, method = prepared.plan, prepared.method
    # as they will be read again: what a resume builds from is tried, too
    kept = replace(prepared, options=run.options, start=run.start)
    with scratch(run.folder) as folder:
        method.untrained(kept).save(folder / "model")
        size = sum(path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file())
        require_room(run.folder, room_needed(prepared, images, size))
        if method.hands_over != "pictures" or (folder / "model" / LORA_FILE).exists():
            lay_out_model(folder / "model", folder / "export")
            try_files(folder / "export", "model")
        base = opened(run, folder / "model")
        _try_sampler(base, prepared, folder / "images")
        try_files(folder / "images", "images")
        drawing = Drawing(base, 1, shares_of(plan, None), (0, 1), Sampling())
        method.report_controls(prepared, folder / "model", drawing)


def _try_sampler(base: Base, prepared: Prepared[Any], out: Path) -> None:
    """Draws one image as `synthesize` does by default.

    If that is not finite, as the base's own scheduler does in 50 steps.
    """
    plan, last = prepared.plan, None
    own = Sampling(scheduler=base.own_sampler, steps=50)
    for sampling in (Sampling(), own):
        try:
            write_dataset(
                base,
                out,
                n=1,
                classes=Classes(plan.classes, plan.prompts, shares_of(plan, None)),
                sampling=replace(sampling, batch=1),
                encode=marked_png,
                seal=lambda folder, settings: None,
            )
            return
        except MachineError:
            raise
        except SfumatoError as error:
            last = error
    raise ModelError(
        f"no sampler draws an image from this base ({last}), so nothing is charged: take another"
        " base"
    )


def lay_out_model(model: Path, folder: Path, prompts: Prompts | None = None) -> None:
    """Copies what may leave of an adapted model: a pipeline folder, or adapters and tokens.

    A LoRA also under the names that other tools look for.

    Args:
        model: As a method has saved it.
        folder: A new folder.
        prompts: The run's own. Earlier versions kept class tokens in a pipeline beside the LoRA,
            which is merged in it: the LoRA leaves, with the tokens taken out of the pipeline.
    """
    merged = (model / "model_index.json").exists() and (model / LORA_FILE).exists()
    whole = (model / "model_index.json").exists() and not merged
    if whole:
        hidden = shutil.ignore_patterns("class_counts.json", LODA_FILE)
        shutil.copytree(model, folder / "model", ignore=hidden)
    else:
        folder.mkdir(parents=True)
    if merged:
        save_tokens(load_base(model), folder, prompts or Prompts(()))
    tokens = [path.name for path in embeds_files(model)]
    for name in (LODA_FILE,) if whole else (LORA_FILE, LODA_FILE, *tokens):
        if (model / name).exists():
            shutil.copy(model / name, folder / name)
    if (folder / LORA_FILE).exists():
        write_kohya(model, folder)


def room_needed(prepared: Prepared[Any], images: int, model_bytes: int) -> int:
    """Bytes that a run writes: latents, captions, what the method keeps, the model twice."""
    # rows of several sizes are kept in that of the largest
    latents = 2 * 2 * images * max(map(math.prod, prepared.base.latent_shapes))
    # one caption each, as how many there are is not public
    captions = images * caption_bytes(prepared.base) if prepared.plan.captions else 0
    kept = prepared.method.scratch_bytes(prepared, images)
    return latents + captions + kept + 2 * model_bytes + MARGIN


def require_room(folder: Path, needed: int) -> None:
    """MachineError unless the disk has room for the whole run."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"the run needs about {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f}: free"
            " some space or choose another disk"
        )


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for the trial, gone afterwards."""
    place = folder / TRIAL
    (place / "model").mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def kept_prices(run: Run) -> dict[str, Any] | None:
    """The prices that were computed before the charge.

    None for a run from before they were kept, or if the file is not the charged one.
    """
    noted = [charge.prices for charge in run.ledger.entries(Charged)]
    try:
        blob = (run.folder / PRICES).read_bytes()
    except OSError:
        return None
    return json.loads(blob) if hashlib.sha256(blob).hexdigest() in noted else None
