"""From a user's words to a base, a plan and an adaptation; nothing here looks at a pixel."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..bases import bundled_bases, load_base
from ..errors import SfumatoError
from ..methods import METHODS, TOKEN_METHODS, Adaptation
from ..methods.prompts import TOKEN, choose_prompts
from ..privacy.plan import make_plan
from ..privacy.request import Request
from ..runs.prepared import Prepared, seeded
from ..training import Performance, Recipe
from .facts import PublicFacts, require_clear_units, require_list

CAPTIONS_SAID = "a prompt stands as a caption in the private table; the guarantee does not cover it"
# units from which a schedule of minutes gives way to one of most of an hour on two cores
MANY = 8192
DOUBTFUL_SAID = (
    "values of the unit column that may be spellings of one another count as different units, on"
    " the owner's word"
)
CLASSES_FOUND = (
    "the class list was read off the data and declared public by the owner; the guarantee is"
    " conditional on it"
)


def default_schedule(n_units: int, epsilon: float) -> dict[str, Any]:
    """Expected batch, steps and draws by data size and epsilon (see docs/results.md).

    Where noise rules, more draws of a record are worth their time; where it does not, more steps on
    more records are.
    """
    if n_units >= MANY:
        steps, draws = (150, 4) if epsilon < 3 else (250, 1)
        return {"expected_batch_size": 2048, "steps": steps, "noise_draws": draws}
    batch = int(min(1024, max(64, n_units // 4), n_units))
    return {"expected_batch_size": batch, "steps": 80 if epsilon < 3 else 90, "noise_draws": 1}


def default_ema_decay(steps: int) -> float:
    """The average of the weights looks back over the last 20 of a hundred steps and more, over 10
    of fewer.
    """
    return 0.95 if steps >= 100 else 0.9


def prepare(
    facts: PublicFacts,
    *,
    epsilon: float,
    delta: float | None = None,
    method: str = "attention",
    base: str = "glyphs",
    method_options: Mapping[str, Any] | None = None,
    prompt: str | Mapping[str, str] | None = None,
    init: Mapping[str, str] | None = None,
    embedder: bool | None = None,
    placeholder: str | None = None,
    initializer: str | None = None,
    expected_batch_size: int | None = None,
    steps: int | None = None,
    noise_draws: int | None = None,
    clip_norm: float = 0.05,
    clipping: str = "flat",
    relation: str = "zero-out",
    max_per_unit: int | None = None,
    histogram: float | None = None,
    retry_fraction: float = 0.0,
    allow_large_delta: bool = False,
    allow_doubtful_units: bool = False,
    recipe: Recipe | None = None,
    performance: Performance | None = None,
    seed: int = 0,
    tuning: str | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    scores: Sequence[float] | None = None,
) -> Prepared:
    """Load the base, apply the method, compose all mechanisms and calibrate the noise.

    `facts`: all that the plan may know of the private records. A class list that was read off the
    data is refused where it has classes of few units. Whether a prompt or `tuning` (what the
    certificate says of how settings were chosen) stands as a caption beside the records is checked
    where these are at hand (`inputs.prepare_as_asked`). `start`, `scores`: how adapters start and
    what the choice of matrices rests on, where public images said so (`runs.probe.with_public`).
    Raises SfumatoError; and TypeError for anything but `PublicFacts`, since records would do.
    """
    if type(facts) is not PublicFacts:
        raise TypeError("a plan follows from public facts alone: give PublicFacts.of(records)")
    if method not in METHODS:
        raise SfumatoError(
            f"--method {method}: choose {', '.join(METHODS)} (`sfumato methods` explains them)"
        )
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SfumatoError(f"--{name} {value}: must be a finite number above 0")
    require_list(facts)
    doubtful = require_clear_units(facts, allow_doubtful_units)
    recipe, performance = recipe or Recipe(), performance or Performance()
    opened = load_base(base)
    if method in TOKEN_METHODS:
        embedder, placeholder = True if embedder is None else embedder, placeholder or TOKEN
        init = dict.fromkeys(facts.classes, initializer) if initializer else init
    prompts = choose_prompts(
        opened,
        facts.classes,
        prompt=prompt,
        init=init,
        embedder=embedder,
        placeholder=placeholder,
    )
    precision = {"bfloat16": torch.bfloat16, "float32": torch.float32}[performance.precision]
    try:
        public = {"start": start} if start else {}
        with seeded(seed):
            adaptation = METHODS[method](
                opened, prompts, precision=precision, **(method_options or {}), **public
            )
    except TypeError as error:
        raise SfumatoError(
            f"--method {method} does not take one of the options given: {error}"
        ) from error
    if relation == "add-remove":
        raise SfumatoError(
            "--relation add-remove would keep n secret, which plan and release print: use zero-out,"
            " same noise"
        )
    if facts.unit_column == "record":
        # Plan and certificate would then promise one image, whose loss moves its unit's gradient by
        # up to 2 C.
        raise SfumatoError(
            "a unit column cannot be called 'record', the word for single images: rename the column"
        )
    if facts.unit_column and histogram is not None and max_per_unit is None:
        raise SfumatoError(
            "a histogram over units needs --max-per-unit, a public bound on the images counted per"
            " unit"
        )
    if recipe.learning_rate is None:
        recipe = dataclasses.replace(recipe, learning_rate=adaptation.learning_rate)
    chosen = {
        "expected_batch_size": expected_batch_size,
        "steps": steps,
        "noise_draws": noise_draws,
    }
    schedule = default_schedule(facts.n_units, epsilon) | {
        k: v for k, v in chosen.items() if v is not None
    }
    if recipe.ema_decay is None:
        recipe = dataclasses.replace(recipe, ema_decay=default_ema_decay(schedule["steps"]))
    inverting, aggregation = adaptation.inversion, None
    if inverting is not None:
        if steps is not None or noise_draws is not None or retry_fraction or clipping != "flat":
            raise SfumatoError(
                "--method inversion has no training steps: --inversion-steps and --inversion-draws"
                " say how one image is inverted"
            )
        schedule = {"expected_batch_size": expected_batch_size or facts.n_units, "steps": 1}
        schedule["noise_draws"] = inverting.inverter.recipe.draws
        aggregation, clip_norm = (
            inverting.aggregation(float(schedule["expected_batch_size"])),
            inverting.clip_norm,
        )
    probe = adaptation.probe
    if probe is not None:
        probe = dataclasses.replace(
            probe, expected_batch_size=min(probe.expected_batch_size, float(facts.n_units))
        )
    try:
        request = Request(
            method=method,
            unit=facts.unit_column or "record",
            n_units=facts.n_units,
            # Never read off the data: a declared bound, or what one training step can look at.
            max_per_unit=(
                1
                if not facts.unit_column
                else schedule["noise_draws"]
                if max_per_unit is None
                else max_per_unit
            ),
            classes=facts.classes,
            prompts=prompts.prompts,
            epsilon=epsilon,
            delta=min(1e-5, facts.n_units**-1.5) if delta is None else delta,
            **schedule,
            clip_norm=None if clipping.endswith("normalised") else clip_norm,
            clipping=clipping,
            clip_groups=adaptation.clip_group_count if clipping.startswith("per-group") else None,
            relation=relation,
            histogram_noise_multiplier=histogram,
            retry_fraction=retry_fraction,
            allow_large_delta=allow_large_delta,
            # A path is kept whole, so that the run can be resumed from anywhere; the certificate
            # shows its last part only.
            base=str(base) if base in bundled_bases() else str(Path(base).resolve()),
            base_digest=opened.digest,
            trainable=adaptation.most_trainable,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
            ema_decay=recipe.ema_decay,
            target_modules=adaptation.targets,
            rank=adaptation.rank,
            probe=probe,
            probe_share=adaptation.probe_share,
            aggregation=aggregation,
        )
        plan = make_plan(request)
    except ValueError as error:
        raise SfumatoError(str(error)) from error
    options = {
        "method_options": dict(method_options or {}),
        "prompts": {
            "prompts": list(prompts.prompts),
            "placeholders": list(prompts.placeholders),
            "initializers": list(prompts.initializers),
        },
        "recipe": asdict(recipe),
        "performance": asdict(performance),
        "seed": seed,
        "selection": (
            None if probe is not None else _selection(adaptation, method_options or {}, scores)
        ),
        "start": (
            None if not start else hashlib.sha256(safetensors.torch.save(dict(start))).hexdigest()
        ),
        "statements": {
            "opt_ins": ([CLASSES_FOUND] * facts.classes_found + [DOUBTFUL_SAID] * bool(doubtful)),
            "tuning": tuning,
        },
    }
    return Prepared(opened, adaptation, plan, recipe, performance, options, dict(start or {}))


def _selection(
    adaptation: Adaptation, method_options: Mapping, scores: Sequence[float] | None
) -> dict | None:
    """What the certificate says of a choice of matrices that cost nothing; None for methods that
    choose none.
    """
    if not adaptation.groups:
        return None
    chosen = [
        group for group, members in adaptation.groups.items() if members[0] in adaptation.targets
    ]
    how = (
        "all" if len(chosen) == len(adaptation.groups) else method_options.get("choose", "private")
    )
    return {
        "how": how,
        "groups": list(adaptation.groups),
        "selected": chosen,
        "scores": scores and list(scores),
    }
